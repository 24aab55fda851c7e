/** `kill -9` of a real `weir run` in the middle of its changes, under traffic: each start comes up with the state before or after, whole. */
import { join } from 'node:path';
import t from 'tap';
import { ControlClient } from '../../src/control/client.js';
import { placeOf, tally, type Place } from '../support/crash-place.js';
import { random } from '../support/editors.js';
import { HttpLoad, failures } from '../support/http-load.js';
import { Lab, ROOT } from '../support/lab.js';

const KILLS = Number(process.env['WEIR_KILLS'] ?? 15);
const SEED = Number(process.env['WEIR_SEED'] ?? Date.now() % 1_000_000);
const POLICIES = 300;
const MOST_MS = 120;
/** On a machine that has other things to do, fewer kills are no reason to fail. */
const MOST_SECONDS = 60;

const lab = await Lab.up();
t.teardown(() => lab.down());
await lab.nodes('pass', ['fw1', 'fw2', 'ids1', 'ids2']);

/** What edit `n` leaves: a mix of two would be seen. */
const policiesOf = (n: number): object[] => [
  ...Array.from({ length: POLICIES }, (_, i) => ({ name: `e${n}-${i}`, match: { protocol: 'tcp', destination_port: 1 + i, source: `192.0.2.${n & 255}` }, action: 'drop' })),
  { name: 'all', match: {}, chain: 'inspect' },
];

/** The edit whose policies these are, or null for a mix. */
function editOf(policies: readonly { readonly name: string }[]): number | null {
  const edit = Number(/^e(\d+)-0$/.exec(policies[0]?.name ?? '')?.[1] ?? -1);
  const whole = policies.length === POLICIES + 1 && policies.every(({ name }, i) => name === (i === POLICIES ? 'all' : `e${edit}-${i}`));
  return whole ? edit : null;
}

await t.test(`${KILLS} kills of a weir that steers`, { timeout: 280_000 }, async (t) => {
  t.comment(`seed ${SEED}`);
  const dice = random(SEED);
  const file = lab.config();
  const start = (): ReturnType<Lab['start']> => lab.start('fwd', [process.execPath, join(ROOT, 'dist/cli/main.js'), 'run', '--config', file], /"msg":"ready"/);
  let weir = await start();
  const load = await HttpLoad.serve(lab);
  const requests = await load.start(50, SEED);
  let edit = 0;
  const places: Place[] = [];
  const end = Date.now() + MOST_SECONDS * 1000;
  for (let kill = 0; kill < KILLS && Date.now() < end; kill++) {
    const client = await ControlClient.connect(lab.socket);
    const first = await client.call<{ generation: number }>('config.patch', { patch: { policies: policiesOf(++edit) } });
    let acknowledged = { edit, generation: first.generation };
    const killed = new Promise<void>((done) => setTimeout(() => void weir.stop('SIGKILL').then(() => done()), dice() * MOST_MS));
    // Until the connection is lost.
    for (let lost = false; !lost; ) {
      await client.call<{ generation: number }>('config.patch', { patch: { policies: policiesOf(edit + 1) } }).then(
        ({ generation }) => (acknowledged = { edit: ++edit, generation }),
        () => (lost = true),
      );
    }
    await killed;
    const left = (newer: boolean): Place => placeOf(join(lab.directory, 'state'), newer);
    const before = left(false);
    weir = await start();
    const again = await ControlClient.connect(lab.socket);
    const { generation, document } = await again.call<{ generation: number; document: { policies: { name: string }[] } }>('config.get');
    again.close();
    const came = editOf(document.policies);
    const newer = came === acknowledged.edit + 1;
    places.push(newer && before === 'before it was written' ? left(true) : before);
    t.ok((came === acknowledged.edit && generation === acknowledged.generation) || (newer && generation === acknowledged.generation + 1), `kill ${kill + 1}: acknowledged edit ${acknowledged.edit} (generation ${acknowledged.generation}), came up with ${came ?? 'a mix'} (${generation})`);
    edit = came ?? edit;
  }
  const answered = requests.completed();
  t.match(await lab.ping('wl', '10.2.0.2'), / 0% packet loss/, 'and it steers');
  const report = await requests.stop();
  t.ok(report.completed > answered);
  // TCP outlives the gaps: what was sent in one is sent again. On a slow machine weir is away for most of the time, and some give up.
  t.equal(failures(report) - report.failed.timeout, 0, `${report.completed} of ${report.opened} connections answered, ${report.over1s} of them late: ${JSON.stringify(report.failed)}`);
  t.comment(`${edit} edits; killed: ${tally(places)}`);
  await weir.stop();
});
