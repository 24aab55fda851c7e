/** Boxes that know nothing of stamps, as people have them: bridging and routing firewalls (nftables), a transparent proxy (haproxy). */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Box } from '../support/boxes.js';
import { Lab, ROOT, SERVICES, must, until, type Running } from '../support/lab.js';

const MTU = 1500;
const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
const lab = await Lab.up();
t.teardown(() => lab.down());
const content = randomBytes(20_000_000);
writeFileSync(join(lab.directory, 'download'), content);
const server = (port: string): Promise<Running> => lab.start('net', ['python3', '-u', '-m', 'http.server', port, '--bind', '::', '--directory', lab.directory], /Serving HTTP/);
await Promise.all(['8080', '8081'].map(server));
await lab.nodes('pass', ['fw1', 'ids1']);

const ips = await Box.add(lab, 'ips');
await ips.wire('p0', 'b0');
await ips.wire('p1', 'b1');
await ips.bridge('b0', 'b1');
await ips.nft(`
table bridge f {
  counter seen {}
  counter blocked {}
  chain c {
    type filter hook forward priority 0;
    counter name seen
    tcp dport 8081 counter name blocked drop
  }
}`);
const rfw = await Box.add(lab, 'rfw');
await rfw.router(1, 'r0');
await rfw.nft(`
table inet f {
  counter new {}
  counter refused {}
  chain c {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    ct state new counter name new
    tcp dport 8081 counter name refused reject with tcp reset
    udp dport 9999 counter name refused reject with icmpx port-unreachable
    tcp dport 8080 accept
    meta l4proto { icmp, ipv6-icmp, udp } accept
  }
}`);
// Taken off a stream's chain and put back, it has missed what went by; by its own strict windows it would refuse the rest of the connection.
await rfw.must('sysctl', '-qw', 'net.netfilter.nf_conntrack_tcp_be_liberal=1');

const INSTANCES = {
  ips: '[{name: ips-1, attach: {in: p0, out: p1}}]',
  rfw: '[{name: rfw-1, attach: {via: 10.9.1.2}}]',
  firewall: `[{name: fw-1, address: ${SERVICES.fw1.address}}]`,
  ids: `[{name: ids-1, address: ${SERVICES.ids1.address}}]`,
};
let count = 0;
async function weir(t: Test, chain: readonly string[], { port = 'ring', encapsulation = 'nsh', instances = {}, workers = 2 }: { port?: 'ring' | 'pcap'; encapsulation?: string; instances?: Record<string, string>; workers?: number } = {}): Promise<Running> {
  const file = join(lab.directory, `proxied-${count++}.yaml`);
  const services = Object.entries({ ...INSTANCES, ...instances }).map(([name, list]) => `  ${name}: {instances: ${list}}`);
  writeFileSync(
    file,
    `underlay: {interface: und0}\ncaptures: [{name: web, in: in0, out: out0}]\nservices:\n${services.join('\n')}\nchains: {inspect: {services: [${chain.join(', ')}], encapsulation: ${encapsulation}}}\npolicies: [{name: all, match: {}, chain: inspect}]\nport: ${port}\nworkers: ${workers}\nstate_dir: ${lab.directory}/state-${count}\n`,
  );
  const running = await lab.start('fwd', [...WEIR, 'run', '--config', file, '--socket', lab.socket], /"msg":"ready"/);
  t.teardown(() => running.stop());
  if (port === 'pcap') await until('the pcap port to be past its first frames', async () => (await lab.exec('wl', 'ping', '-c', '2', '-i', '1', '-W', '1', '10.2.0.2')).stdout.includes(' 0% packet loss'));
  return running;
}

const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
async function download(address: string): Promise<boolean> {
  const got = join(lab.directory, 'got');
  const { code } = await lab.exec('wl', 'curl', '-sS', '--max-time', '60', '-o', got, `http://${address}:8080/download`);
  return code === 0 && sha256(readFileSync(got)) === sha256(content);
}
const curl = (url: string): ReturnType<Lab['exec']> => lab.exec('wl', 'curl', '-sS', '--max-time', '4', '-o', '/dev/null', url);
const dropped = async (): Promise<Record<string, number>> => (await lab.ask<{ dropped: Record<string, number> }>('stats')).dropped;

/** The longest frame of a capture, in bytes. */
async function longest(file: string): Promise<number> {
  return Math.max(...(await must(['tshark', '-n', '-r', file, '-T', 'fields', '-e', 'frame.len'])).trim().split('\n').map(Number));
}

