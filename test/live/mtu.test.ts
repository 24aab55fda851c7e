/**
 * A workload with an MTU of 1500 over underlays that carry no more than that, or less: everything works, or its sender is told the right
 * next-hop MTU; nothing disappears in silence. The underlay's MTU changes while weir runs.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { unaccounted, type Accounts } from '../support/accounts.js';
import { kernelLoss } from '../support/kernel-loss.js';
import { Lab, must, until } from '../support/lab.js';

const lab = await Lab.up();
t.teardown(() => lab.down());
const content = randomBytes(3_000_000);
writeFileSync(join(lab.directory, 'download'), content);
await lab.nodes('pass', ['fw1', 'fw2', 'ids1', 'ids2']);
await lab.start('net', ['python3', '-u', '-m', 'http.server', '8080', '--bind', '::', '--directory', lab.directory], /Serving HTTP/);

const UNDERLAY = [['fwd', 'und0'], ['fw1', 'eth0'], ['fw2', 'eth0'], ['ids1', 'eth0'], ['ids2', 'eth0'], ['ur', 'eth0'], ['ur', 'eth1'], ...[0, 1, 2, 3, 4].map((port) => ['sw', `p${port}`] as const), ['sw', 'br0']] as const;
/** What stands before an inner IP packet within the underlay's IPv4 packet (docs/wire.md). */
const OVERHEAD = { nsh: 20 + 8 + 8 + 16 + 14, geneve: 20 + 8 + 40 } as const;
const IPV6_MORE = 20;

const stats = (): Promise<Accounts> => lab.ask<Accounts>('stats');

/** The kernel remembers what it was told of a path. */
async function forget(): Promise<void> {
  await lab.must('wl', 'ip', 'route', 'flush', 'cache');
  await lab.must('wl', 'ip', '-6', 'route', 'flush', 'cache');
  await lab.must('net', 'ip', '-6', 'route', 'flush', 'cache');
}
async function download(server: string): Promise<boolean> {
  const got = join(lab.directory, 'got');
  const { code } = await lab.exec('wl', 'curl', '-sS', '--max-time', '60', '-o', got, `http://${server}:8080/download`);
  return code === 0 && createHash('sha256').update(readFileSync(got)).digest('hex') === createHash('sha256').update(content).digest('hex');
}
const ping = async (...how: string[]): Promise<string> => {
  const { stdout, stderr } = await lab.exec('wl', 'ping', '-W', '2', '-i', '0.5', ...how);
  return stdout + stderr;
};

/** `lost`: without what the kernel lost by itself; null where iperf3 could not send. */
async function udpWithoutFragments(length: number): Promise<{ said: string; lost: number | null }> {
  const server = await lab.start('net', ['iperf3', '-s', '-1', '--forceflush'], /Server listening/);
  const kernelLost = await kernelLoss(lab, length);
  const { stdout, stderr } = await lab.exec('wl', 'iperf3', '-c', '10.2.0.2', '-u', '--dont-fragment', '-l', String(length), '-b', '2M', '-t', '2', '-J');
  await server.stop();
  const { end, error } = JSON.parse(stdout) as { end?: { sum?: { lost_packets: number } }; error?: string };
  const lost = end?.sum?.lost_packets;
  return { said: `${error ?? ''}${stderr}`, lost: lost === undefined ? null : Math.max(0, lost - (await kernelLost())) };
}

