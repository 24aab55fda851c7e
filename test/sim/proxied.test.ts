/** Instances that know nothing of stamps: what they get, what they may do, and where it goes. */
import t, { type Test as Tap } from 'tap';
import { valid } from '../support/configuration.js';
import { ACK, RST, SYN, answer, frame4, stampOf, tcp, udp } from '../support/packets.js';
import { simulate, type Simulation } from '../support/sim.js';

const IN = 1;
const OUT = 2;
const MS = 1_000_000n;

/** Chains over: firewall (stamped), ips (a bump between ports 3 and 4), router (one leg, port 5), ids (stamped). */
function configuration(chain: readonly string[], { encapsulation = 'nsh', more = '', ips = '{in: p0, out: p1}' } = {}): string {
  return `
underlay: {interface: eth1}
captures: [{name: web, in: a, out: b}]
services:
  ips: {instances: [{name: ips-1, attach: ${ips}}]}
  router: {instances: [{name: router-1, attach: {via: 10.9.0.2}}]}
  firewall: {instances: [{name: fw-1, address: 10.20.0.11}]}
  ids: {instances: [{name: ids-1, address: 10.20.0.21}]}
chains: {inspect: {services: [${chain.join(', ')}], encapsulation: ${encapsulation}}}
policies: [{name: all, match: {}, chain: inspect}]
${more}`;
}
const [P0, P1, R] = [3, 4, 5];
const WEIR_MAC = Buffer.from('020000020002', 'hex');
const ROUTER_MAC = Buffer.from('020000030005', 'hex');

/** What the IP stack of a router makes of a frame: one hop less to live, its own MAC. */
function routed(frame: Buffer): Buffer {
  const back = Buffer.from(frame);
  WEIR_MAC.copy(back, 0);
  ROUTER_MAC.copy(back, 6);
  back[22] = (back[22] ?? 0) - 1;
  const sum = back.readUInt16BE(24) + 0x0100;
  back.writeUInt16BE((sum & 0xffff) + (sum >>> 16), 24);
  return back;
}

async function start(t: Tap, text: string, pass = true): Promise<Simulation> {
  const simulation = await simulate(valid(text));
  t.teardown(() => simulation.dataplane.stop());
  if (pass) {
    simulation.network.attach(P0, (bytes) => [{ port: P1, bytes }]);
    simulation.network.attach(P1, (bytes) => [{ port: P0, bytes }]);
    simulation.network.attach(R, (bytes) => [{ port: R, bytes: routed(bytes) }]);
  }
  return simulation;
}

/** Sends a frame and runs 1 ms: the ports it visited, in order, and what left. */
function send({ network }: Simulation, port: number, frame: Buffer): { visited: number[]; out: Buffer[]; in: Buffer[]; to: string[] } {
  network.clear();
  network.inject(port, frame);
  network.advance(MS);
  const visited = network.log.map((event) => event.port).filter((to) => to !== IN && to !== OUT);
  return { visited, out: network.sent(OUT), in: network.sent(IN), to: network.sent(0).map((stamped) => stampOf(stamped).to) };
}

/** A frame with its TTL lowered by `hops`. */
const after = (hops: number, frame: Buffer): Buffer => (hops === 0 ? frame : after(hops - 1, Buffer.concat([frame.subarray(0, 12), routed(frame).subarray(12)])));

t.test('a bump: frames unchanged in by one side and out of the other, answers the other way round', async (t) => {
  const simulation = await start(t, configuration(['ips']));
  const there = send(simulation, IN, udp());
  t.strictSame(there.visited, [P0]);
  t.strictSame(simulation.network.sent(P0), [udp()]);
  t.strictSame(there.out, [udp()]);
  const back = send(simulation, OUT, answer(udp, {}));
  t.strictSame(back.visited, [P1]);
  t.strictSame(simulation.network.sent(P1), [answer(udp, {})]);
  t.strictSame(back.in, [answer(udp, {})]);
});

t.test('a stream opened from the network goes through a bump from its network side: a bridge that learns MACs sees each on one side', async (t) => {
  const simulation = await start(t, configuration(['ips']));
  const request = { source: '10.2.0.2', destination: '10.1.0.2' };
  t.strictSame(send(simulation, OUT, udp(request, true)).visited, [P1]);
  t.strictSame(send(simulation, IN, answer(udp, request)).visited, [P0]);
});

