/** Fragments in any order, and how much of them is kept; ICMP errors about streams. */
import t from 'tap';
import { steerAll } from '../support/configuration.js';
import { answer, frame4, stampOf, udp } from '../support/packets.js';
import { turnRound } from '../../src/dataplane/ports/sim-port.js';
import { simulate, type Simulation } from '../support/sim.js';

const IN = 1;
const OUT = 2;
const MS = 1_000_000n;
const HELD = 256;

function balance({ network }: Simulation): number {
  const { captured, returned, cut, stamped, delivered, crossed, held, dropped } = network.counters();
  return captured.packets + returned.packets + cut - (stamped.packets + delivered.packets + crossed.packets + held + Object.values(dropped).reduce((sum, n) => sum + n, 0));
}

function piece(whole: Buffer, from: number, to: number, id: number): Buffer {
  const data = whole.subarray(34);
  const frame = frame4('10.1.0.2', '10.2.0.2', 17, data.subarray(from, to));
  frame.writeUInt16BE(id, 18);
  frame.writeUInt16BE((to < data.length ? 0x2000 : 0) | (from / 8), 20);
  frame.writeUInt16BE(0, 24);
  let sum = 0;
  for (let i = 14; i < 34; i += 2) sum += frame.readUInt16BE(i);
  frame.writeUInt16BE(~((sum & 0xffff) + (sum >>> 16)) & 0xffff, 24);
  return frame;
}

const permutations = <T>(list: readonly T[]): T[][] => (list.length < 2 ? [[...list]] : list.flatMap((one, i) => permutations(list.toSpliced(i, 1)).map((rest) => [one, ...rest])));

for (const encapsulation of ['nsh', 'geneve'] as const) {
  t.test(`${encapsulation}: the pieces of a datagram reach its end in every order, through the instances of its stream`, async (t) => {
    const simulation = await simulate(steerAll(encapsulation));
    t.teardown(() => simulation.dataplane.stop());
    const { network } = simulation;
    const whole = udp({ payload: Buffer.alloc(3000, 7) });
    network.inject(IN, udp());
    network.advance(MS);
    const way = network.sent(0).map((frame) => stampOf(frame).to);
    for (const [n, order] of permutations([0, 800, 1600, 2400]).entries()) {
      network.clear();
      const pieces = order.map((from) => piece(whole, from, Math.min(from + 800, whole.length - 34), n + 1));
      for (const [i, frame] of pieces.entries()) network.inject(IN, frame, BigInt(i) * 10_000n);
      network.advance(MS);
      t.strictSame(network.sent(OUT).map((frame) => frame.toString('hex')).sort(), pieces.map((frame) => frame.toString('hex')).sort(), order.join(' '));
      t.strictSame([...new Set(network.sent(0).map((frame) => stampOf(frame).to))].sort(), [...new Set(way)].sort());
    }
    t.equal(network.counters().streams.opened, 1);
    t.equal(network.counters().held, 0);
    t.equal(balance(simulation), 0);
  });
}

/** One of fd01::2 to fd02::2 in fragments, the second of which says that `claimed` is behind it. */
function pieces6(protocol: number, claimed: number, id: number, ports = [40_000, 80]): [Buffer, Buffer] {
  const segment = Buffer.alloc(24 + 20, 'w');
  segment.writeUInt16BE(ports[0] ?? 0, 0);
  segment.writeUInt16BE(ports[1] ?? 0, 2);
  segment.writeUInt16BE(protocol === 17 ? segment.length : 0, 4);
  segment.writeUInt16BE(0x5010, 12);
  const part = (next: number, offset: number, more: number, data: Buffer): Buffer => {
    const headers = Buffer.alloc(14 + 40 + 8);
    headers.write('0200000000bb0200000000aa86dd60000000', 0, 'hex');
    headers.writeUInt16BE(8 + data.length, 18);
    headers.writeUInt16BE(0x2c40, 20);
    headers.write('fd010000000000000000000000000002fd020000000000000000000000000002', 22, 'hex');
    headers[54] = next;
    headers.writeUInt16BE(offset | more, 56);
    headers.writeUInt32BE(id, 58);
    return Buffer.concat([headers, data]);
  };
  return [part(protocol, 0, 1, segment.subarray(0, 24)), part(claimed, 24, 0, segment.subarray(24))];
}

t.test('IPv6: later fragments go where their first one goes, whatever they say of themselves', async (t) => {
  const text = steerAll().replace('match: {}', 'match: {protocol: tcp, destination_port: 80}');
  for (const protocol of [6, 17, 50]) {
    for (const claimed of [6, 17, 50, 60, 255]) {
      for (const order of ['in order', 'the other way round']) {
        const simulation = await simulate(text);
        t.teardown(() => simulation.dataplane.stop());
        const { network } = simulation;
        const pieces = pieces6(protocol, claimed, 7);
        for (const [i, frame] of (order === 'in order' ? pieces : pieces.toReversed()).entries()) network.inject(IN, frame, BigInt(i) * 1000n);
        network.advance(MS);
        t.equal(network.sent(0).length, protocol === 6 ? 4 : 0, `${protocol}, then ${claimed}, ${order}: stamped`);
        t.strictSame(network.sent(OUT), pieces, `${protocol}, then ${claimed}, ${order}: what leaves`);
        t.equal(network.counters().held, 0);
        t.equal(balance(simulation), 0);
      }
    }
  }
});

