/** Interfaces that go down, vanish and come back, addresses and neighbours that change, other underlays: weir follows and goes on. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Lab, ROOT, must, until } from '../support/lab.js';

const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
const lab = await Lab.up();
t.teardown(() => lab.down());
const content = randomBytes(5_000_000);
writeFileSync(join(lab.directory, 'download'), content);
await lab.start('net', ['python3', '-u', '-m', 'http.server', '8080', '--bind', '::', '--directory', lab.directory], /Serving HTTP/);
const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
const space = (host: string): string => `${lab.prefix}-${host}`;

async function download(server = '10.2.0.2'): Promise<boolean> {
  const got = join(lab.directory, 'got');
  const { code } = await lab.exec('wl', 'curl', '-sS', '--max-time', '20', '-o', got, `http://${server}:8080/download`);
  return code === 0 && sha256(readFileSync(got)) === sha256(content);
}
const pings = async (server = '10.2.0.2'): Promise<boolean> => (await lab.exec('wl', 'ping', '-c', '1', '-W', '1', server)).code === 0;
const works = (what: string): Promise<void> => until(what, () => pings());

/** The workload's cable, as scripts/lab lays it. */
async function layWorkload(): Promise<void> {
  await must(['ip', 'link', 'add', 'eth0', 'netns', space('wl'), 'type', 'veth', 'peer', 'name', 'in0', 'netns', space('fwd')]);
  await lab.must('fwd', 'sysctl', '-qw', 'net.ipv6.conf.in0.disable_ipv6=1');
  await lab.must('fwd', 'ip', 'link', 'set', 'in0', 'up');
  await lab.must('wl', 'ip', 'link', 'set', 'eth0', 'up');
  await lab.must('wl', 'ip', 'addr', 'add', '10.1.0.2/24', 'dev', 'eth0');
  await lab.must('wl', 'ip', 'addr', 'add', 'fd01::2/64', 'dev', 'eth0', 'nodad');
  await lab.must('wl', 'ip', 'route', 'add', 'default', 'via', '10.1.0.1');
  await lab.must('wl', 'ip', '-6', 'route', 'add', 'default', 'via', 'fd01::1');
}

await t.test("a capture's interface is deleted and made again: weir says so and goes on", async (t) => {
  const weir = await lab.weir({ policies: 'policies: [{name: all, match: {}, action: pass}]' });
  t.teardown(() => weir.stop());
  await works('traffic');
  await lab.must('wl', 'ip', 'link', 'delete', 'eth0');
  await until('the loss to be told', () => /interface in0 is down \(the interface is gone\)/.test(weir.output()));
  await layWorkload();
  await until('the interface to be open again', () => /interface in0 is open again/.test(weir.output()));
  await works('traffic again');
  t.ok(await download());
  t.equal((await weir.stop()).code, 0);
});

await t.test('links that flap: down and up, carrier lost and found', async (t) => {
  const nodes = await lab.nodes('pass', ['fw1', 'fw2', 'ids1', 'ids2']);
  t.teardown(() => Promise.all(nodes.map((node) => node.stop())));
  const weir = await lab.weir();
  t.teardown(() => weir.stop());
  await works('traffic');
  for (const device of ['in0', 'out0', 'und0']) {
    const addresses = device === 'und0' ? ['10.20.0.1/24', 'fd20::1/64'] : [];
    for (let i = 0; i < 3; i++) {
      await lab.must('fwd', 'ip', 'link', 'set', device, 'down');
      await lab.must('fwd', 'ip', 'link', 'set', device, 'up');
    }
    // The kernel forgets IPv6 addresses and routes of an interface that is down.
    for (const address of addresses) await lab.exec('fwd', 'ip', 'addr', 'add', address, 'dev', device, ...(address.includes(':') ? ['nodad'] : []));
    if (device === 'und0') await lab.exec('fwd', 'ip', 'route', 'add', '10.21.0.0/24', 'via', '10.20.0.254');
    await works(`traffic after ${device} flapped`);
  }
  await lab.must('rtr', 'ip', 'link', 'set', 'lan0', 'down');
  await until('the lost carrier to be told', () => /interface out0 is down \(no carrier\)/.test(weir.output()));
  await lab.must('rtr', 'ip', 'link', 'set', 'lan0', 'up');
  await lab.exec('rtr', 'ip', 'addr', 'add', 'fd01::1/64', 'dev', 'lan0', 'nodad');
  await works('traffic after the carrier came back');
  t.ok(await download());
  t.equal((await weir.stop()).code, 0);
});

