import t, { type Test } from 'tap';
import type { Dataplane } from '../../src/dataplane/dataplane.js';
import type { WeirEvent } from '../../src/observe/events.js';
import { FRESH, type SavedState } from '../../src/state/state.js';
import { steerAll } from '../support/configuration.js';
import { at, VirtualClock } from '../support/conditions.js';
import { stampOf, udp } from '../support/packets.js';
import { simulate, type Simulation } from '../support/sim.js';

const IN = 1;
const OUT = 2;
const MS = 1_000_000n;

/** By default nothing crosses: a stream that meets neither the old policies nor the new ones would be dropped. */
const YAML = steerAll(
  'nsh',
  `default: drop
switches: {maintenance: off}
configurations:
  maintenance: {priority: 10, when: {switch: maintenance}, policies: [{name: short, match: {}, chain: other}]}
  night: {when: {time: {hours: 22:00-06:00, zone: Europe/Berlin}}, policies: [{name: closed, match: {}, action: pass}]}
  crowded: {priority: 5, when: {streams: {above: 3}}, damping: off, policies: [{name: all, match: {}, chain: other}]}
  few: {priority: 20, when: {healthy: {service: firewall, below: 2}}, policies: []}
`,
).replace('chains: {', 'chains: {other: [added], ');

const serviceOf = (address: string): string => ({ '1': 'firewall', '2': 'ids', '3': 'added' })[address.split('.')[3]?.[0] ?? ''] ?? '?';

/** Services that a packet visited, `pass` if it crossed unchanged, `drop` if it is gone. */
function send({ network }: Simulation, sourcePort: number): string {
  network.clear();
  network.inject(IN, udp({ sourcePort }));
  network.advance(MS);
  const visited = network.sent(0).map((frame) => serviceOf(stampOf(frame).to));
  return network.sent(OUT).length === 0 ? 'drop' : visited.join(' ') || 'pass';
}

async function start(t: Test, iso: string): Promise<Simulation & { clock: VirtualClock }> {
  const clock = new VirtualClock(at(iso));
  const simulation = await simulate(YAML, 1000, undefined, undefined, clock);
  t.teardown(() => simulation.dataplane.stop());
  return { ...simulation, clock };
}

const policiesOf = ({ program, ids }: Dataplane): (string | undefined)[] => {
  const view = new DataView(program.rules.buffer, program.rules.byteOffset);
  return Array.from({ length: program.rules.length / 64 }, (_, i) => ids.policies.name(view.getUint32(i * 64 + 56, true)));
};

t.test('a switch replaces the policies in one swap: every new stream meets the old ones or the new ones, whole', async (t) => {
  const simulation = await start(t, '2026-06-15T12:00:00Z');
  const { dataplane } = simulation;
  let port = 20_000;
  for (let turn = 0; turn < 50; turn++) {
    const on = turn % 2 === 0;
    const [before, after] = on ? ['firewall ids', 'added'] : ['added', 'firewall ids'];
    let done = false;
    const change = dataplane.setSwitch('maintenance', on, 'test').then(() => (done = true));
    const seen: string[] = [];
    while (!done) {
      seen.push(send(simulation, port++));
      await Promise.resolve();
    }
    await change;
    seen.push(send(simulation, port++));
    const first = seen.indexOf(after ?? '');
    t.ok(seen.every((way, i) => way === (i < first ? before : after)), `turn ${turn}: ${[...new Set(seen)].join(', then ')}`);
    t.strictSame(policiesOf(dataplane), on ? ['short'] : ['all']);
    t.equal(dataplane.generation, turn + 2);
    // Streams of one turn may count as crowd in the next: let them go.
    simulation.network.advance(200_000n * MS);
  }
});

t.test('live streams stay what they are when policies switch', async (t) => {
  const simulation = await start(t, '2026-06-15T12:00:00Z');
  t.equal(send(simulation, 30_000), 'firewall ids');
  await simulation.dataplane.setSwitch('maintenance', true, 'test');
  t.equal(send(simulation, 30_000), 'firewall ids');
  t.equal(send(simulation, 30_001), 'added');
});

t.test('a window opens at its instant, with a generation, an event and a cause', async (t) => {
  const simulation = await start(t, '2026-06-15T19:59:59.999Z');
  const { dataplane, clock } = simulation;
  const events: WeirEvent[] = [];
  dataplane.events.listen((event) => events.push(event));
  await dataplane.upkeep();
  t.equal(send(simulation, 31_000), 'firewall ids');
  clock.ms += 1;
  await dataplane.upkeep();
  t.equal(send(simulation, 31_001), 'pass');
  t.equal(dataplane.generation, 2);
  const cause = 'night holds: time 22:00-06:00 Europe/Berlin';
  t.match(events, [{ kind: 'condition', cause, variant: 'night', active: true, generation: 2, who: { name: 'weir' } }]);
  await dataplane.upkeep();
  t.equal(dataplane.generation, 2, 'nothing more to do');
  clock.ms = at('2026-06-16T04:00:00Z');
  await dataplane.upkeep();
  t.match(events[1], { cause: 'night ended: time 22:00-06:00 Europe/Berlin', variant: 'night', active: false, generation: 3 });
  t.equal(dataplane.inForce, dataplane.configuration);
});