t.test('IPv6: a second first fragment leads none astray', async (t) => {
  const simulation = await simulate(steerAll().replace('match: {}', 'match: {protocol: tcp, destination_port: 80}'));
  t.teardown(() => simulation.dataplane.stop());
  const { network } = simulation;
  const [first, later] = pieces6(6, 6, 7);
  for (const [i, frame] of [first, pieces6(50, 50, 7)[0], pieces6(6, 6, 7, [40_000, 81])[0]].entries()) network.inject(IN, frame, BigInt(i) * 1000n);
  network.advance(50_000n * MS);
  network.clear();
  network.inject(IN, later);
  network.advance(MS);
  t.equal(network.sent(0).length, 2);
});

for (const encapsulation of ['nsh', 'geneve'] as const) {
  t.test(`${encapsulation}: with \`fragment: true\` a datagram that may not be fragmented goes through its instances in outer fragments`, async (t) => {
    const sim = await simulate(steerAll(encapsulation).replace('{interface: eth1}', '{interface: eth1, fragment: true}'));
    const { network } = sim;
    const frame = udp({ payload: Buffer.alloc(1472, 'w') }); // with DF
    network.inject(IN, frame);
    network.advance(MS);
    t.ok(network.sent(OUT)[0]?.equals(frame), 'it leaves as it came');
    t.equal(network.sent(0).length, 4, 'in two fragments to each instance');
    t.ok(network.sent(0).every(({ length }) => length <= 1514));
    t.match(network.counters().fragments, { datagramsSent: 2, sent: 4, received: 4, datagramsReceived: 2 });
    t.equal(balance(sim), 0);
    // One of whose fragments is lost on the way.
    network.clear();
    let fragments = 0;
    for (const address of ['10.20.0.11', '10.20.0.12']) network.instance(address, (one) => (fragments++ === 1 ? [] : [turnRound(one)]));
    network.inject(IN, frame);
    network.advance(2000n * MS);
    t.equal(network.sent(OUT).length, 0);
    t.equal(network.counters().dropped['return_fragment_timeout'], 1);
    t.equal(balance(sim), 0);
  });
}

t.test('those whose first one never comes are bounded in number and in time, and each is accounted for', async (t) => {
  const simulation = await simulate(steerAll());
  t.teardown(() => simulation.dataplane.stop());
  const { network } = simulation;
  const whole = udp({ payload: Buffer.alloc(1600) });
  for (let id = 1; id <= HELD + 50; id++) network.inject(IN, piece(whole, 800, 1608, id));
  network.advance(MS);
  t.equal(network.counters().held, HELD);
  t.equal(network.counters().dropped['fragment_overflow'], 50);
  t.equal(balance(simulation), 0);
  // The first ones of some of them, in time: they and theirs go on.
  for (let id = 1; id <= 10; id++) network.inject(IN, piece(whole, 0, 800, id));
  network.advance(MS);
  t.equal(network.counters().held, HELD - 10);
  t.equal(network.sent(OUT).length, 20);
  network.inject(IN, udp(), 2000n * MS);
  network.advance(2001n * MS);
  await simulation.dataplane.upkeep();
  t.equal(network.counters().held, 0, 'none is held for more than a second');
  t.equal(network.counters().dropped['fragment_orphan'], HELD - 10);
  t.equal(balance(simulation), 0);
});

t.test('an ICMP error follows the stream that it quotes, to its sender; one about nothing known is a stream of its own', async (t) => {
  const simulation = await simulate(steerAll());
  t.teardown(() => simulation.dataplane.stop());
  const { network } = simulation;
  network.inject(IN, udp());
  network.inject(OUT, answer(udp, {}), 10_000n);
  network.advance(MS);
  const codes = new Set(network.sent(0).map((frame) => stampOf(frame).code));
  t.equal(codes.size, 1);
  const error = (quoted: Buffer): Buffer => frame4('10.2.0.1', '10.1.0.2', 1, Buffer.concat([Buffer.from([3, 3, 0, 0, 0, 0, 0, 0]), quoted.subarray(14, 42)]), [], true);
  network.clear();
  network.inject(OUT, error(udp()));
  network.advance(MS);
  t.strictSame(network.sent(IN), [error(udp())]);
  t.strictSame(network.sent(0).map((frame) => stampOf(frame).code), [...codes, ...codes]);
  t.equal(network.counters().streams.active, 1);
  network.clear();
  network.inject(OUT, error(udp({ sourcePort: 1 })));
  network.advance(MS);
  t.equal(network.sent(IN).length, 1);
  t.notOk(codes.has(stampOf(network.sent(0)[0] ?? Buffer.alloc(80)).code));
  t.equal(balance(simulation), 0);
});