await t.test('after a flap frames of all lengths find the ring for them', async (t) => {
  // One worker's rings are one fanout group, in which a frame's length says whose it is by the order in which they joined.
  const weir = await lab.weir({ policies: 'policies: [{name: all, match: {}, action: pass}]', extra: 'workers: 1' });
  t.teardown(() => weir.stop());
  const handlers = (await lab.must('fwd', 'cat', '/proc/net/ptype')).split('\n').filter((line) => line.includes(' in0 '));
  t.equal(handlers.length, 1, 'the kernel runs one packet handler for a frame');
  for (const device of ['in0', 'out0', 'in0']) {
    await lab.must('fwd', 'ip', 'link', 'set', device, 'down');
    await lab.must('fwd', 'ip', 'link', 'set', device, 'up');
  }
  await works('traffic');
  const seen = await lab.capture('wl', 'eth0', 'tcp port 8080', 96);
  t.ok(await download());
  const lengths = (await must(['tshark', '-n', '-r', await seen.stop(), '-T', 'fields', '-e', 'frame.len'])).trim().split('\n').map(Number);
  const [short, middle, long] = [[0, 1800], [2200, 16_000], [16_500, Infinity]].map(([least = 0, most = 0]) => lengths.filter((length) => length >= least && length <= most).length);
  t.ok((short ?? 0) > 0 && (middle ?? 0) > 0 && (long ?? 0) > 0, `${short} short frames, ${middle} of middle length, ${long} long ones`);
  t.equal((await weir.stop()).code, 0);
});

await t.test('what the host itself sends on a captured interface is not captured', async (t) => {
  for (const workers of [1, 2]) {
    const weir = await lab.weir({ policies: 'policies: [{name: all, match: {}, action: pass}]', extra: `workers: ${workers}` });
    t.teardown(() => weir.stop());
    await works('traffic');
    const taken = async (): Promise<number> => (await lab.ask<{ ports: { interface: string; rxFrames: number }[] }>('stats')).ports.find((port) => port.interface === 'in0')?.rxFrames ?? NaN;
    const before = await taken();
    await lab.must('fwd', 'python3', '-c', 'import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("in0", 0)); [s.send(b"\\2" + bytes(10) + b"\\2" + b"\\x88\\xb5" + bytes(50)) for _ in range(1000)]');
    await works('traffic after it');
    const more = (await taken()) - before;
    t.ok(more < 500, `${workers} workers: ${more} frames more`);
    t.equal((await weir.stop()).code, 0);
  }
});

await t.test('the underlay gets another address, another MAC, another MTU, and is made anew', async (t) => {
  const nodes = await lab.nodes('pass', ['fw1', 'fw2', 'ids1', 'ids2']);
  t.teardown(() => Promise.all(nodes.map((node) => node.stop())));
  const weir = await lab.weir();
  t.teardown(() => weir.stop());
  await works('traffic');
  const underlay = async (): Promise<{ addresses: string[]; mtu: number }> => (await lab.ask<{ underlay: { addresses: string[]; mtu: number } }>('status')).underlay;

  await lab.must('fwd', 'ip', 'addr', 'add', '10.20.0.77/24', 'dev', 'und0');
  await lab.must('fwd', 'ip', 'addr', 'del', '10.20.0.1/24', 'dev', 'und0');
  await lab.exec('fwd', 'ip', 'addr', 'add', '10.20.0.77/24', 'dev', 'und0');
  await lab.exec('fwd', 'ip', 'route', 'add', '10.21.0.0/24', 'via', '10.20.0.254');
  await until('the new address', async () => (await underlay()).addresses.includes('10.20.0.77'));
  await works('traffic from another address');
  t.match(await lab.must('fwd', 'ss', '-Hlun'), /10\.20\.0\.77:4790/, 'the stamps ports are held there');

  await lab.must('fwd', 'ip', 'link', 'set', 'und0', 'address', '02:00:00:00:77:77');
  await works('traffic from another MAC');
  const seen = await lab.capture('fw1');
  await until('fw-1 to see it', async () => {
    await pings();
    const macs = await must(['tshark', '-n', '-r', seen.file, '-T', 'fields', '-e', 'eth.src']);
    return macs.includes('02:00:00:00:77:77') || (await lab.ask<{ instances: { name: string; sent: { packets: number } }[] }[]>('services')).every(({ instances }) => instances.every(({ name, sent }) => name !== 'fw-1' || sent.packets === 0));
  });
  await seen.stop();

  await lab.must('fwd', 'ip', 'link', 'set', 'und0', 'mtu', '1400');
  await until('the new MTU', async () => (await underlay()).mtu === 1400);
  t.ok(await download(), 'segments that fit the narrower underlay');

  // Made anew: another index, MAC and MTU.
  await lab.must('fwd', 'ip', 'link', 'delete', 'und0');
  await until('the loss to be told', () => /underlay: interface und0 is down \(the interface is gone\)/.test(weir.output()));
  await must(['ip', 'link', 'add', 'und0', 'netns', space('fwd'), 'type', 'veth', 'peer', 'name', 'p0', 'netns', space('sw')]);
  await must(['ip', '-n', space('sw'), 'link', 'set', 'p0', 'master', 'br0', 'up']);
  await lab.must('fwd', 'ip', 'link', 'set', 'und0', 'up');
  await lab.must('fwd', 'ip', 'addr', 'add', '10.20.0.1/24', 'dev', 'und0');
  await lab.must('fwd', 'ip', 'addr', 'add', 'fd20::1/64', 'dev', 'und0', 'nodad');
  await lab.must('fwd', 'ip', 'route', 'add', '10.21.0.0/24', 'via', '10.20.0.254');
  await works('traffic over the new underlay');
  t.ok(await download());
  t.equal((await weir.stop()).code, 0);
});