t.test('at the start, and after an edit, the right policies are in force from the first packet on', async (t) => {
  const simulation = await start(t, '2026-06-15T23:00:00Z');
  const { dataplane } = simulation;
  t.equal(send(simulation, 32_000), 'pass');
  t.equal(dataplane.conditions.inForce.variant?.name, 'night');
  await dataplane.edit((document) => ({ ...document, configurations: { night: { when: { not: { switch: 'maintenance' } }, policies: [{ name: 'no', match: {}, action: 'drop' }] } } }), {}, 'test');
  t.equal(send(simulation, 32_001), 'drop');
  await dataplane.edit((document) => ({ ...document, configurations: {} }), {}, 'test');
  t.equal(send(simulation, 32_002), 'firewall ids');
  t.equal(dataplane.conditions.inForce.variant, null);
});

t.test('what time alone decides is done at its instant, not at the next look a second later', async (t) => {
  const took = async (): Promise<number> => {
    const begun = Date.now();
    const { dataplane } = await simulate(steerAll('nsh', 'switches: {no: off}\nconfigurations: {soon: {when: {not: {switch: no}, for: 1100ms}, policies: []}}'));
    const alive = setInterval(() => undefined, 1000); // the dataplane's own timers keep no process alive
    await new Promise<void>((resolve) => dataplane.events.listen((event) => void (event.kind === 'condition' && resolve())));
    clearInterval(alive);
    await dataplane.stop();
    return Date.now() - begun;
  };
  // A machine with other things to do may be late once; a look a second later is so each time.
  const after: number[] = [];
  while (after.length < 3 && !after.some((ms) => ms < 1900)) after.push(await took());
  t.ok(after.every((ms) => ms >= 1100) && after.some((ms) => ms < 1900), `after ${after.join(', ')} ms`);
});

t.test('switches outlive a restart', async (t) => {
  const saved: SavedState[] = [];
  const keeper = { prepare: (state: SavedState) => (saved.push(state), Promise.resolve({ commit: () => Promise.resolve(), discard: () => Promise.resolve() })) };
  const clock = new VirtualClock(at('2026-06-15T12:00:00Z'));
  const first = await simulate(YAML, 1000, undefined, { ...FRESH, keeper }, clock);
  await first.dataplane.setSwitch('maintenance', true, 'test');
  await first.dataplane.stop();
  const second = await simulate(YAML, 1000, undefined, { ...FRESH, switches: saved.at(-1)?.switches }, clock);
  t.teardown(() => second.dataplane.stop());
  t.equal(send(second, 35_000), 'added');
  await second.dataplane.setSwitch('maintenance', false, 'test');
  t.equal(send(second, 35_001), 'firewall ids');
});

t.test('a refused edit leaves the configuration in force where it is', async (t) => {
  const { dataplane } = await start(t, '2026-06-15T23:00:00Z');
  const wrong = (document: object): object => ({ ...document, configurations: { night: { when: { switch: 'nope' }, policies: [] } } });
  await t.rejects(dataplane.edit(wrong, {}, 'test'), /there is no switch "nope"/);
  await t.rejects(dataplane.setSwitch('nope', true, 'test'), /there is no switch "nope"; there are: maintenance/);
  await dataplane.upkeep();
  t.match([dataplane.generation, dataplane.conditions.inForce.variant?.name], [1, 'night']);
});

t.test('a swap that fails leaves the switch where it was, and is made at the next turn', async (t) => {
  const { dataplane, network } = await start(t, '2026-06-15T12:00:00Z');
  const install = network.install.bind(network);
  network.install = () => Promise.reject(new Error('no'));
  await t.rejects(dataplane.setSwitch('maintenance', true, 'test'), /no/);
  t.match([dataplane.generation, policiesOf(dataplane), dataplane.conditions.pending], [1, ['all'], null]);
  network.install = install;
  await dataplane.setSwitch('maintenance', true, 'test');
  t.strictSame(policiesOf(dataplane), ['short']);
});

t.test('what is measured decides: live streams, healthy instances', async (t) => {
  const simulation = await start(t, '2026-06-15T12:00:00Z');
  const { dataplane, clock } = simulation;
  for (let port = 33_000; port < 33_004; port++) send(simulation, port);
  clock.ms += 1000;
  await dataplane.upkeep();
  t.equal(send(simulation, 33_010), 'added');
  await dataplane.setInstance('firewall', 'fw-1', 'down', null, 'test');
  clock.ms += 1000;
  await dataplane.upkeep();
  t.equal(send(simulation, 33_011), 'drop', 'no policy at all, and the default');
  t.strictSame(policiesOf(dataplane), []);
});

t.test('a rate is known from the second look on, and a service that loses an instance has none below 0', async (t) => {
  const clock = new VirtualClock(at('2026-06-15T12:00:00Z'));
  const yaml = steerAll('nsh', 'configurations: {busy: {when: {load: {service: ids, packets_per_second: {above: 9}}}, policies: []}}');
  const simulation = await simulate(yaml, 1000, undefined, undefined, clock);
  const { dataplane } = simulation;
  t.teardown(() => dataplane.stop());
  const value = async (): Promise<number | null> => {
    await dataplane.upkeep();
    const state = dataplane.conditions.stateOf(dataplane.configuration.configurations[0] as never);
    return state?.value ?? null;
  };
  for (let port = 34_000; port < 34_040; port++) send(simulation, port);
  t.equal(await value(), null);
  for (let port = 34_040; port < 34_060; port++) send(simulation, port);
  clock.ms += 100;
  t.equal(await value(), null, 'too soon for a rate');
  clock.ms += 1900;
  t.equal(await value(), 10);
  t.equal(dataplane.conditions.inForce.variant?.name, 'busy');
  await dataplane.edit((document) => ({ ...document, services: { ...(document['services'] as object), ids: { instances: [{ name: 'ids-1', address: '10.20.0.21' }] } } }), {}, 'test');
  clock.ms += 1000;
  t.ok(((await value()) ?? -1) >= 0);
});
