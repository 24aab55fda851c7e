/**
 * Two underlays with a switch each: instances of one service on both, chains over both, different MTUs, one that flaps, moves and is made
 * anew while the other goes on.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Lab, ROOT, must, until, type Running } from '../support/lab.js';
import { MEMBERS, addresses, layCable, layUnderlay, setMtu } from '../support/second-underlay.js';

const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
/** What stands before an inner IP packet within the underlay's packet, with NSH. */
const OVERHEAD = { ipv4: 20 + 8 + 24 + 14, ipv6: 40 + 8 + 24 + 14 } as const;

const lab = await Lab.up();
t.teardown(() => lab.down());
await layUnderlay(lab);
const content = randomBytes(3_000_000);
writeFileSync(join(lab.directory, 'download'), content);
for (const port of ['8080', '8081']) await lab.start('net', ['python3', '-u', '-m', 'http.server', port, '--bind', '::', '--directory', lab.directory], /Serving HTTP/);
const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

const node = (host: string, service: string, name: string, address: string): Promise<Running> =>
  lab.start(host, [...WEIR, 'node', '--service', service, '--name', name, '--listen', address, '--function', 'pass'], /"msg":"ready"/);
await lab.must('add1', 'ip', 'address', 'add', '10.30.0.41/24', 'dev', 'eth1');
await Promise.all([
  node('fw1', 'firewall', 'fw-a', '10.20.0.11'),
  node('add1', 'firewall', 'fw-b', '10.30.0.31'),
  node('ids1', 'ids', 'ids-a', '10.20.0.21'),
  node('add2', 'ids', 'ids-b', '10.30.0.32'),
  node('add1', 'wide', 'wide-b', '10.30.0.41'),
]);

const SERVICES = `services:
  firewall: {health: {probe: true, interval: 200ms, timeout: 200ms}, instances: [{name: fw-a, address: 10.20.0.11}, {name: fw-b, address: 10.30.0.31}]}
  ids: {health: {probe: true, interval: 200ms, timeout: 200ms}, instances: [{name: ids-a, address: 10.20.0.21}, {name: ids-b, address: 10.30.0.32}]}
  wide: {instances: [{name: wide-b, address: 10.30.0.41}]}`;
const UNDERLAYS = 'underlay: [{name: lan, interface: und0}, {name: dmz, interface: und1}]';

function configuration(name: string, body: string): string {
  const file = join(lab.directory, `${name}.yaml`);
  writeFileSync(file, `captures: [{name: web, in: in0, out: out0}]\nflows: {max: 100000}\ncontrol: {socket: ${lab.socket}}\nstate_dir: ${join(lab.directory, 'state')}\n${body}\n`);
  return file;
}
const BOTH = configuration('both', `${UNDERLAYS}\n${SERVICES}
chains: {inspect: [firewall, ids], open: [wide]}
policies: [{name: pings, priority: 1, match: {protocol: icmp}, chain: open}, {name: all, match: {}, chain: inspect}]`);

const weir = (file: string, ...more: string[]): Promise<Running> => lab.start('fwd', [...WEIR, 'run', '--fresh-flows', '--force-config', '--config', file, ...more], /"msg":"ready"/);

interface Status {
  readonly pid: number;
  readonly underlays: readonly { readonly name: string; readonly interface: string; readonly addresses: readonly string[]; readonly mtu: number }[];
}
interface Instance {
  readonly name: string;
  readonly state: string;
  readonly underlay: string | null;
  readonly sent: { readonly packets: number };
  readonly received: { readonly packets: number };
}
const underlay = async (name: string): Promise<Status['underlays'][number] | undefined> => (await lab.ask<Status>('status')).underlays.find((one) => one.name === name);
const instance = async (name: string): Promise<Instance | undefined> => (await lab.ask<{ instances: Instance[] }[]>('services')).flatMap(({ instances }) => instances).find((one) => one.name === name);