t.test('a router gets frames from us and sends them back to us; the stream has its own Ethernet header again at the end', async (t) => {
  const simulation = await start(t, configuration(['router']));
  const there = send(simulation, IN, udp());
  t.strictSame(there.visited, [R]);
  const [sent = Buffer.alloc(0)] = simulation.network.sent(R);
  t.strictSame(sent.subarray(0, 14), Buffer.concat([ROUTER_MAC, WEIR_MAC, Buffer.from([8, 0])]));
  t.strictSame(sent.subarray(14), udp().subarray(14));
  t.strictSame(there.out, [after(1, udp())]);
  t.strictSame(send(simulation, OUT, answer(udp, {})).in, [after(1, answer(udp, {}))]);
});

for (const encapsulation of ['nsh', 'geneve'] as const) {
  t.test(`${encapsulation}: stamped and plain instances on one chain, in order there and in reverse order back`, async (t) => {
    const simulation = await start(t, configuration(['firewall', 'ips', 'router', 'ids'], { encapsulation }));
    // Behind a router only addresses and ports are left, so those differ.
    for (const [vlan, sourcePort] of [[[], 40000], [[7], 40007], [[100, 200], 40100]] as const) {
      const there = send(simulation, IN, udp({ vlan, sourcePort }));
      t.strictSame(there.visited, [0, P0, R, 0], `tags ${vlan.join('.')}`);
      t.strictSame(there.to, ['10.20.0.11', '10.20.0.21']);
      t.strictSame(there.out.map((frame) => frame.subarray(0, 14 + 4 * vlan.length)), [udp({ vlan, sourcePort }).subarray(0, 14 + 4 * vlan.length)]);
      const back = send(simulation, OUT, answer(udp, { vlan, sourcePort }));
      t.strictSame(back.visited, [0, R, P1, 0]);
      t.strictSame(back.to, ['10.20.0.21', '10.20.0.11']);
      t.strictSame(back.in.map((frame) => frame.subarray(0, 14 + 4 * vlan.length)), [answer(udp, { vlan, sourcePort }).subarray(0, 14 + 4 * vlan.length)]);
    }
    t.equal((await simulation.network.flows(0, 10)).flows.length, 3, 'each VLAN has a stream of its own');
  });
}

t.test('what a box changes in a packet stays changed: TTL, ToS, MSS, payload and its length', async (t) => {
  const simulation = await start(t, configuration(['ips', 'ids']), false);
  simulation.network.attach(P0, () => [{ port: P1, bytes: tcp({ flags: SYN, mss: 900 }) }]);
  t.strictSame(send(simulation, IN, tcp({ flags: SYN, mss: 1460 })).out, [tcp({ flags: SYN, mss: 900 })]);
  const marked = udp({ payload: Buffer.from('another payload, and longer') });
  marked[15] = 0xb8;
  marked.writeUInt16BE(marked.readUInt16BE(24) - 0xb8, 24);
  simulation.network.attach(P0, () => [{ port: P1, bytes: marked }]);
  t.strictSame(send(simulation, IN, udp()).out, [marked]);
});

t.test('a box that answers itself: its packets go back through the hops before it, also where nothing ever came from the other side', async (t) => {
  const simulation = await start(t, configuration(['firewall', 'ips', 'ids']), false);
  const syn = { flags: SYN, destinationPort: 81 };
  const reset = answer(tcp, { ...syn, flags: RST | ACK });
  simulation.network.attach(P0, () => [{ port: P0, bytes: reset }]);
  const { visited, to, in: back, out } = send(simulation, IN, tcp(syn));
  t.strictSame(visited, [0, P0, 0]);
  t.strictSame(to, ['10.20.0.11', '10.20.0.11']);
  t.strictSame(back, [reset]);
  t.strictSame(out, []);
  t.equal((await simulation.network.flows(0, 10)).flows[0]?.tcp, 'closed', 'the stream is over, and forgotten soon');
});

t.test('a box that ends connections in both directions reaches both ends', async (t) => {
  const simulation = await start(t, configuration(['firewall', 'ips', 'ids']), false);
  const stream = { sourcePort: 40001 };
  simulation.network.attach(P0, () => [
    { port: P0, bytes: answer(tcp, { ...stream, flags: RST }) },
    { port: P1, bytes: tcp({ ...stream, flags: RST }) },
  ]);
  const { in: back, out } = send(simulation, IN, tcp({ ...stream, flags: SYN }));
  t.strictSame(back, [answer(tcp, { ...stream, flags: RST })]);
  t.strictSame(out, [tcp({ ...stream, flags: RST })]);
});

