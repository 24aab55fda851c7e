/** `weir events` as people run it: past and new events one line each, an end by Ctrl-C, a lost connection. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import t from 'tap';
import { ControlServer } from '../../src/control/server.js';
import { steerAll } from '../support/configuration.js';
import { until } from '../support/lab.js';
import { simulate } from '../support/sim.js';

const directory = mkdtempSync(join(tmpdir(), 'weir-events-cli-'));
const path = join(directory, 'weir.sock');
const { dataplane } = await simulate(steerAll());
const server = await ControlServer.listen({ path, mode: 0o600, dataplane, log: pino({ level: 'silent' }), shutdown: () => undefined });
t.teardown(async () => {
  await dataplane.stop();
  rmSync(directory, { recursive: true });
});

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

interface Command {
  readonly child: ChildProcess;
  readonly lines: () => string[];
  readonly errors: () => string;
  readonly ended: Promise<number | null>;
}

function weir(...args: string[]): Command {
  const child = spawn(process.execPath, [MAIN, ...args, '--socket', path]);
  let out = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const ended = once(child, 'close').then(([code]) => code as number | null);
  t.teardown(() => child.kill('SIGKILL'));
  return { child, lines: () => out.split('\n').slice(0, -1), errors: () => errors, ended };
}

t.test('a wrong kind is refused with those there are', async (t) => {
  const { ended, errors } = weir('events', '--kinds', 'config,weather');
  t.equal(await ended, 2);
  t.match(errors(), /there is no kind "weather"; there are: config, path, instance/);
  const many = weir('events', '--last', '1000');
  t.equal(await many.ended, 2);
  t.match(many.errors(), /200 at most/);
});

t.test('past ones first, then new ones, one line each; Ctrl-C ends it', async (t) => {
  dataplane.events.emit({ kind: 'config', cause: 'first' });
  dataplane.events.emit({ kind: 'config', cause: 'second' });
  const follow = weir('events', '--last', '2');
  const json = weir('events', '--kinds', 'instance', '--json', '--last', '0');
  await until('the past events', () => follow.lines().length === 2);
  // Its subscription shows in nothing it prints: it has one when it hears of a change.
  await until('an event for the other', async () => {
    await dataplane.setInstance('ids', 'ids-1', 'draining', null, 'test');
    return json.lines().length > 0;
  });
  await until('new events', () => follow.lines().length > 2);
  const [first, second, third] = follow.lines();
  t.match(first, /^\S+Z {2}g1 {4}config {4}first {2}\(weir\)$/);
  t.match(second, /config {4}second {2}\(weir\)$/);
  t.match(third, /g2 {4}instance {2}ids\/ids-1 is now draining {2}\(test\)$/);
  t.match(JSON.parse(json.lines()[0] ?? ''), { kind: 'instance', instance: 'ids/ids-1', state: 'draining', cause: 'set', who: { name: 'test', uid: null } });
  follow.child.kill('SIGINT');
  json.child.kill('SIGTERM');
  t.equal(await follow.ended, 0);
  t.equal(await json.ended, 0);
  t.equal(follow.errors() + json.errors(), '');
});

t.test('who closes the pipe ends it too', async (t) => {
  const { child, lines, ended, errors } = weir('events', '--last', '1');
  await until('a line', () => lines().length > 0);
  child.stdout?.destroy();
  await until('the end', () => {
    dataplane.events.emit({ kind: 'config', cause: 'nobody hears this' });
    return child.exitCode !== null;
  });
  t.equal(await ended, 0, errors());
});

t.test('a connection that ends says so', async (t) => {
  const { lines, ended, errors } = weir('events', '--last', '1');
  await until('a line', () => lines().length > 0);
  await server.close();
  t.equal(await ended, 1);
  t.match(errors(), /^the connection is lost: weir ended, or cut it/);
});
