/**
 * `exit: direct`: past the last service the workload's packets leave from the host of the last instance, as they came but for their
 * TTL, and weir sees none of them again; answers come by weir and go backwards through the chain. When the last instance fails, its
 * streams leave from the next one.
 */
import { createHash, randomBytes } from 'node:crypto';
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Lab, must, until } from '../support/lab.js';
import { addressOf, HOSTS, MeshLab, Talkers } from '../support/mesh-lab.js';
import { records, stamped } from '../support/stamped-capture.js';

const WEIR = '10.20.0.1';
const FILE_BYTES = 1 << 20;
const DATAGRAMS = 20;
const STREAMS = 8;
/** Fits the underlay with its stamp, and not the way out as it is later. */
const LONG_BYTES = 1350;
const NARROW_MTU = 1300;
/** Ports of the switch. */
const [PORT_A, PORT_C] = ['p2', 'p4'];
const WAY = 'way0';
const LAST = HOSTS.c;

const lab = await Lab.up();
t.teardown(() => lab.down());

/** A way from the last instances' host to the destination that goes past weir and the router; the way back is the old one. */
async function layWay(): Promise<void> {
  await must(['ip', 'link', 'add', WAY, 'netns', `${lab.prefix}-${LAST}`, 'type', 'veth', 'peer', 'name', WAY, 'netns', `${lab.prefix}-net`]);
  // What comes in there comes from where nothing would be sent back to.
  for (const key of ['all', WAY]) await lab.must('net', 'sysctl', '-qw', `net.ipv4.conf.${key}.rp_filter=0`);
  for (const [host, last] of [[LAST, 1], ['net', 2]] as const) {
    await lab.must(host, 'ip', 'link', 'set', WAY, 'up');
    await lab.must(host, 'ip', 'addr', 'add', `10.99.0.${last}/24`, 'dev', WAY);
    await lab.must(host, 'ip', 'addr', 'add', `fd99::${last}/64`, 'dev', WAY, 'nodad');
  }
  await lab.must('net', 'ethtool', '-K', WAY, 'gro', 'off'); // what is captured there is then what came
  await lab.must(LAST, 'ip', 'route', 'add', '10.2.0.0/24', 'via', '10.99.0.2');
  await lab.must(LAST, 'ip', '-6', 'route', 'add', 'fd02::/64', 'via', 'fd99::2');
}