t.test('an ICMP error that a box sends about a stream goes to its sender', async (t) => {
  const simulation = await start(t, configuration(['router']), false);
  const error = (type: number): Buffer => frame4('10.9.0.2', '10.1.0.2', 1, Buffer.concat([Buffer.from([type, type === 3 ? 13 : 1, 0, 0, 0, 0, 0, 0]), udp().subarray(14, 42)]));
  const back = (type: number) => (): { port: number; bytes: Buffer }[] => [{ port: R, bytes: Buffer.concat([WEIR_MAC, ROUTER_MAC, error(type).subarray(12)]) }];
  simulation.network.attach(R, back(3));
  const { in: told } = send(simulation, IN, udp());
  t.strictSame(told.map((frame) => frame.subarray(14)), [error(3).subarray(14)]);
  t.strictSame(told[0]?.subarray(0, 12), Buffer.from('0200000000aa0200000000bb', 'hex'), 'in a frame as from the one that it was sent to');
  simulation.network.attach(R, back(5));
  t.strictSame(send(simulation, IN, udp()).in, [], 'a redirect is about a way that only weir knows');
  t.equal(simulation.network.counters().dropped['proxy_link'], 1);
});

t.test('what a box says on its own is dropped, each kind under its name', async (t) => {
  const simulation = await start(t, configuration(['ips', 'router'], { more: 'default: pass' }));
  const { network } = simulation;
  const arp = Buffer.concat([Buffer.from('ffffffffffff0200000000cc0806', 'hex'), Buffer.alloc(46)]);
  const stp = Buffer.concat([Buffer.from('0180c20000000200000000cc0026424203', 'hex'), Buffer.alloc(43)]);
  const cases: readonly (readonly [string, number, Buffer])[] = [
    ['proxy_link', P0, arp],
    ['proxy_link', P1, stp],
    ['proxy_no_stream', P0, udp({ sourcePort: 999 })],
    ['proxy_link', R, udp()],
    ['runt', P0, Buffer.alloc(13)],
    ['bad_ip_header', P0, Buffer.from('0200000000bb0200000000aa08004500', 'hex')],
  ];
  send(simulation, IN, udp());
  for (const [reason, port, frame] of cases) {
    const before = network.counters().dropped[reason] ?? 0;
    const { out, in: back } = send(simulation, port, frame);
    t.equal(network.counters().dropped[reason], before + 1, reason);
    t.strictSame([...out, ...back], []);
  }
  t.equal((await network.flows(0, 10)).flows.length, 1, 'none of it opened a stream');
});

t.test('a frame that comes out of the side that its stream goes in by is dropped', async (t) => {
  const simulation = await start(t, configuration(['ips']), false);
  simulation.network.attach(P0, (bytes) => [{ port: P0, bytes }]);
  t.strictSame(send(simulation, IN, udp()).out, []);
  t.equal(simulation.network.counters().dropped['proxy_wrong_side'], 1);
});

t.test('an instance may only continue streams that are with it', async (t) => {
  const text = configuration(['ips']).replace('[{name: ips-1, attach: {in: p0, out: p1}}]', '[{name: ips-1, attach: {in: p0, out: p1}}, {name: ips-2, attach: {in: q0, out: q1}}]');
  const simulation = await start(t, text, false);
  const [Q1] = [6];
  const [first = 0] = send(simulation, IN, udp()).visited;
  const [right, wrong] = first === P0 ? [P1, Q1] : [Q1, P1];
  t.strictSame(send(simulation, wrong, udp()).out, []);
  t.equal(simulation.network.counters().dropped['proxy_no_stream'], 1);
  t.strictSame(send(simulation, right, udp()).out, [udp()]);
});

t.test('instances that share an interface are told by VLAN, also both sides of one; the streams own tags lie within', async (t) => {
  const simulation = await start(t, configuration(['ips'], { ips: '{in: p0, out: p0, vlan: {in: 101, out: 102}}' }), false);
  const { network } = simulation;
  const retag = (from: number, to: number) => (bytes: Buffer): { port: number; bytes: Buffer }[] => {
    t.equal(bytes.readUInt32BE(12), (0x8100_0000 | from) >>> 0);
    const back = Buffer.from(bytes);
    back.writeUInt16BE(to, 14);
    return [{ port: P0, bytes: back }];
  };
  for (const vlan of [[], [7], [100, 200]]) {
    network.attach(P0, retag(101, 102));
    t.strictSame(send(simulation, IN, udp({ vlan })).out, [udp({ vlan })]);
    network.attach(P0, retag(102, 101));
    t.strictSame(send(simulation, OUT, answer(udp, { vlan })).in, [answer(udp, { vlan })]);
  }
  t.strictSame(send(simulation, P0, udp()).out, []);
  t.equal(network.counters().dropped['proxy_unknown'], 1, 'without a tag it is nobodys');
});