async function download(server = '10.2.0.2', port = 8080): Promise<boolean> {
  const got = join(lab.directory, `got-${port}`);
  const { code } = await lab.exec('wl', 'curl', '-sS', '--max-time', '20', '-o', got, `http://${server}:${port}/download`);
  return code === 0 && sha256(readFileSync(got)) === sha256(content);
}
/** Short connections, so that both instances of a service get some. */
const connects = async (n: number, port = 8080): Promise<boolean> => (await lab.exec('wl', 'sh', '-c', `for i in $(seq ${n}); do curl -sS --max-time 5 -o /dev/null -I http://10.2.0.2:${port}/download || exit 1; done`)).code === 0;
const ping = async (...how: string[]): Promise<string> => {
  const { stdout, stderr } = await lab.exec('wl', 'ping', '-W', '5', '-i', '1', ...how);
  return stdout + stderr;
};
const works = (what: string): Promise<void> => until(what, async () => (await ping('-c', '1', '10.2.0.2')).includes(' 0% packet loss') && (await connects(1)));
const lines = async (file: string, ...fields: string[]): Promise<string[][]> => (await must(['tshark', '-n', '-r', file, '-T', 'fields', ...fields.flatMap((field) => ['-e', field])])).split('\n').filter((line) => line !== '').map((line) => line.split('\t'));

/** Packets to the instances of each interface, and frames that they were in. */
async function sentBy(): Promise<{ device: string; cuts: boolean; sent: number; frames: number }[]> {
  const { ports, instances } = await lab.ask<{ ports: { interface: string; txFrames: number; cuts: boolean }[]; instances: { name: string; sent: { packets: number } }[] }>('stats');
  return ([['und0', ['firewall/fw-a', 'ids/ids-a']], ['und1', ['firewall/fw-b', 'ids/ids-b', 'wide/wide-b']]] as const).map(([device, names]) => {
    const port = ports.find((row) => row.interface === device);
    const sent = instances.filter(({ name }) => (names as readonly string[]).includes(name)).reduce((sum, row) => sum + row.sent.packets, 0);
    return { device, cuts: port?.cuts ?? true, sent, frames: port?.txFrames ?? 0 };
  });
}
const bothJoin = async (): Promise<boolean> => (await sentBy()).every(({ sent, frames }) => frames < sent);

await t.test('instances of each service on both underlays, found by the routes of the kernel; streams go over both', async (t) => {
  const running = await weir(BOTH);
  t.teardown(() => running.stop());
  await works('traffic');
  t.match((await lab.ask<Status>('status')).underlays, [{ name: 'lan', interface: 'und0' }, { name: 'dmz', interface: 'und1', mtu: 1500 }]);
  t.match([(await instance('fw-a'))?.underlay, (await instance('fw-b'))?.underlay, (await instance('ids-b'))?.underlay], ['lan', 'dmz', 'dmz']);
  const seen = [await lab.capture('fw1'), await lab.capture('add1', 'eth1'), await lab.capture('ids1'), await lab.capture('add2', 'eth1')];
  const captured = await lab.start('fwd', [...WEIR, 'capture', '--instance', 'firewall/fw-b', '--write', join(lab.directory, 'fw-b.pcap'), '--socket', lab.socket], /capturing firewall\/fw-b \(10\.30\.0\.31\) on und1/);
  t.ok(await connects(24));
  // Until either interface has had one of them.
  for (let i = 0; i < 6 || (i < 30 && !(await bothJoin())); i++) t.ok(await download(i % 2 === 0 ? '10.2.0.2' : '[fd02::2]'), 'what arrives is what was sent');
  const files = await Promise.all(seen.map(({ stop }) => stop()));
  for (const [i, own] of ['10.20.0', '10.30.0', '10.20.0', '10.30.0'].entries()) {
    const ways = await lines(files[i] ?? '', 'ip.src', 'ip.dst', 'udp.dstport');
    const outer = ways.map(([from = '', to = '']) => [from.split(',')[0], to.split(',')[0]]);
    t.ok(outer.length > 0, `${own} (${i}) has streams`);
    t.ok(outer.every(([from, to]) => (from?.startsWith(`${own}.`) ?? false) && (to?.startsWith(`${own}.`) ?? false)), 'by its own network only, there and back');
  }
  await captured.stop('SIGINT');
  t.ok((await lines(join(lab.directory, 'fw-b.pcap'), 'ip.src')).length > 0);
  for (const { device, cuts, sent, frames } of await sentBy()) {
    t.equal(cuts, false);
    t.ok(frames > 0 && frames < sent, `super-frames on ${device}: ${sent} packets in ${frames} frames`);
  }
  t.equal((await lab.ask<{ dropped: Record<string, number> }>('stats')).dropped['return_wrong_underlay'], 0);
  t.equal((await running.stop()).code, 0);
});