for (const port of ['ring', 'pcap'] as const) {
  await t.test(`a bridging firewall on the ${port} port: everything goes through it, and what it drops is gone`, async (t) => {
    const running = await weir(t, ['ips'], { port });
    const before = await ips.counted();
    const seen = await lab.capture('ips', 'b0', 'tcp port 8080', 128);
    t.ok(await download('10.2.0.2'), 'IPv4');
    t.ok(await download('[fd02::2]'), 'IPv6');
    const file = await seen.stop();
    if (port === 'ring') t.ok((await longest(file)) > 10 * MTU, 'super-frames go through whole');
    t.match(await lab.ping('wl', '-s', '4000', '10.2.0.2'), / 0% packet loss/, 'fragments');
    t.equal((await curl('http://10.2.0.2:8081/')).code, 28, 'port 8081 does not answer');
    const after = await ips.counted();
    t.ok((after['seen'] ?? 0) - (before['seen'] ?? 0) > 100 && (after['blocked'] ?? 0) > (before['blocked'] ?? 0), JSON.stringify(after));
    // Each side of the stream is on its own side of the bridge, so that the bridge knows where to.
    const fdb = await ips.must('bridge', 'fdb', 'show', 'br', 'br0');
    const mac = async (host: string, device: string): Promise<string> => (await lab.must(host, 'cat', `/sys/class/net/${device}/address`)).trim();
    t.match(fdb, new RegExp(`${await mac('wl', 'eth0')} dev b0`));
    t.match(fdb, new RegExp(`${await mac('rtr', 'lan0')} dev b1`));
    t.equal((await running.stop()).code, 0);
  });

  await t.test(`a routing firewall on the ${port} port: it refuses connections itself, and its refusal arrives`, async (t) => {
    const running = await weir(t, ['rfw'], { port });
    const ttl = await lab.capture('net', 'eth0', 'tcp dst port 8080', 128);
    t.ok(await download('10.2.0.2'), 'IPv4');
    t.ok(await download('[fd02::2]'), 'IPv6');
    const ttls = await must(['tshark', '-n', '-r', await ttl.stop(), '-Y', 'ip', '-T', 'fields', '-e', 'ip.ttl']);
    t.strictSame([...new Set(ttls.trim().split('\n'))], ['62'], 'two routers on the way: the firewall and the labs own');
    t.match(await lab.ping('wl', '-s', '4000', '10.2.0.2'), / 0% packet loss/, 'fragments, put together and cut again by the firewall');
    for (const host of ['10.2.0.2', '[fd02::2]']) t.equal((await curl(`http://${host}:8081/`)).code, 7, `${host}: connection refused at once`);
    const ask = `import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(2); s.connect(('10.2.0.2',9999))\nfor i in range(10):\n try: s.send(b'x'); s.recv(1)\n except TimeoutError: continue\n except ConnectionRefusedError: print('refused'); break`;
    t.equal((await lab.exec('wl', 'python3', '-c', ask)).stdout, 'refused\n', 'ICMP port unreachable');
    t.ok(((await rfw.counted())['refused'] ?? 0) >= 3);
    t.equal((await running.stop()).code, 0);
  });
}

for (const encapsulation of ['nsh', 'geneve']) {
  await t.test(`${encapsulation}: stamped and plain instances on one chain, under load, with a change in the middle`, async (t) => {
    const running = await weir(t, ['firewall', 'ips', 'rfw', 'ids'], { encapsulation });
    t.ok(await download('10.2.0.2'), 'IPv4');
    t.ok(await download('[fd02::2]'), 'IPv6');
    const before = (await lab.ask<{ chains: { bytes: number }[] }>('stats')).chains[0]?.bytes ?? 0;
    const got = join(lab.directory, 'got');
    const slow = await lab.start('wl', ['curl', '-sS', '--max-time', '200', '--limit-rate', '1500k', '-o', got, 'http://10.2.0.2:8080/download']);
    const bytes = async (): Promise<number> => (await lab.ask<{ chains: { bytes: number }[] }>('stats')).chains[0]?.bytes ?? 0;
    await until('the download to be under way', async () => (await bytes()) > before + 1_000_000);
    for (const chain of ['ips,ids', 'firewall,ips,rfw,ids']) t.equal((await lab.ctl('chain', 'set', 'inspect', ...chain.split(','), '--existing', 'move')).code, 0, chain);
    t.equal(slow.child.exitCode, null, 'the download is still running');
    t.equal((await slow.ended).code, 0);
    t.equal(sha256(readFileSync(got)), sha256(content));
    const services = await lab.ask<{ name: string; instances: { sent: { packets: number }; received: { packets: number } }[] }[]>('services');
    for (const { name, instances } of services) t.ok((instances[0]?.sent.packets ?? 0) > 1000 && (instances[0]?.received.packets ?? 0) > 1000, `${name} had its share`);
    t.equal((await running.stop()).code, 0);
  });
}