await t.test('an instance moves to another MAC: its gratuitous ARP is enough', async (t) => {
  const nodes = await lab.nodes('pass', ['fw1', 'ids1']);
  t.teardown(() => Promise.all(nodes.map((node) => node.stop())));
  const file = join(lab.directory, 'one.yaml');
  writeFileSync(file, `underlay: {interface: und0}\ncaptures: [{name: web, in: in0, out: out0}]\nservices:\n  firewall: {instances: [{name: fw-1, address: 10.20.0.11}]}\nchains: {inspect: [firewall]}\npolicies: [{name: all, match: {}, chain: inspect}]\nstate_dir: ${lab.directory}/state-one\n`);
  const weir = await lab.start('fwd', [...WEIR, 'run', '--config', file, '--socket', lab.socket], /"msg":"ready"/);
  t.teardown(() => weir.stop());
  await works('traffic');
  await lab.must('fw1', 'ip', 'link', 'set', 'eth0', 'address', '02:00:00:00:99:99');
  const announce = `import socket,struct; s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW); s.bind(('eth0',0)); m=bytes.fromhex('020000009999'); a=socket.inet_aton('10.20.0.11'); s.send(b'\\xff'*6+m+b'\\x08\\x06'+struct.pack('!HHBBH',1,0x800,6,4,2)+m+a+b'\\xff'*6+a)`;
  await lab.must('fw1', 'python3', '-c', announce);
  const seen = await lab.capture('fw1');
  await until('stamped frames to the new MAC', async () => {
    await pings();
    return (await must(['tshark', '-n', '-r', seen.file, '-T', 'fields', '-e', 'eth.dst'])).includes('02:00:00:00:99:99');
  });
  await seen.stop();
  await until('the move to be told', () => /instance firewall\/fw-1 \(10\.20\.0\.11\): neighbour moved/.test(weir.output()));
  t.ok(await download());
  t.equal((await weir.stop()).code, 0);
});

await t.test('an underlay with no IPv6 address but a link-local one, as most have', async (t) => {
  const nodes = await lab.nodes('pass', ['fw1', 'ids1']);
  t.teardown(() => Promise.all(nodes.map((node) => node.stop())));
  await lab.must('fwd', 'ip', 'address', 'replace', 'fe80::1/64', 'dev', 'und0', 'nodad');
  await lab.must('fwd', 'ip', 'address', 'del', 'fd20::1/64', 'dev', 'und0');
  t.teardown(() => lab.must('fwd', 'ip', 'address', 'add', 'fd20::1/64', 'dev', 'und0', 'nodad'));
  const weir = await lab.weir();
  await works('traffic');
  t.equal((await weir.stop()).code, 0);
});