t.test('two captures with the same addresses and ports at one instance: neither gets what may be the others', async (t) => {
  const text = configuration(['ips']).replace('captures: [{name: web, in: a, out: b}]', 'captures: [{name: web, in: a, out: b}, {name: db, in: c, out: d}]');
  const simulation = await start(t, text, false);
  const { network } = simulation;
  const [p0, p1] = [5, 6];
  network.attach(p0, (bytes) => [{ port: p1, bytes }]);
  t.strictSame(send(simulation, IN, udp()).out, [udp()]);
  network.clear();
  network.inject(3, udp({ sourcePort: 40001 }));
  network.advance(MS);
  t.strictSame(network.sent(4), [udp({ sourcePort: 40001 })], 'different streams of two captures share it');
  network.clear();
  network.inject(3, udp());
  network.advance(MS);
  t.strictSame([network.sent(OUT), network.sent(4)], [[], []]);
  t.equal(network.counters().dropped['proxy_ambiguous'], 1);
});

t.test('a packet that is with a box while its chain changes ends on the path it began', async (t) => {
  for (const [next, existing] of [[['firewall'], 'move'], [['ips', 'firewall'], 'move'], [['firewall'], 'keep']] as const) {
    const simulation = await start(t, configuration(['ips', 'ids']), false);
    const { network, dataplane } = simulation;
    send(simulation, IN, udp());
    await dataplane.setChain('inspect', next, existing, 'test');
    // The next packet of the stream moves it, and overtakes the one that is still with the box.
    send(simulation, IN, udp());
    network.clear();
    network.inject(P1, udp());
    network.advance(MS);
    t.strictSame(network.sent(OUT), [udp()], `${next.join(' > ')}, ${existing}`);
    t.strictSame(network.sent(0).map((frame) => stampOf(frame).to), [next[0] === 'ips' ? '10.20.0.11' : '10.20.0.21']);
  }
});

t.test('fragments find their stream again, also when the box cut them anew', async (t) => {
  const simulation = await start(t, configuration(['ips']));
  const whole = udp({ payload: Buffer.alloc(2000, 7) });
  const piece = (from: number, to: number, id: number): Buffer => {
    const frame = frame4('10.1.0.2', '10.2.0.2', 17, whole.subarray(34 + from, 34 + to));
    frame.writeUInt16BE(id, 18);
    frame.writeUInt16BE((to < 2008 ? 0x2000 : 0) | (from / 8), 20);
    frame.writeUInt16BE(0, 24);
    let sum = 0;
    for (let i = 14; i < 34; i += 2) sum += frame.readUInt16BE(i);
    frame.writeUInt16BE(~((sum & 0xffff) + (sum >>> 16)) & 0xffff, 24);
    return frame;
  };
  t.strictSame(send(simulation, IN, piece(0, 1480, 1)).out, [piece(0, 1480, 1)]);
  t.strictSame(send(simulation, IN, piece(1480, 2008, 1)).out, [piece(1480, 2008, 1)]);
  t.strictSame(send(simulation, P1, piece(0, 800, 77)).out, [piece(0, 800, 77)]);
  t.strictSame(send(simulation, P1, piece(800, 2008, 77)).out, [piece(800, 2008, 77)]);
});

t.test('a stream between two hosts of one side goes through a bump once each way; a router with one leg can not tell the two apart', async (t) => {
  const simulation = await start(t, configuration(['ips']));
  t.strictSame(send(simulation, IN, udp()).out, [udp()]);
  const again = send(simulation, OUT, udp({}, true));
  t.strictSame(again.visited, [P1]);
  t.strictSame(again.in, [udp({}, true)]);
  t.strictSame(send(simulation, IN, udp()).out, [udp()]);
  const other = await start(t, configuration(['router']));
  send(other, IN, udp());
  t.strictSame(send(other, OUT, udp({}, true)).in, []);
  t.equal(other.network.counters().dropped['proxy_ambiguous'], 1);
});

t.test('an instance that is taken down gets nothing more, and what it still held gets through', async (t) => {
  const simulation = await start(t, configuration(['ips']).replace('ips: {', 'ips: {fail: open, '), false);
  send(simulation, IN, udp());
  await simulation.dataplane.setInstance('ips', 'ips-1', 'down', null, 'test');
  t.strictSame(send(simulation, P1, udp()).out, [udp()]);
  t.strictSame(send(simulation, IN, udp()).visited, []);
});
