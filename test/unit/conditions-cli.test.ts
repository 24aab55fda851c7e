import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { pino } from 'pino';
import t from 'tap';
import { showConditions } from '../../src/cli/conditions.js';
import type { ConditionsView } from '../../src/conditions/view.js';
import { ControlClient } from '../../src/control/client.js';
import { ControlServer } from '../../src/control/server.js';
import { steerAll } from '../support/configuration.js';
import { at, VirtualClock } from '../support/conditions.js';
import { simulate } from '../support/sim.js';

const run = promisify(execFile);
const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), 'weir-conditions-'));
const path = join(directory, 'weir.sock');
const clock = new VirtualClock(at('2026-06-15T20:30:00Z'));
const { dataplane } = await simulate(
  steerAll(
    'nsh',
    `switches: {incident: off}
configurations:
  incident: {priority: 9, when: {switch: incident}, policies: []}
  busy:
    priority: 5
    when: {any: [{load: {service: ids, cpu: {above: 80}}, for: 30s, until: {below: 50}}, {not: {healthy: {service: ids, above: 1}}}]}
    policies: [{name: all, match: {}, action: pass}]
  night: {when: {time: {days: mon-fri, hours: 22:00-06:00, zone: Europe/Berlin}}, policies: [{name: all, match: {}, action: drop}]}
`,
  ),
  1000,
  undefined,
  undefined,
  clock,
);
const server = await ControlServer.listen({ path, mode: 0o600, dataplane, log: pino({ level: 'silent' }), shutdown: () => undefined });
t.teardown(async () => {
  await server.close();
  await dataplane.stop();
  rmSync(directory, { recursive: true });
});

async function weir(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const environment = { ...process.env, TZ: 'UTC' };
  return run(process.execPath, [main, '--socket', path, ...words], { env: environment }).then(
    ({ stdout, stderr }) => ({ code: 0, out: stdout, err: stderr }),
    (error: { code: number; stdout: string; stderr: string }) => ({ code: error.code, out: error.stdout, err: error.stderr }),
  );
}

t.test('conditions: each with its value, since when, and what comes next', async (t) => {
  await dataplane.upkeep();
  const client = await ControlClient.connect(path);
  const view = await client.call<ConditionsView>('conditions');
  client.close();
  t.match(view, {
    inForce: 'night',
    since: '2026-06-15T20:30:00.000Z',
    cause: 'night holds: time mon-fri 22:00-06:00 Europe/Berlin',
    next: { at: '2026-06-16T04:00:00.000Z', inForce: null },
    switches: [{ name: 'incident', on: false, since: null }],
    configurations: [
      { name: 'incident', holds: false, conditions: [{ path: 'when', condition: 'switch incident', next: { at: null, what: 'weir condition switch incident on' } }] },
      {
        name: 'busy',
        holds: null,
        conditions: [
          { path: 'when', level: 0, condition: 'any of' },
          { path: 'when.any[0]', level: 1, condition: 'load of ids above 80 % cpu for 30s until below 50', value: null, unit: '% cpu', holds: null, next: { what: 'nothing reports it' } },
          { path: 'when.any[1]', condition: 'not', holds: false },
          { path: 'when.any[1].not', level: 2, condition: 'healthy instances of ids above 1', value: 2, holds: true, next: { what: 'ends when no longer above 1' } },
        ],
      },
      { name: 'night', holds: true, inForce: true, since: '2026-06-15T20:00:00.000Z', conditions: [{ next: { at: '2026-06-16T04:00:00.000Z', what: 'window ends' } }] },
    ],
  });
});

t.test('weir conditions, weir condition switch', async (t) => {
  const table = await weir('conditions');
  t.equal(table.code, 0, table.err);
  t.match(table.out, /^in force: configuration night, since 2026-06-15 20:30:00 \(night holds: /);
  t.match(table.out, /next: the policies at the top level at 2026-06-16 04:00:00/);
  t.match(table.out, /load of ids above 80 % cpu for 30s until below 50 +unknown +unknown/);
  t.match(table.out, /night \* +0 +yes/);
  const turned = await weir('condition', 'switch', 'incident', 'on');
  t.match(turned.out, /^generation 2: switch incident is now on \(/);
  t.match(JSON.parse((await weir('conditions', '--json')).out), { inForce: 'incident', switches: [{ on: true, since: '2026-06-15T20:30:00.000Z' }] });
  t.match(await weir('condition', 'switch', 'nope', 'on'), { code: 1, err: /there is no switch "nope"; there are: incident/ });
  t.match(await weir('condition', 'switch', 'incident', 'maybe'), { code: 2, err: /Allowed choices are on, off/ });
  t.match((await weir('condition', 'switch', 'incident', 'off')).out, /^generation 3/);
});

t.test('a configuration without conditions says so', async (t) => {
  const text = showConditions({ inForce: null, since: '2026-06-15T20:30:00.000Z', cause: 'start', next: null, switches: [], configurations: [] });
  t.match(text, /in force: the policies at the top level.*\nnext: nothing by time alone\n\nthe configuration has no named configurations/);
});