await t.test('a narrow underlay and one with jumbo frames: each stream is held to what its own path carries', async (t) => {
  await setMtu(lab, 9000);
  const running = await weir(BOTH);
  t.teardown(() => running.stop());
  t.equal((await underlay('lan'))?.mtu, 1500);
  t.equal((await underlay('dmz'))?.mtu, 9000);
  await works('traffic');
  t.match(await lab.ping('wl', '-M', 'do', '-s', '1472', '10.2.0.2'), / 0% packet loss/, 'over the wide one alone frames of full size need no cutting');
  const limit = 1500 - OVERHEAD.ipv4;
  t.match(await ping('-c', '2', '-M', 'do', '-s', '1452', 'fd02::2'), new RegExp(`Packet too big: mtu=${limit}|message too long, mtu: ?${limit}`), `whoever may meet the narrow one is told ${limit}, wherever his stream begins`);
  t.match(await lab.ping('wl', '-M', 'do', '-s', String(limit - 48), 'fd02::2'), / 0% packet loss/);
  for (let i = 0; i < 4; i++) t.ok(await download());
  await setMtu(lab, 1400);
  await until('the new MTU', async () => (await underlay('dmz'))?.mtu === 1400);
  t.equal((await underlay('lan'))?.mtu, 1500, 'of the one that changed');
  t.match(await ping('-c', '2', '-M', 'do', '-s', '1472', '10.2.0.2'), new RegExp(`mtu ?= ?${1400 - OVERHEAD.ipv4}`));
  for (let i = 0; i < 4; i++) t.ok(await download());
  await setMtu(lab, 1500);
  await lab.must('wl', 'ip', 'route', 'flush', 'cache');
  await lab.must('wl', 'ip', '-6', 'route', 'flush', 'cache');
  t.equal((await running.stop()).code, 0);
});

await t.test('one underlay flaps, gets another address and is made anew, while the other goes on', async (t) => {
  const running = await weir(BOTH);
  t.teardown(() => running.stop());
  await works('traffic');
  const [member] = MEMBERS;
  await lab.must('fwd', 'ip', 'link', 'set', 'und1', 'down');
  await until('the loss to be told', () => /underlay dmz: interface und1 is down \(the interface is down\)/.test(running.output()));
  await until('its instances to be down', async () => (await instance('fw-b'))?.state === 'down' && (await instance('ids-b'))?.state === 'down');
  await until('those of the other one to be up', async () => (await instance('fw-a'))?.state === 'up');
  for (let i = 0; i < 3; i++) t.ok(await download(), 'the other one carries everything');
  await lab.must('fwd', 'ip', 'link', 'set', 'und1', 'up');
  await addresses(lab, 'fwd', 'und1', member.last);
  await until('its instances to be up', async () => (await instance('fw-b'))?.state === 'up' && (await instance('ids-b'))?.state === 'up');
  await works('traffic over both');

  await lab.must('fwd', 'ip', 'address', 'add', '10.30.0.77/24', 'dev', 'und1');
  await lab.must('fwd', 'ip', 'address', 'del', '10.30.0.1/24', 'dev', 'und1');
  await lab.exec('fwd', 'ip', 'address', 'add', '10.30.0.77/24', 'dev', 'und1');
  await until('the new address', async () => (await underlay('dmz'))?.addresses.includes('10.30.0.77') === true);
  t.ok((await underlay('lan'))?.addresses.includes('10.20.0.1'));
  await works('traffic from another address');
  const held = await lab.must('fwd', 'ss', '-Hlun');
  for (const address of ['10.20.0.1', '10.30.0.77']) for (const port of [4790, 6081]) t.ok(held.includes(`${address}:${port}`), `${address}:${port} is held`);
  t.notOk(held.includes('10.30.0.1:'), 'that of the former address is free');

  await lab.must('fwd', 'ip', 'link', 'delete', 'und1');
  await until('the loss to be told', () => /underlay dmz: interface und1 is down \(the interface is gone\)/.test(running.output()));
  await until('its instances to be down', async () => (await instance('fw-b'))?.state === 'down');
  t.ok(await download(), 'the other one carries everything');
  await layCable(lab, member);
  await until('the interface to be open again', () => /interface und1 is open again/.test(running.output()));
  await until('its instances to be up', async () => (await instance('fw-b'))?.state === 'up' && (await instance('ids-b'))?.state === 'up');
  await works('traffic over the new one');
  t.ok(await connects(16));
  const before = (await instance('fw-b'))?.received.packets ?? 0;
  await until('streams to meet both again', async () => (await connects(8)) && ((await instance('fw-b'))?.received.packets ?? 0) > before);
  t.equal((await running.stop()).code, 0);
});