for (const encapsulation of ['nsh', 'geneve'] as const) {
  await t.test(encapsulation, async (t) => {
    const weir = await lab.weir({ encapsulation });
    t.teardown(() => weir.stop());
    for (const mtu of [1500, 1450]) {
      for (const [host, device] of UNDERLAY) await lab.must(host, 'ip', 'link', 'set', device, 'mtu', String(mtu));
      await until('weir to know the MTU', async () => (await lab.ask<{ underlay: { mtu: number } }>('status')).underlay.mtu === mtu, 30_000);
      await until('traffic', async () => (await ping('-c', '1', '10.2.0.2')).includes(' 0% packet loss'), 30_000);
      await forget();
      const limit = mtu - OVERHEAD[encapsulation];
      const what = `${encapsulation} over ${mtu}`;
      const before = await stats();
      // Who answers the workload is told, too.
      const told = await Promise.all([['wl', 'eth0'], ['rtr', 'lan0']].map(([host = '', device]) => lab.capture(host, device, '(icmp and icmp[0] == 3 and icmp[1] == 4) or (icmp6 and ip6[40] == 2)')));
      const syns = await lab.capture('net', 'eth0', 'tcp[tcpflags] & tcp-syn != 0 or (ip6 and ip6[6] == 6 and ip6[53] & 2 != 0)');

      t.ok(await download('10.2.0.2'), `${what}: curl`);
      t.ok(await download('[fd02::2]'), `${what}: curl over IPv6`);
      // Segments that fit every instance, also one that is reached over IPv6.
      const offered = (await must(['tshark', '-n', '-r', await syns.stop(), '-Y', 'tcp.flags.syn == 1 && tcp.flags.ack == 0', '-T', 'fields', '-e', 'ip.version', '-e', 'ipv6.version', '-e', 'tcp.options.mss_val'])).trim().split('\n').map((line) => line.split('\t'));
      t.strictSame([...new Set(offered.map(([four, , mss]) => `${four === '4' ? 'IPv4' : 'IPv6'} ${mss}`))].sort(), [`IPv4 ${limit - IPV6_MORE - 40}`, `IPv6 ${limit - IPV6_MORE - 60}`], `${what}: the MSS is clamped`);

      t.match(await ping('-c', '2', '-M', 'do', '-s', '1472', '10.2.0.2'), new RegExp(`Frag needed and DF set \\(mtu = ${limit}\\)|message too long, mtu=${limit}`), `${what}: ping -s 1472 -M do is told ${limit}`);
      t.match(await lab.ping('wl', '-M', 'do', '-s', String(limit - 28), '10.2.0.2'), / 0% packet loss/, `${what}: what fits goes through`);
      t.match(await ping('-c', '2', '-M', 'do', '-s', '1452', 'fd02::2'), new RegExp(`Packet too big: mtu=${limit}|message too long, mtu: ?${limit}`), `${what}: ping -6 is told ${limit}`);
      t.match(await lab.ping('wl', '-M', 'do', '-s', String(limit - 48), 'fd02::2'), / 0% packet loss/, `${what}: what fits goes through over IPv6`);
      await forget();
      t.match(await lab.ping('wl', '-M', 'dont', '-s', '1472', '10.2.0.2'), / 0% packet loss/, `${what}: what may be fragmented is`);
      t.match(await lab.ping('wl', '-M', 'dont', '-s', '4000', '10.2.0.2'), / 0% packet loss/, `${what}: fragments are cut once more`);
      // Routers don't fragment IPv6: its sender is told, and does.
      await until('both sides to have been told', async () => (await ping('-c', '1', '-s', '4000', 'fd02::2')).includes(' 0% packet loss'), 30_000);
      t.match(await lab.ping('wl', '-s', '4000', 'fd02::2'), / 0% packet loss/, `${what}: fragments over IPv6`);

      t.match(await udpWithoutFragments(limit - 28), { lost: 0 }, `${what}: iperf3 -u with DF, datagrams that fit`);
      await forget();
      const tooLong = await udpWithoutFragments(1472);
      t.match(tooLong.said, /[Mm]essage too long/, `${what}: with those that don't its sender is told`);
      await forget();

      // Each packet that was too long is one that its sender was told of, with the right MTU.
      await until('all packets to be accounted for', async () => unaccounted(await stats()) === 0, 30_000);
      const after = await stats();
      const dropped = Object.fromEntries(Object.entries(after.dropped).map(([reason, n]) => [reason, n - (before.dropped[reason] ?? 0)] as const).filter(([, n]) => n > 0));
      const answers = (await Promise.all(told.map(async ({ stop }) => must(['tshark', '-n', '-r', await stop(), '-T', 'fields', '-e', 'icmp.mtu', '-e', 'icmpv6.mtu'])))).flatMap((lines) => lines.split('\n')).filter((line) => line.trim() !== '');
      t.strictSame(Object.keys(dropped), ['too_big'], `${what}: nothing else was dropped`);
      t.equal(answers.length, dropped['too_big'], `${what}: as many were told as dropped`);
      t.ok(answers.every((line) => line.trim().split(/\s+/)[0] === String(limit)), `${what}: each of ${limit}: ${[...new Set(answers)].join(' ')}`);
    }
    for (const [host, device] of [...UNDERLAY].reverse()) await lab.must(host, 'ip', 'link', 'set', device, 'mtu', '1500');
    t.equal((await weir.stop()).code, 0);
  });
}

await t.test('an ICMP error follows the stream that it is about, through the same instances', async (t) => {
  const weir = await lab.weir();
  t.teardown(() => weir.stop());
  const watched = await Promise.all(['fw1', 'fw2', 'ids1'].map((host) => lab.capture(host)));
  const refused = (port: number): string => `import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('',${port})); s.settimeout(10); s.connect(('10.2.0.2',4444)); s.send(b'anybody?')\ntry: s.recv(100)\nexcept ConnectionRefusedError: print('refused')`;
  for (let i = 0; i < 4; i++) t.equal((await lab.must('wl', 'python3', '-c', refused(41_000 + i))).trim(), 'refused');
  const seen = await Promise.all(watched.map(async ({ stop }) => (await must(['tshark', '-n', '-r', await stop(), '-Y', 'udp.dstport == 4444', '-T', 'fields', '-e', 'nsh.metadata', '-e', 'icmp.type'])).trim().split('\n').filter((line) => line !== '')));
  const codes = (lines: readonly string[], error: boolean): string[] => [...new Set(lines.map((line) => line.split('\t')).filter(([, type]) => (type !== '') === error).map(([code = '']) => code))].sort();
  for (const [i, lines] of seen.entries()) t.strictSame(codes(lines, true), codes(lines, false), `instance ${i}: errors of the streams that it has, with their codes`);
  t.equal(codes([...(seen[0] ?? []), ...(seen[1] ?? [])], true).length, 4, 'each of the four by one of the firewalls');
  t.equal((await lab.ask<{ flows: unknown[] }>('flows', { protocol: 'udp' })).flows.length, 4, 'and no stream of their own');
  await weir.stop();
});
