/** Health and load in a whole dataplane under virtual time: what fails, who takes over, who comes back, and what never moves. */
import t from 'tap';
import { turnRound } from '../../src/dataplane/ports/sim-port.js';
import { services } from '../../src/dataplane/views.js';
import type { WeirEvent } from '../../src/observe/events.js';
import { VirtualClock } from '../support/conditions.js';
import { steerAll } from '../support/configuration.js';
import { stampOf, udp } from '../support/packets.js';
import { simulate, type Simulation } from '../support/sim.js';

const IN = 1;
const OUT = 2;
const MS = 1_000_000n;

type Setup = Simulation & { readonly clock: VirtualClock; readonly events: WeirEvent[] };

async function setup(of: string, encapsulation: 'nsh' | 'geneve' = 'nsh'): Promise<Setup> {
  const clock = new VirtualClock(Date.UTC(2026, 10, 21));
  const text = steerAll(encapsulation).replace('firewall: {instances', `firewall: {${of}, instances`);
  const simulation = await simulate(text, 5000, undefined, undefined, clock);
  const events: WeirEvent[] = [];
  simulation.dataplane.events.listen((event) => events.push(event));
  return { ...simulation, clock, events };
}

/** A millisecond at a time, with everything that JavaScript has to do in between. */
async function run({ network, clock }: Setup, ms: number, meanwhile: () => boolean = () => false): Promise<number> {
  for (let n = 1; n <= ms; n++) {
    network.advance(MS);
    clock.ms++;
    for (let turn = 0; turn < 6; turn++) await new Promise((resolve) => setImmediate(resolve));
    if (meanwhile()) return n;
  }
  return Infinity;
}

/** Addresses of firewalls that a packet visited. */
function visit({ network }: Setup, sourcePort: number): string[] {
  network.clear();
  network.inject(IN, udp({ sourcePort }));
  network.advance(MS);
  return network.sent(0).filter((frame) => frame.length > 42 && !isProbe(frame)).map((frame) => stampOf(frame).to).filter((to) => to.startsWith('10.20.0.1'));
}
const isProbe = (frame: Buffer): boolean => (frame.readUInt16BE(36) === 4790 ? ((frame[50] ?? 0) & 0x20) !== 0 : ((frame[43] ?? 0) & 0x80) !== 0);

const keyOf: Readonly<Record<string, string>> = { '10.20.0.11': 'firewall/fw-1', '10.20.0.12': 'firewall/fw-2' };

for (const encapsulation of ['nsh', 'geneve'] as const) {
  t.test(`${encapsulation}: probes of 10 ms find a dead instance within 50 ms; its streams go to the other one and stay there`, async (t) => {
    const it = await setup('health: {probe: true, interval: 10ms}', encapsulation);
    t.teardown(() => it.dataplane.stop());
    await run(it, 100);
    const [victim = ''] = visit(it, 40000);
    const other = victim === '10.20.0.11' ? '10.20.0.12' : '10.20.0.11';
    t.equal(it.dataplane.stateOf(keyOf[victim] ?? ''), 'up');
    it.network.instance(victim, () => []);
    const tookMs = await run(it, 100, () => it.dataplane.stateOf(keyOf[victim] ?? '') === 'down');
    t.ok(tookMs <= 45, `${tookMs} ms`);
    t.strictSame(visit(it, 40000), [other]);
    t.match(it.events.at(-1), { kind: 'instance', instance: keyOf[victim], state: 'down', cause: 'health: probe: no answer within 10 ms (3 in a row)' });

    it.network.instance(victim);
    const backMs = await run(it, 100, () => it.dataplane.stateOf(keyOf[victim] ?? '') === 'up');
    t.ok(backMs <= 30, `${backMs} ms`);
    t.strictSame(visit(it, 40000), [other], 'a stream that has moved does not move back');
    t.match(it.events.at(-1), { state: 'up', cause: 'health: answers' });
    t.equal(it.dataplane.generation, 1, 'editors are not disturbed');
  });
}

t.test('on_failure: hold waits for the instance, fail: closed and open when none is left', async (t) => {
  const held = await setup('on_failure: hold, health: {probe: true, interval: 10ms}');
  t.teardown(() => held.dataplane.stop());
  const [victim = ''] = visit(held, 40000);
  held.network.instance(victim, () => []);
  await run(held, 60);
  t.strictSame(visit(held, 40000), []);
  t.equal(held.network.counters().dropped['held'], 1);
  held.network.instance(victim);
  await run(held, 60);
  t.strictSame(visit(held, 40000), [victim]);

  for (const fail of ['closed', 'open'] as const) {
    const it = await setup(`fail: ${fail}, health: {probe: true, interval: 10ms}`);
    t.teardown(() => it.dataplane.stop());
    for (const address of Object.keys(keyOf)) it.network.instance(address, () => []);
    await run(it, 60);
    t.strictSame(visit(it, 40000), []);
    t.equal(it.network.sent(OUT).length, fail === 'open' ? 1 : 0, fail);
  }
});

