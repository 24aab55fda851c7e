/** A router on the way to an instance says that its next link carries less: packets are held to that, for ten minutes. */
import t from 'tap';
import { turnRound } from '../../src/dataplane/ports/sim-port.js';
import type { WeirEvent } from '../../src/observe/events.js';
import { frame4, tcp, udp, SYN } from '../support/packets.js';
import { simulate, type Simulation } from '../support/sim.js';

const UNDERLAY = 0;
const IN = 1;
const OUT = 2;
const MS = 1_000_000n;
const OVERHEAD = 20 + 8 + 24 + 14;
const HELD_MS = 600_000;
const ADDRESS = '10.20.0.21';

const ONE = `
underlay: {interface: eth1}
captures: [{name: web, in: a, out: b}]
services: {ids: {instances: [{name: ids-1, address: ${ADDRESS}}]}}
chains: {inspect: [ids]}
policies: [{name: all, match: {}, chain: inspect}]`;

/** "Fragmentation needed" about a stamped packet, from a router to weir. */
function refusal(about: Buffer, mtu: number): Buffer {
  const icmp = Buffer.alloc(8);
  icmp.writeUInt8(3, 0);
  icmp.writeUInt8(4, 1);
  icmp.writeUInt16BE(mtu, 6);
  return frame4('10.20.0.254', about.subarray(26, 30).join('.'), 1, Buffer.concat([icmp, about.subarray(14, 14 + 28)]), [], true);
}

/** The instance stands behind a router whose next link carries `mtu.now`. */
async function behindRouter(mtu: { now: number }, more: Parameters<typeof simulate>[5] = {}): Promise<Simulation> {
  const simulation = await simulate(ONE, undefined, undefined, undefined, undefined, more);
  simulation.network.instance(ADDRESS, (frame) => [frame.length - 14 > mtu.now ? refusal(frame, mtu.now) : turnRound(frame)]);
  return simulation;
}

/** A UDP packet of so many bytes with DF: `through`, or the MTU that its sender is told, or `lost`. */
function send({ network }: Simulation, length: number): 'through' | number | 'lost' {
  network.clear();
  network.inject(IN, udp({ payload: Buffer.alloc(length - 28, 'x') }));
  network.advance(1000n * MS); // ICMP errors are few
  const [answer] = network.sent(IN);
  return network.sent(OUT).length > 0 ? 'through' : answer === undefined ? 'lost' : answer.readUInt16BE(40);
}

const mtuOf = ({ dataplane }: Simulation): number | null | undefined => dataplane.program.instances[0]?.mtu;
const news = ({ dataplane }: Simulation): string[] => dataplane.events.history().events.filter((event: WeirEvent) => event.kind === 'instance').map(({ cause }) => cause);

t.test('one packet is lost, then senders are told and TCP segments are shorter; after ten minutes longer ones are tried again', async (t) => {
  const link = { now: 1400 };
  const simulation = await behindRouter(link);
  const { dataplane, network } = simulation;
  t.teardown(() => dataplane.stop());
  const before = dataplane.generation;
  let nowMs = Date.now();
  await dataplane.upkeep(nowMs);
  t.equal(send(simulation, 1500 - OVERHEAD), 'lost', 'nobody knows yet');
  t.equal(send(simulation, 1400 - OVERHEAD), 'through');
  await dataplane.upkeep((nowMs += 1000));
  t.equal(mtuOf(simulation), 1400);
  t.equal(send(simulation, 1500 - OVERHEAD), 1400 - OVERHEAD, 'the sender is told');
  t.equal(send(simulation, 1400 - OVERHEAD), 'through');
  network.clear();
  network.inject(IN, tcp({ flags: SYN, mss: 1460 }));
  network.advance(MS);
  t.equal(network.sent(OUT)[0]?.readUInt16BE(56), 1400 - OVERHEAD - 20 - 40, 'the MSS is clamped, with room for an outer IPv6 header');
  t.strictSame(news(simulation), ['path MTU: a router says 1400']);
  t.equal(dataplane.generation, before, 'editors need not know');
  const { program } = dataplane;
  await dataplane.upkeep((nowMs += HELD_MS - 2000));
  t.equal(dataplane.program, program, 'while nothing changes no program is made');

  // Still as narrow: learnt anew.
  await dataplane.upkeep((nowMs += 2000));
  t.equal(mtuOf(simulation), null);
  t.equal(send(simulation, 1500 - OVERHEAD), 'lost');
  await dataplane.upkeep((nowMs += 1000));
  t.equal(mtuOf(simulation), 1400);
  // Wider by the time it is over: nobody is told any more.
  link.now = 1500;
  await dataplane.upkeep((nowMs += HELD_MS));
  t.equal(send(simulation, 1500 - OVERHEAD), 'through');
  await dataplane.upkeep((nowMs += 1000));
  t.equal(mtuOf(simulation), null);
});

t.test('narrower and narrower: each is taken up, an event comes once a minute; nothing below the least', async (t) => {
  const link = { now: 1400 };
  const simulation = await behindRouter(link);
  const { dataplane, network } = simulation;
  t.teardown(() => dataplane.stop());
  let nowMs = Date.now();
  for (const mtu of [1400, 1300, 1200, 576]) {
    const known = mtuOf(simulation) ?? 1500;
    link.now = mtu;
    t.equal(send(simulation, known - OVERHEAD), 'lost');
    await dataplane.upkeep((nowMs += 1000));
    t.equal(mtuOf(simulation), mtu);
  }
  t.strictSame(news(simulation), ['path MTU: a router says 1400']);
  const [stamped = Buffer.alloc(60)] = [udp()].map((frame) => {
    network.clear();
    network.inject(IN, frame);
    network.advance(MS);
    return network.sent(UNDERLAY)[0];
  });
  for (const forged of [575, 68, 1]) network.inject(UNDERLAY, refusal(stamped, forged));
  network.advance(MS);
  await dataplane.upkeep((nowMs += 1000));
  t.equal(mtuOf(simulation), 576);
});

t.test('what a router says is forgotten when the instance is reached by another next hop, and heeded beside what the route says', async (t) => {
  const link = { now: 1300 };
  let mac = '02:00:00:00:02:01';
  let moved = false;
  const simulation = await behindRouter(link, { neighbours: { macOf: () => mac, mtuOf: () => 1400, refresh: () => moved && !(moved = false) } });
  const { dataplane } = simulation;
  t.teardown(() => dataplane.stop());
  let nowMs = Date.now();
  t.equal(mtuOf(simulation), 1400, 'the route');
  t.equal(send(simulation, 1400 - OVERHEAD), 'lost');
  await dataplane.upkeep((nowMs += 1000));
  t.equal(mtuOf(simulation), 1300, 'the router');
  mac = '02:00:00:00:02:02';
  moved = true;
  await dataplane.upkeep((nowMs += 1000));
  await dataplane.upkeep((nowMs += 1000));
  t.equal(mtuOf(simulation), 1400, 'the other way');
});
