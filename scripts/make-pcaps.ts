/** Records what real programs send. Each entry is one file of pcaps/ and one line of its README. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Lab, ROOT } from '../test/support/lab.js';

const OUT = join(ROOT, 'pcaps');
const lab = await Lab.up();
const made: string[] = [];

async function record(name: string, how: string, filter: string, device: string, work: () => Promise<unknown>, ...options: string[]): Promise<void> {
  const file = join(OUT, name);
  const writer = name.endsWith('ng')
    ? await lab.start('wl', ['dumpcap', '-q', '-i', device, '-f', filter, '-w', file, ...options], /File:/)
    : await lab.start('wl', ['tcpdump', '-Z', 'root', '-i', device, '-s', '0', '--immediate-mode', '-U', ...options, '-w', file, filter], /listening on/);
  await work();
  await new Promise((resolve) => setTimeout(resolve, 300)); // the last packets are on their way to the file
  await writer.stop('SIGINT');
  made.push(`| ${name} | ${how} |`);
  console.log(name);
}

const wl = (...command: string[]): Promise<string> => lab.must('wl', ...command);
const offloads = async (state: 'on' | 'off'): Promise<void> => {
  for (const [host, device] of [['wl', 'eth0'], ['rtr', 'lan0'], ['rtr', 'net0'], ['net', 'eth0']] as const)
    await lab.must(host, 'ethtool', '-K', device, 'tso', state, 'gso', state, 'tx', state);
};

try {
  // A bridge stands where weir would.
  await lab.must('fwd', 'ip', 'link', 'add', 'br0', 'type', 'bridge', 'mcast_snooping', '0');
  for (const device of ['in0', 'out0', 'br0']) await lab.must('fwd', 'ip', 'link', 'set', device, 'up');
  for (const device of ['in0', 'out0']) await lab.must('fwd', 'ip', 'link', 'set', device, 'master', 'br0');
  writeFileSync(join(lab.directory, 'page'), Buffer.alloc(150_000, 'All that is gold does not glitter. '));
  writeFileSync(join(lab.directory, 'dns.conf'), 'no-resolv\nno-hosts\nlocal=/#/\naddress=/weir.test/192.0.2.53\naddress=/weir.test/2001:db8::53\nuser=root\npid-file=\n');
  for (const host of ['net', 'rtr']) await lab.start(host, ['python3', '-u', '-m', 'http.server', '8080', '--bind', '::', '--directory', lab.directory], /Serving HTTP/);
  await lab.start('net', ['dnsmasq', '--keep-in-foreground', `--conf-file=${join(lab.directory, 'dns.conf')}`, '--log-facility=-'], /started/);
  await lab.start('net', ['iperf3', '-s', '--forceflush'], /Server listening/);

  const page = (host: string): Promise<string> => wl('curl', '--max-time', '20', '-sSo', '/dev/null', `http://${host}:8080/page`);
  await record('arp-ndp.pcap', 'address resolution of a first `ping` over IPv4 and IPv6', 'arp or icmp6', 'eth0', async () => {
    await wl('ping', '-c1', '10.1.0.1');
    await wl('ping', '-c1', 'fd01::1');
  });
  await record('curl-offloads.pcap', '`curl` of 150 kB with offloads on: super-frames and partial checksums', 'tcp', 'eth0', () => page('10.2.0.2'));
  await record('curl-ipv6.pcap', 'the same over IPv6', 'tcp', 'eth0', () => page('[fd02::2]'));
  await record('cooked-v1.pcap', '`tcpdump -i any -y LINUX_SLL` of `curl` and `ping`', 'tcp or icmp', 'any', async () => {
    await page('10.2.0.2');
    await wl('ping', '-c2', '-i0.2', '10.2.0.2');
  }, '-y', 'LINUX_SLL');
  await record('cooked-v2.pcap', 'the same with `-y LINUX_SLL2`', 'tcp or icmp', 'any', async () => {
    await page('10.2.0.2');
    await wl('ping', '-c2', '-i0.2', '10.2.0.2');
  }, '-y', 'LINUX_SLL2');
  await offloads('off');
  await record('curl.pcap', '`curl` of 150 kB with offloads off, as it is on a wire', 'tcp', 'eth0', () => page('10.2.0.2'));
  await record('iperf3-tcp.pcap', '`iperf3 -n 100K`, and `-R`', 'tcp', 'eth0', async () => {
    await wl('iperf3', '-c', '10.2.0.2', '-n', '100K');
    await wl('iperf3', '-c', '10.2.0.2', '-n', '100K', '-R');
  });
  await offloads('on');
  await record('iperf3-udp.pcap', '`iperf3 -u -b 2M -n 60K -l 1200`', 'udp or tcp', 'eth0', () => wl('iperf3', '-c', '10.2.0.2', '-u', '-b', '2M', '-n', '60K', '-l', '1200'));
  const names = async (): Promise<void> => {
    for (const [server, type] of [['10.2.0.2', 'A'], ['fd02::2', 'AAAA'], ['10.2.0.2', 'MX']] as const) await wl('dig', `@${server}`, 'weir.test', type);
    await wl('dig', '+tcp', '@10.2.0.2', 'weir.test');
  };
  await record('dns.pcap', '`dig` over UDP (IPv4, IPv6) and TCP, answered by dnsmasq', 'port 53', 'eth0', names);
  await record('dns.pcapng', 'the same, written by `dumpcap` as pcapng', 'port 53', 'eth0', names);
  await record('ping.pcap', '`ping` over IPv4 and IPv6, two of each at once', 'icmp or icmp6', 'eth0', async () => {
    await Promise.all(['10.2.0.2', '10.2.0.2', 'fd02::2', 'fd02::2'].map((server) => wl('ping', '-c3', '-i0.2', server)));
  });
  await record('fragments.pcap', '`ping -s 4000` over IPv4 and IPv6, `iperf3 -u -l 4000`', 'icmp or icmp6 or udp or (ip[6:2] & 0x1fff != 0) or ip6 proto 44', 'eth0', async () => {
    await wl('ping', '-c2', '-i0.2', '-s', '4000', '10.2.0.2');
    await wl('ping', '-c2', '-i0.2', '-s', '4000', 'fd02::2');
    await wl('iperf3', '-c', '10.2.0.2', '-u', '-b', '2M', '-n', '20K', '-l', '4000');
  });
  await record('icmp-errors.pcap', 'time exceeded (`ping -t 1`) and port unreachable (`dig` of a closed port), IPv4 and IPv6', 'icmp or icmp6 or udp', 'eth0', async () => {
    for (const server of ['10.2.0.2', 'fd02::2']) {
      await lab.exec('wl', 'ping', '-c1', '-W1', '-t', '1', server);
      await lab.exec('wl', 'dig', '+time=1', '+tries=1', '-p', '5353', `@${server}`, 'weir.test');
    }
  });
  await lab.vlan(7);
  await record('vlan.pcap', '`ping` and `curl` through VLAN 7 (tagged by test/support/tagger.py)', 'vlan', 'eth0', async () => {
    await wl('ping', '-c2', '-i0.2', '10.7.0.1');
    await page('10.7.0.1');
  });
  await lab.vlan(100, 200);
  await record('qinq.pcap', '`ping` and `curl` through VLAN 200 in service VLAN 100 (802.1ad)', 'vlan 100', 'eth0', async () => {
    await wl('ping', '-c2', '-i0.2', '10.100.0.1');
    await page('10.100.0.1');
  });
} finally {
  await lab.down();
}

/** The IP packets of an Ethernet capture under another link type: rewritten, since no program here records it. */
function rewrite(name: string, how: string, link: number, header: (version: number) => Buffer): void {
  const from = readFileSync(join(OUT, 'ping.pcap'));
  const parts = [Buffer.from(from.subarray(0, 24))];
  parts[0]?.writeUInt32LE(link, 20);
  for (let at = 24; at + 16 <= from.length; ) {
    const length = from.readUInt32LE(at + 8);
    const packet = from.subarray(at + 16 + 14, at + 16 + length);
    const body = Buffer.concat([header((packet[0] ?? 0) >> 4), packet]);
    const record = Buffer.from(from.subarray(at, at + 16));
    record.writeUInt32LE(body.length, 8);
    record.writeUInt32LE(body.length, 12);
    parts.push(record, body);
    at += 16 + length;
  }
  writeFileSync(join(OUT, name), Buffer.concat(parts));
  made.push(`| ${name} | ${how} |`);
  console.log(name);
}
const family = (version: number): Buffer => Buffer.from([version === 4 ? 2 : 30, 0, 0, 0]);
rewrite('raw-ip.pcap', 'ping.pcap without its Ethernet headers, link type RAW (rewritten by the script)', 101, () => Buffer.alloc(0));
rewrite('bsd-loopback.pcap', 'ping.pcap with BSD loopback headers, link type NULL (rewritten by the script: no BSD at hand)', 0, family);

writeFileSync(
  join(OUT, 'README.md'),
  `# Captures\n\nReal programs in weir's own lab (\`scripts/lab\`), recorded at the workload with a plain bridge where weir would stand.\n\`scripts/make-pcaps\` makes them again and writes this file.\n\n| file | how it was made |\n|---|---|\n${made.sort().join('\n')}\n`,
);
