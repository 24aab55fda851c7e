/** `npm run sim -- --seeds N [--first SEED] [--events N] [--fault NAME]`: lives of a mesh, one a seed. Ends with 1 when one went wrong. */
import { parseArgs } from 'node:util';
import type { Fault } from '../../../src/mesh/sync/state-sync.js';
import { eventsOf } from './events.js';
import { shrink } from './shrink.js';
import { simulate } from './simulation.js';

const { values } = parseArgs({ options: { seeds: { type: 'string', default: '100' }, first: { type: 'string', default: '1' }, events: { type: 'string', default: '1000' }, fault: { type: 'string' } } });
const [first, seeds, count] = [Number(values.first), Number(values.seeds), Number(values.events)];
const fault = values.fault as Fault | undefined;
const begin = performance.now();
let [packets, delivered, failures] = [0, 0, 0];
for (let seed = first; seed < first + seeds; seed++) {
  const events = eventsOf(seed, count);
  const outcome = simulate(seed, events, fault);
  packets += outcome.packets;
  delivered += outcome.delivered;
  failures += outcome.failures;
  if (outcome.violation === null) continue;
  console.log(`seed ${seed}: ${outcome.violation} (after ${outcome.atMs} ms)`);
  const fewest = shrink(events, (some) => simulate(seed, some, fault).violation !== null);
  console.log(`${fewest.length} of ${events.length} events are enough: ${simulate(seed, fewest, fault).violation}`);
  for (const { atMs, event } of fewest) console.log(`  ${String(atMs).padStart(7)} ms  ${JSON.stringify(event)}`);
  process.exitCode = 1;
  break;
}
if (process.exitCode !== 1) console.log(`${seeds} seeds of ${count} events from ${first} on: nothing went wrong. ${packets} packets, ${delivered} arrived, ${failures} instances killed; ${((performance.now() - begin) / 1000).toFixed(0)} s.`);
