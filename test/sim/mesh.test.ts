/** Lives of a mesh, one a seed: nothing that was promised is broken, and what is broken on purpose is found. `npm run sim -- --seeds 10000` has more. */
import t from 'tap';
import type { Fault } from '../../src/mesh/sync/state-sync.js';
import { eventsOf, type Timed } from './mesh/events.js';
import { shrink } from './mesh/shrink.js';
import { simulate, type Outcome } from './mesh/simulation.js';

const SEEDS = Number(process.env['WEIR_SIM_SEEDS'] ?? 6);
const EVENTS = 1000;
/**
 * Lives that went wrong once: streams lost a service that their chain no longer had; and, wrongly judged, a stream's first packet went to an
 * instance that had just been given up, by a node that did not know yet.
 */
const KEPT = [1510, 1806, 1_000_312, 1_000_933];
/** Of each bug that is put in on purpose. */
const MOST_SEEDS = 200;

t.test(`${SEEDS} seeds of ${EVENTS} events: packets meet their services in order, one instance of each until it is given up, and nothing that left is forgotten`, async (t) => {
  let [delivered, packets, failures] = [0, 0, 0];
  for (let seed = 1; seed <= SEEDS; seed++) {
    const outcome = simulate(seed, eventsOf(seed, EVENTS));
    if (outcome.violation !== null) t.fail(`seed ${seed}: ${outcome.violation} (npm run sim -- --first ${seed} --seeds 1)`);
    delivered += outcome.delivered;
    packets += outcome.packets;
    failures += outcome.failures;
  }
  t.ok(delivered > packets / 2, `${delivered} of ${packets} packets arrived`);
  t.ok(failures > SEEDS / 2, `${failures} instances were killed`);
});

t.test(`seeds ${KEPT.join(', ')}, which went wrong once, do no more`, async (t) => {
  for (const seed of KEPT) t.equal(simulate(seed, eventsOf(seed, EVENTS)).violation, null);
});

t.test('instances that are killed one after the other, again and again: a stream stays on its path, and nothing of it is forgotten', async (t) => {
  for (let seed = 1; seed <= 3; seed++) {
    const events: Timed[] = [];
    for (let kill = 0; kill < 9; kill++) {
      const [atMs, node] = [2000 + kill * 2600, `b/b${(kill % 3) + 1}`];
      events.push({ atMs, event: { kind: 'kill', node } }, { atMs: atMs + 300, event: { kind: 'restart', node } });
    }
    // And some only do not answer for a while: they begin anew in the same process.
    for (let stall = 0; stall < 9; stall++) events.push({ atMs: 3300 + stall * 2600, event: { kind: 'stall', node: `a/a${(stall % 3) + 1}`, ms: 300 } });
    for (let atMs = 500; atMs < 27_000; atMs += 25) events.push({ atMs, event: { kind: 'packet', stream: (atMs / 25) % 8, answer: atMs % 3 === 0 } });
    events.sort((x, y) => x.atMs - y.atMs);
    const { violation, mostPaths, delivered, packets } = simulate(seed, events);
    t.equal(violation, null, `seed ${seed}`);
    t.equal(mostPaths, 1);
    t.ok(delivered > packets * 0.7, `${delivered} of ${packets} packets arrived`);
  }
});

t.test('the same seed is the same life', async (t) => {
  const life = (): Outcome => simulate(77, eventsOf(77, 300));
  t.strictSame(life(), life());
});

for (const fault of ['skip_one_sync', 'use_the_old_map', 'acknowledge_early'] as const satisfies readonly Fault[]) {
  t.test(`a node that does "${fault}" is found out, with few events that lead to it`, async (t) => {
    for (let seed = 1; seed <= MOST_SEEDS; seed++) {
      const events = eventsOf(seed, EVENTS);
      if (simulate(seed, events, fault).violation === null) continue;
      const fewest = shrink(events, (some) => simulate(seed, some, fault).violation !== null, 15);
      t.ok(fewest.length < events.length, `found with seed ${seed}; ${fewest.length} of ${events.length} events are left after 15 tries`);
      return;
    }
    t.fail(`not found within ${MOST_SEEDS} seeds`);
  });
}