await t.test('instances that share interfaces, told by VLAN', async (t) => {
  const running = await weir(t, ['ips'], { instances: { ips: '[{name: ips-1, attach: {in: p0, out: p1, vlan: 101}}, {name: ips-2, attach: {in: p0, out: p1, vlan: 102}}]' } });
  await ips.nft(`
table bridge v {
  counter vlan101 {}
  counter vlan102 {}
  counter other {}
  chain c {
    type filter hook forward priority 1;
    vlan id 101 counter name vlan101 accept
    vlan id 102 counter name vlan102 accept
    counter name other
  }
}`);
  t.teardown(() => ips.must('nft', 'delete', 'table', 'bridge', 'v'));
  // A packet socket sends no tagged frame longer than the MTU and the tag of an untagged one: the box may take more.
  const pings = await Promise.all(Array.from({ length: 24 }, () => lab.ping('wl', '-c', '2', '10.2.0.2')));
  t.strictSame(pings.filter((said) => !/ 0% packet loss/.test(said)), [], JSON.stringify(await dropped()));
  t.ok(await download('10.2.0.2'));
  const { vlan101 = 0, vlan102 = 0, other } = await ips.counted();
  t.ok(vlan101 > 0 && vlan102 > 0, `${vlan101} and ${vlan102} frames`);
  t.equal(other, 0);
  t.equal((await running.stop()).code, 0);
});

await t.test('haproxy as a transparent proxy: it ends each connection and opens its own as the client', async (t) => {
  const hap = await Box.add(lab, 'hap');
  await hap.router(2, 'r1');
  await hap.nft(`
table inet m {
  chain c {
    type filter hook prerouting priority mangle;
    meta l4proto tcp socket transparent 1 meta mark set 1 accept
    meta nfproto ipv4 tcp dport 8080 tproxy ip to :3129 meta mark set 1 accept
  }
}`);
  await hap.must('ip', 'rule', 'add', 'fwmark', '1', 'lookup', '100');
  await hap.must('ip', 'route', 'add', 'local', '0.0.0.0/0', 'dev', 'lo', 'table', '100');
  const file = join(lab.directory, 'haproxy.cfg');
  writeFileSync(
    file,
    `defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend f
  bind 0.0.0.0:3129 transparent
  http-request deny deny_status 403 if { path /blocked }
  http-response add-header X-Box haproxy
  default_backend b
backend b
  source 0.0.0.0 usesrc client
  server origin 0.0.0.0
`,
  );
  const proxy = await hap.start(['haproxy', '-db', '-f', file]);
  t.teardown(() => proxy.stop());
  await until('haproxy to listen', async () => (await hap.must('ss', '-Hltn')).includes(':3129'));
  const running = await weir(t, ['haproxy', 'ids'], { instances: { haproxy: '[{name: hap-1, attach: {via: 10.9.2.2}}]' } });
  t.ok(await download('10.2.0.2'), 'through the proxy');
  const headers = await lab.exec('wl', 'curl', '-sS', '-I', '--max-time', '5', 'http://10.2.0.2:8080/download');
  t.match(headers.stdout, /x-box: haproxy/i, 'it has read and changed the answer');
  const blocked = await lab.exec('wl', 'curl', '-sS', '--max-time', '5', '-w', '%{http_code}', '-o', '/dev/null', 'http://10.2.0.2:8080/blocked');
  t.equal(blocked.stdout, '403', 'its own page arrives');
  const seen = await lab.capture('net', 'eth0', 'tcp dst port 8080', 128);
  t.equal((await curl('http://10.2.0.2:8080/download')).code, 0);
  const sources = await must(['tshark', '-n', '-r', await seen.stop(), '-T', 'fields', '-e', 'ip.src']);
  t.strictSame([...new Set(sources.trim().split('\n'))], ['10.1.0.2'], 'the server sees the client');
  t.equal((await running.stop()).code, 0);
});

await t.test('a box that opens connections of its own: dropped, counted, told once', async (t) => {
  const running = await weir(t, ['rfw']);
  const ask = `import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\nfor i in range(50): s.sendto(b'x',('10.2.0.2',7000+i))`;
  await rfw.must('python3', '-c', ask);
  await until('them to be counted', async () => ((await dropped())['proxy_no_stream'] ?? 0) >= 50);
  await until('it to be told', () => /proxy_no_stream|opens connections of its own/.test(running.output()));
  t.equal((await running.stop()).code, 0);
  t.equal(running.output().split('connections of its own').length, 2, 'once');
});