await t.test('an IPv6 underlay, and jumbo frames', async (t) => {
  const start = (name: string, service: string, host: 'fw1' | 'ids1', address: string): ReturnType<Lab['start']> =>
    lab.start(host, [...WEIR, 'node', '--service', service, '--name', name, '--listen', address], /"msg":"ready"/);
  const nodes = await Promise.all([start('fw-1', 'firewall', 'fw1', 'fd20::11'), start('ids-1', 'ids', 'ids1', 'fd20::21')]);
  t.teardown(() => Promise.all(nodes.map((node) => node.stop())));
  for (const encapsulation of ['nsh', 'geneve']) {
    const file = join(lab.directory, `six-${encapsulation}.yaml`);
    writeFileSync(
      file,
      `underlay: {interface: und0}\ncaptures: [{name: web, in: in0, out: out0}]\nservices:\n  firewall: {instances: [{name: fw-1, address: "fd20::11"}]}\n  ids: {instances: [{name: ids-1, address: "fd20::21"}]}\nchains: {inspect: [firewall, ids]}\nencapsulation: ${encapsulation}\npolicies: [{name: all, match: {}, chain: inspect}]\nstate_dir: ${lab.directory}/state-six-${encapsulation}\n`,
    );
    const weir = await lab.start('fwd', [...WEIR, 'run', '--config', file, '--socket', lab.socket], /"msg":"ready"/);
    t.teardown(() => weir.stop());
    await works('traffic');
    t.ok(await download(), `${encapsulation}, IPv4 within`);
    t.ok(await download('[fd02::2]'), `${encapsulation}, IPv6 within`);
    // Room for whole frames of the workload behind a stamp.
    for (const [host, device] of [['fwd', 'und0'], ['fw1', 'eth0'], ['ids1', 'eth0'], ['sw', 'br0'], ['sw', 'p0'], ['sw', 'p2'], ['sw', 'p4']] as const) await lab.must(host, 'ip', 'link', 'set', device, 'mtu', '9000');
    await until('the new MTU', async () => (await lab.ask<{ underlay: { mtu: number } }>('status')).underlay.mtu === 9000);
    t.ok(await download(), `${encapsulation} in jumbo frames`);
    t.match(await lab.ping('wl', '-M', 'do', '-s', '1472', '10.2.0.2'), / 0% packet loss/, 'frames of full size need no cutting then');
    for (const [host, device] of [['fwd', 'und0'], ['fw1', 'eth0'], ['ids1', 'eth0'], ['sw', 'p0'], ['sw', 'p2'], ['sw', 'p4'], ['sw', 'br0']] as const) await lab.must(host, 'ip', 'link', 'set', device, 'mtu', '1500');
    t.equal((await weir.stop()).code, 0);
  }
});

for (const [what, ...words] of [
  ['that reports and is in a group', '--function', 'meter', '--group', '--report', '10.29.0.2:7777', '--report-key', 'KEY', '--health', '8000'],
  ['that is in a mesh', '--function', 'pass', '--mesh', '10.29.0.2', '--mesh-key', 'KEY'],
  ['that ends a chain', '--function', 'deliver', '--health', '8000'],
] as const) {
  await t.test(`a node ${what} loses its interface: it says so and ends, so that whoever watches it can start it anew`, async (t) => {
    const key = join(lab.directory, 'node.key');
    writeFileSync(key, randomBytes(32).toString('base64'), { mode: 0o600 });
    await lab.must('add1', 'ip', 'link', 'add', 'gone0', 'type', 'veth', 'peer', 'name', 'gone1');
    for (const device of ['gone0', 'gone1']) await lab.must('add1', 'ip', 'link', 'set', device, 'up');
    await lab.must('add1', 'ip', 'addr', 'add', '10.29.0.1/24', 'dev', 'gone0');
    const node = await lab.start('add1', [...WEIR, 'node', '--service', 'added', '--name', 'gone', '--listen', '10.29.0.1', ...words.map((word) => (word === 'KEY' ? key : word))], /"msg":"ready"/);
    await lab.must('add1', 'ip', 'link', 'delete', 'gone0');
    const late = setTimeout(() => node.child.kill('SIGKILL'), 20_000);
    const { code, stderr } = await node.ended;
    clearTimeout(late);
    t.equal(code, 1);
    t.match(stderr, /^interface gone0: it is gone$/m);
  });
}