await t.test('an instance is on the underlay that it names, whatever the route says; one that no underlay leads to is told with its place', async (t) => {
  await lab.must('fwd', 'ip', 'route', 'add', '10.30.0.31/32', 'dev', 'und0');
  t.teardown(() => lab.exec('fwd', 'ip', 'route', 'del', '10.30.0.31/32', 'dev', 'und0'));
  const file = configuration('named', `${UNDERLAYS}
services:
  firewall: {instances: [{name: fw-b, address: 10.30.0.31, underlay: dmz}, {name: lost, address: 10.99.0.9}]}
chains: {inspect: [firewall]}
policies: [{name: all, match: {}, chain: inspect}]`);
  const running = await weir(file);
  t.teardown(() => running.stop());
  t.match(running.output(), /services\.firewall\.instances\[1\]: the kernel's route to 10\.99\.0\.9 \(firewall\/lost\) leads through no underlay \(und0, und1\)/);
  await works('traffic');
  t.equal((await instance('fw-b'))?.underlay, 'dmz');
  t.ok(await download());
  const { code, stdout } = await lab.exec('fwd', ...WEIR, 'doctor', '--socket', lab.socket);
  t.equal(code, 1);
  t.match(stdout, /instance firewall\/lost: the kernel's route to 10\.99\.0\.9 does not lead through und0 or und1 \(services\.firewall\.instances\[1\]\)/);
  t.equal((await running.stop()).code, 0);
});

await t.test('packets that come back by the other underlay are dropped, from whomever they say they are', async (t) => {
  const file = configuration('spoofed', `${UNDERLAYS}
services:
  firewall: {instances: [{name: fw-a, address: 10.20.0.11}]}
  ids: {instances: [{name: ids-b, address: 10.30.0.32}]}
chains: {inspect: [firewall, ids]}
policies: [{name: all, match: {}, chain: inspect}]`);
  const running = await weir(file);
  t.teardown(() => running.stop());
  await works('traffic');
  const back = await lab.capture('fwd', 'und0', 'src host 10.20.0.11 and udp port 4790');
  t.match(await lab.ping('wl', '-c', '1', '10.2.0.2'), / 0% packet loss/); // one: several come in one frame
  await back.stop();
  const bytes = readFileSync(back.file);
  const genuine = Buffer.from(bytes.subarray(40, 40 + bytes.readUInt32LE(32)));
  // Sent by a host of the other underlay, to the address that weir has there.
  Buffer.from((await lab.must('fwd', 'cat', '/sys/class/net/und1/address')).trim().replaceAll(':', ''), 'hex').copy(genuine, 0);
  Buffer.from((await lab.must('add1', 'cat', '/sys/class/net/eth1/address')).trim().replaceAll(':', ''), 'hex').copy(genuine, 6);
  genuine.writeUInt8(30, 31);
  genuine.writeUInt16BE(0, 24);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += genuine.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  genuine.writeUInt16BE(~sum & 0xffff, 24);
  const dropped = async (): Promise<number> => (await lab.ask<{ dropped: Record<string, number> }>('stats')).dropped['return_wrong_underlay'] ?? 0;
  const before = await dropped();
  const next = await lab.capture('add2', 'eth1');
  await must(lab.inside('add1', ['python3', join(ROOT, 'test/support/spoof.py'), 'frames', 'eth1']), `${genuine.toString('hex')}\n`.repeat(5));
  await until('all of them to be dropped', async () => (await dropped()) === before + 5);
  t.strictSame(await lines(await next.stop(), 'ip.src'), [], 'none of them goes on');
  t.equal((await running.stop()).code, 0);
});

await t.test('one underlay over IPv4, the other over IPv6: packets are held to what fits both', async (t) => {
  const six = await node('add1', 'firewall', 'fw-6', 'fd30::31');
  t.teardown(() => six.stop());
  const file = configuration('families', `${UNDERLAYS}
services: {ids: {instances: [{name: ids-a, address: 10.20.0.21}]}, firewall: {instances: [{name: fw-6, address: "fd30::31"}]}}
chains: {inspect: [ids, firewall]}
policies: [{name: all, match: {}, chain: inspect}]`);
  const running = await weir(file);
  t.teardown(() => running.stop());
  await works('traffic');
  const limit = 1500 - OVERHEAD.ipv6;
  t.match(await lab.ping('wl', '-M', 'do', '-s', String(limit - 28), '10.2.0.2'), / 0% packet loss/, 'what fits both goes through both');
  t.match(await ping('-c', '2', '-M', 'do', '-s', '1472', '10.2.0.2'), new RegExp(`mtu ?= ?${limit}`));
  t.ok(await download());
  const { ports } = await lab.ask<{ ports: { interface: string; txErrors: number }[] }>('stats');
  t.strictSame(ports.filter(({ txErrors }) => txErrors > 0), [], 'the kernel refuses nothing');
  await lab.must('wl', 'ip', 'route', 'flush', 'cache');
  t.equal((await running.stop()).code, 0);
});

await t.test('on the pcap port, too', async (t) => {
  const file = configuration('pcap', `${readFileSync(BOTH, 'utf8').split('\n').slice(4).join('\n')}\nport: pcap`);
  const running = await weir(file);
  t.teardown(() => running.stop());
  await works('traffic');
  t.ok(await connects(40));
  for (const name of ['fw-a', 'fw-b', 'ids-a', 'ids-b']) t.ok(((await instance(name))?.received.packets ?? 0) > 0, `${name} has streams`);
  t.equal((await running.stop()).code, 0);
});

await t.test('a takeover with two underlays: a connection goes on through it', async (t) => {
  const first = await weir(BOTH);
  t.teardown(() => first.stop());
  await works('traffic');
  const got = join(lab.directory, 'slow');
  const slow = [8080, 8081].map((port) => lab.exec('wl', 'curl', '-sS', '--max-time', '60', '--limit-rate', '1M', '-o', `${got}-${port}`, `http://10.2.0.2:${port}/download`));
  const second = await lab.start('fwd', [...WEIR, 'run', '--config', BOTH, '--takeover'], /"msg":"ready"/);
  t.teardown(() => second.stop());
  t.equal((await first.ended).code, 0);
  t.match(second.output(), /took over from process/);
  t.notMatch(second.output(), /interface und. is open/, 'with the rings of both underlays');
  for (const [i, { code }] of (await Promise.all(slow)).entries()) {
    t.equal(code, 0);
    t.equal(sha256(readFileSync(`${got}-${8080 + i}`)), sha256(content));
  }
  t.ok(await connects(16));
  t.match((await lab.ask<Status>('status')).underlays, [{ name: 'lan' }, { name: 'dmz' }]);
  t.equal((await second.stop()).code, 0);
});