const RECEIVE = `
import hashlib, socket, sys
server = socket.create_server((sys.argv[1], 9000), family=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
print('ready', flush=True)
while True:
    connection, _ = server.accept()
    digest = hashlib.sha256()
    while data := connection.recv(65536): digest.update(data)
    connection.sendall(digest.hexdigest().encode())
    connection.close()
`;
const SEND = `
import socket, sys
connection = socket.create_connection((sys.argv[1], 9000), timeout=60)
connection.sendall(open(sys.argv[2], 'rb').read())
connection.shutdown(socket.SHUT_WR)
print(connection.recv(64, socket.MSG_WAITALL).decode())
`;
const ECHO = `
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 9001))
print('ready', flush=True)
while True: s.sendto(*s.recvfrom(65536))
`;
/** Datagrams of so many bytes from one port, each said again until its answer is there. */
const ASK = `
import os, socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
for i in range(int(sys.argv[2])):
    data = os.urandom(500)
    for attempt in range(15):
        s.sendto(data, (sys.argv[1], 9001))
        try:
            while s.recv(65536) != data: pass
            break
        except TimeoutError: pass
    else: sys.exit('no answer')
print('all answered')
`;
const SAY = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, 10, 2)
s.sendto(bytes(int(sys.argv[3])), (sys.argv[1], int(sys.argv[2])))
`;

interface Status {
  readonly exited?: { readonly packets: number };
  readonly dropped: Readonly<Record<string, number>>;
}

/** IP packets in a capture of Ethernet frames, with what they go by. */
function* ipPackets(file: string): Generator<Buffer> {
  for (const { bytes } of records(file)) {
    const type = bytes.readUInt16BE(12);
    if (type === 0x0800) yield bytes.subarray(14, 14 + bytes.readUInt16BE(16));
    if (type === 0x86dd) yield bytes.subarray(14, 54 + bytes.readUInt16BE(18));
  }
}

const WORKLOAD = ['0a010002', 'fd010000000000000000000000000002'];
const isIpv4 = (ip: Buffer): boolean => (ip[0] ?? 0) >> 4 === 4;
const isFromWorkload = (ip: Buffer): boolean => WORKLOAD.includes((isIpv4(ip) ? ip.subarray(12, 16) : ip.subarray(8, 24)).toString('hex'));
const isToWorkload = (ip: Buffer): boolean => WORKLOAD.includes((isIpv4(ip) ? ip.subarray(16, 20) : ip.subarray(24, 40)).toString('hex'));

/** As a router passes it on. */
function routed(ip: Buffer): Buffer {
  const bytes = Buffer.from(ip);
  const ttl = isIpv4(bytes) ? 8 : 7;
  bytes.writeUInt8(bytes.readUInt8(ttl) - 1, ttl);
  if (!isIpv4(bytes)) return bytes;
  bytes.writeUInt16BE(0, 10);
  let sum = 0;
  for (let at = 0; at < (bytes.readUInt8(0) & 15) * 4; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  bytes.writeUInt16BE(~sum & 0xffff, 10);
  return bytes;
}

/** Packets of `some` that are in `all` less often. */
function missing(some: readonly Buffer[], all: readonly Buffer[]): string[] {
  const left = new Map<string, number>();
  for (const ip of all) left.set(ip.toString('hex'), (left.get(ip.toString('hex')) ?? 0) + 1);
  return some.map((ip) => ip.toString('hex')).filter((ip) => {
    const count = left.get(ip) ?? 0;
    left.set(ip, count - 1);
    return count <= 0;
  });
}

await layWay();
const file = join(lab.directory, 'file');
const content = randomBytes(FILE_BYTES);
writeFileSync(file, content);
const digest = createHash('sha256').update(content).digest('hex');
for (const address of ['10.2.0.2', 'fd02::2']) {
  await lab.start('net', ['python3', '-c', RECEIVE, address], /ready/);
  await lab.start('net', ['python3', '-c', ECHO, address], /ready/);
}

for (const [claim, last, sync, port] of [['in native code', 'pass', 'off', 9010], ['held until the state is acknowledged', 'meter', 'strict', 9011]] as const) {
  await t.test(`the last service ${claim}: packets leave from its host, answers go backwards through the chain`, async (t) => {
    const mesh = new MeshLab(lab, { functions: { a: 'pass', b: 'meter', c: last }, sync: { a: 'off', b: 'async', c: sync }, health: '{probe: true, interval: 500ms, passive: true}', instances: 2, exit: 'direct' });
    await mesh.start();
    const names = ['c1', 'c2'];
    const statuses = async (of = names): Promise<readonly Status[]> => {
      const said = (name: string): string[] => (mesh.nodes.get(name)?.output() ?? '').split('\n').filter((line) => line.includes('"msg":"status"') && line.endsWith('}'));
      const before = of.map((name) => said(name).length);
      for (const name of of) mesh.nodes.get(name)?.child.kill('SIGUSR2');
      await until('the last instances to tell their counters', () => of.every((name, i) => said(name).length > (before[i] ?? 0)));
      return of.map((name) => JSON.parse(said(name).at(-1) ?? '') as Status);
    };
    const exited = async (of = names): Promise<number> => (await statuses(of)).reduce((sum, status) => sum + (status.exited?.packets ?? 0), 0);
    const dropped = async (reason: string): Promise<number> => (await statuses()).reduce((sum, status) => sum + (status.dropped[reason] ?? 0), 0);

    const [atA, atC, atWay, atOld] = await Promise.all([lab.capture('sw', PORT_A, 'udp port 4790'), lab.capture('sw', PORT_C, 'udp port 4790'), lab.capture('net', WAY, 'ip or ip6'), lab.capture('net', 'eth0', 'src 10.1.0.2 or src fd01::2')]);
    for (const address of ['10.2.0.2', 'fd02::2']) {
      t.equal((await lab.must('wl', 'python3', '-c', SEND, address, file)).trim(), digest, `the file arrived at ${address} as it was sent`);
      t.match(await lab.must('wl', 'python3', '-c', ASK, address, String(DATAGRAMS)), /all answered/);
    }
    const left = await exited();
    const lost = (await statuses()).reduce((sum, status) => sum + Object.values(status.dropped).reduce((all, n) => all + n, 0), 0);
    t.ok(left > FILE_BYTES / 1500, `${left} packets left from the last instances' host`);
    const [ofA, ofC, ofWay, ofOld] = await Promise.all([atA, atC, atWay, atOld].map(({ stop }) => stop()));

    const lasts = new Set([1, 2].map((i) => addressOf('c', i)));
    const seconds = new Set([1, 2].map((i) => addressOf('b', i)));
    const real = [...stamped(ofC ?? '')].filter(({ spi }) => spi > 1); // probes have none
    const forward = real.filter(({ spi }) => spi % 2 === 0);
    const answers = real.filter(({ spi }) => spi % 2 === 1);
    t.ok(forward.length >= FILE_BYTES / 1500);
    t.ok(forward.every(({ from, to, si }) => seconds.has(from) && lasts.has(to) && si === 253), 'stamped packets of the workload go from b to c, and none to weir');
    t.ok(answers.some(({ from, si }) => from === WEIR && si === 255) && answers.some(({ from, to, si }) => lasts.has(from) && seconds.has(to) && si === 254), 'answers go from weir to c, and on to b');
    t.ok(answers.every(({ from, to }) => (from === WEIR && lasts.has(to)) || (lasts.has(from) && seconds.has(to))));
    const back = [...stamped(ofA ?? '')].filter(({ to, spi }) => to === WEIR && spi > 1);
    t.ok(back.length > 0 && back.every(({ spi, si }) => spi % 2 === 1 && si === 252), 'and from a to weir, which sends them to the workload');

    const way = [...ipPackets(ofWay ?? '')];
    const outside = way.filter(isFromWorkload);
    t.strictSame(missing(outside, forward.map(({ ip }) => routed(ip))), [], 'each packet left as it had come to the last service, byte for byte, but for its TTL');
    t.ok(forward.length - outside.length <= lost, `${forward.length} came to the last service, ${outside.length} left, ${lost} were dropped`);
    t.notOk(way.some(isToWorkload), 'no answer takes that way');
    t.equal([...ipPackets(ofOld ?? '')].length, 0, 'none of them came by weir and the router');
    t.equal(left, outside.length, 'the node counts what left');

    await lab.must(LAST, 'ip', 'link', 'set', WAY, 'mtu', String(NARROW_MTU));
    await lab.must('wl', 'python3', '-c', SAY, '10.2.0.2', '9001', String(LONG_BYTES));
    await until('the packet that is too long to be counted', async () => (await dropped('exit_too_long')) > 0, 30_000);
    await lab.must(LAST, 'ip', 'route', 'del', '10.2.0.0/24');
    await lab.must('wl', 'python3', '-c', SAY, '10.2.0.2', '9001', '100');
    await until('the packet without a route to be counted', async () => (await dropped('exit_no_route')) > 0, 30_000);
    await until('both to be told', () => ['exit_too_long', 'exit_no_route'].every((reason) => names.some((name) => mesh.nodes.get(name)?.output().includes(`"dropped":"${reason}"`) === true)), 30_000);
    await lab.must(LAST, 'ip', 'route', 'add', '10.2.0.0/24', 'via', '10.99.0.2');
    await lab.must(LAST, 'ip', 'link', 'set', WAY, 'mtu', '1500');

    t.match((await lab.ctl('trace', 'tcp', '10.1.0.2:40000', '10.2.0.2:9000', '--capture', 'web')).stdout, /leaves from the last instance's host/);
    t.notMatch(mesh.weir.output(), /nothing returned/, 'that nothing comes back to weir is no failure');

    const [atRouter, atUnderlay] = await Promise.all([lab.capture('rtr', 'lan0', 'src 10.1.0.2'), lab.capture('sw', PORT_C, 'src 10.1.0.2')]);
    for (const [address, to] of [[addressOf('b', 1), 4790], [addressOf('b', 1), 9001], ['10.2.0.2', 6081]] as const) {
      const came = (): boolean => statSync(atRouter.file).size > 0 && [...ipPackets(atRouter.file)].some((ip) => ip.subarray(16, 20).join('.') === address && ip.readUInt16BE(22) === to);
      await until(`what is for UDP port ${to} of ${address} to come by weir`, async () => {
        await lab.must('wl', 'python3', '-c', SAY, address, String(to), '100');
        return came();
      }, 30_000);
    }
    await atRouter.stop();
    t.equal([...ipPackets(await atUnderlay.stop())].length, 0, 'nothing of the workload gets into the underlay from the last host');

    const talkers = await Talkers.start(lab, STREAMS, 20, port);
    await talkers.advance(await talkers.state(), 1);
    const served = [...(await mesh.pins()).values()].map((keys) => keys[2]);
    const [killed = '', other = ''] = served.filter((key) => key === 'c/c1').length > STREAMS / 2 ? names : [...names].reverse();
    t.ok(served.includes(`c/${killed}`), `streams are with ${killed}`);
    const atOther = await lab.capture('net', 'eth0', 'src 10.1.0.2');
    mesh.nodes.get(killed)?.child.kill('SIGKILL');
    const before = await exited([other]);
    const { reset, wrong } = await talkers.advance(await talkers.state(), 5);
    t.strictSame([reset, wrong], [[], 0], 'it ends, and every connection goes on');
    t.ok(await exited([other]) >= before + 5 * STREAMS, `from the host of ${other}`);
    t.equal([...ipPackets(await atOther.stop())].length, 0, 'and not by weir');
    await talkers.stop();
    // What has no answer yet would be said again to the next chain, before anybody captures there.
    await lab.connectionsOver('wl', 'net');
    await mesh.stop();
  });
}