t.test('what people set wins over health, and both are shown', async (t) => {
  const it = await setup('health: {probe: true, interval: 10ms}');
  t.teardown(() => it.dataplane.stop());
  await it.dataplane.setInstance('firewall', 'fw-1', 'down', null, 'test');
  await run(it, 60);
  const view = (): unknown => services(it.dataplane)[0]?.instances[0];
  t.match(view(), { state: 'down', set: 'down', health: { state: 'up', probes: { refused: 0 } } });
  it.network.instance('10.20.0.11', () => []);
  await run(it, 60);
  t.match(view(), { state: 'down', set: 'down', health: { state: 'down' } });
  await it.dataplane.setInstance('firewall', 'fw-1', 'up', null, 'test');
  t.match(view(), { state: 'down', set: 'up' });
  it.network.instance('10.20.0.11');
  await run(it, 60);
  t.match(view(), { state: 'up', set: 'up', health: { state: 'up', latencyMs: Number } });
  await it.dataplane.setInstance('firewall', 'fw-1', 'draining', null, 'test');
  it.network.instance('10.20.0.11', () => []);
  await run(it, 60);
  t.match(view(), { state: 'down', set: 'draining' }, 'a draining one that is dead keeps no stream waiting');
});

t.test('an answer that anybody could make up is none', async (t) => {
  const it = await setup('health: {probe: true, interval: 10ms}');
  t.teardown(() => it.dataplane.stop());
  await run(it, 60);
  it.network.instance('10.20.0.11', (frame) => {
    const forged = turnRound(frame);
    forged.writeUInt8((forged[forged.length - 1] ?? 0) ^ 1, forged.length - 1);
    return isProbe(frame) ? [forged] : [turnRound(frame)];
  });
  await run(it, 60);
  t.equal(it.dataplane.stateOf('firewall/fw-1'), 'down');
  const health = services(it.dataplane)[0]?.instances[0]?.health;
  t.ok((health?.probes?.refused ?? 0) >= 3, `${health?.probes?.refused} refused`);
});

t.test('a new instance gets streams when it has answered, not before', async (t) => {
  const it = await setup('health: {probe: true, interval: 10ms}');
  t.teardown(() => it.dataplane.stop());
  const { document } = { document: it.dataplane.configuration.source.document as { services: { firewall: { instances: object[] } } } };
  it.network.instance('10.20.0.13', () => []);
  const grown = structuredClone(document);
  grown.services.firewall.instances.push({ name: 'fw-3', address: '10.20.0.13', weight: 60_000 });
  await it.dataplane.apply(grown, {}, 'test');
  t.equal(it.dataplane.stateOf('firewall/fw-3'), 'down');
  await run(it, 20);
  t.not(visit(it, 41000)[0], '10.20.0.13');
  it.network.instance('10.20.0.13');
  const tookMs = await run(it, 100, () => it.dataplane.stateOf('firewall/fw-3') === 'up');
  t.ok(tookMs <= 30, `${tookMs} ms`);
  // Of a weight next to which the others' is nothing.
  t.ok([42000, 42001, 42002].some((port) => visit(it, port)[0] === '10.20.0.13'));
});

t.test('passive: an instance that swallows everything is taken out, and tried again', async (t) => {
  const it = await setup('health: {passive: {silent: 20, recheck: 1s}}');
  t.teardown(() => it.dataplane.stop());
  const [victim = ''] = visit(it, 40000);
  await run(it, 200);
  it.network.instance(victim, () => []);
  let sent = 0;
  const tookMs = await run(it, 3000, () => {
    it.network.inject(IN, udp({ sourcePort: 40000 }));
    sent++;
    it.dataplane.health.look();
    return it.dataplane.stateOf(keyOf[victim] ?? '') === 'down';
  });
  t.ok(sent >= 20 && tookMs < 1000, `${sent} packets, ${tookMs} ms`);
  t.match(it.events.at(-1), { cause: /^health: nothing returned for \d+ packets$/ });
  it.network.instance(victim);
  const backMs = await run(it, 2000, () => {
    it.dataplane.health.look();
    return it.dataplane.stateOf(keyOf[victim] ?? '') === 'up';
  });
  t.ok(backMs >= 990 && backMs < 1100, `${backMs} ms`);
});

t.test('shares follow the load, and no live stream ever moves for it', async (t) => {
  const it = await setup('placement: by_load');
  t.teardown(() => it.dataplane.stop());
  const first = new Map(Array.from({ length: 300 }, (_, i) => [20_000 + i, visit(it, 20_000 + i)[0]]));
  const report = (instance: string, cpu: number): void => void it.dataplane.placement.load.set(`firewall/${instance}`, { packetsPerSecond: null, bytesPerSecond: null, cpu, streams: null, queue: null }, 600_000);
  let swaps = 0;
  for (let second = 0; second < 30; second++) {
    report('fw-1', 80);
    report('fw-2', 20);
    it.clock.ms += 1000;
    const { program } = it.dataplane;
    await it.dataplane.upkeep(it.clock.ms);
    if (it.dataplane.program !== program) swaps++;
  }
  t.ok(swaps >= 1 && swaps <= 3, `${swaps} swaps in 30 s`);
  const [one, two] = services(it.dataplane)[0]?.instances ?? [];
  t.match(one, { weight: 1, load: { load: { cpu: 80 } } });
  t.ok((one?.factor ?? 1) < 0.3 && two?.factor === 1, `${one?.factor}`);
  for (const [port, address] of first) t.strictSame(visit(it, port), [address], `stream ${port} stays`);
  const fresh = Array.from({ length: 1000 }, (_, i) => visit(it, 30_000 + i)[0]).filter((address) => address === '10.20.0.11').length;
  t.ok(fresh < 250, `${fresh} of 1000 new streams at the busy one`);
  t.equal(it.dataplane.generation, 1);
});
