/** What a service manager hears: read back from a real datagram socket, as systemd's. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { Supervision, type Predecessor } from '../../src/cli/supervision.js';
import { native } from '../../src/dataplane/native.js';
import { ServiceManager } from '../../src/supervise/service-manager.js';
import { Watchdog, successorInterval, watchdogInterval } from '../../src/supervise/watchdog.js';
import { steerAll } from '../support/configuration.js';
import { ROOT, until } from '../support/lab.js';
import { simulate } from '../support/sim.js';

const directory = mkdtempSync(join(tmpdir(), 'weir-notify-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const log = pino({ level: 'silent' });

async function manager(name: string): Promise<{ heard: () => [pid: number, text: string][]; end: () => void }> {
  const child = spawn('python3', [join(ROOT, 'test/support/service-manager.py'), name], { stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  await until('the listener', () => out.includes('ready'));
  return { heard: () => out.split('\n').filter((line) => line.startsWith('[')).map((line) => JSON.parse(line) as [number, string]), end: () => child.kill() };
}

for (const name of [join(directory, 'notify'), `@weir-notify-${process.pid}`]) {
  t.test(`messages arrive, each whole and from this process: ${name[0] === '@' ? 'abstract name' : 'path'}`, async (t) => {
    const { heard, end } = await manager(name);
    const environment: NodeJS.ProcessEnv = { NOTIFY_SOCKET: name };
    const told = ServiceManager.fromEnvironment(environment, log);
    t.strictSame(environment, {}, 'what weir starts is not told of it');
    told.ready('generation 1,\n0 streams');
    told.alive('all is well');
    told.reloading();
    told.stopping('SIGTERM');
    await until('four messages', () => heard().length === 4);
    end();
    t.ok(heard().every(([pid]) => pid === process.pid));
    const texts = heard().map(([, text]) => text);
    t.equal(texts[0], `READY=1\nMAINPID=${process.pid}\nSTATUS=generation 1, 0 streams`);
    t.equal(texts[1], 'WATCHDOG=1\nSTATUS=all is well');
    t.match(texts[2], /^RELOADING=1\nMONOTONIC_USEC=[0-9]+$/);
    t.equal(texts[3], 'STOPPING=1\nSTATUS=SIGTERM');
  });
}

t.test('without a manager nothing is said, with one that is gone it is logged once', async (t) => {
  const said: string[] = [];
  const noting = pino({}, { write: (line) => void said.push(line) });
  ServiceManager.fromEnvironment({}, noting).ready('x');
  t.strictSame(said, []);
  const gone = ServiceManager.fromEnvironment({ NOTIFY_SOCKET: join(directory, 'gone') }, noting);
  gone.ready('x');
  gone.alive('x');
  t.equal(said.length, 1);
  t.match(said[0], /No such file or directory/);
  for (const wrong of ['relative', `/${'x'.repeat(200)}`, '']) t.equal(native.notify(wrong, 'READY=1'), 'Invalid argument', wrong);
});

t.test('the watchdog is told three times in the time that it waits', async (t) => {
  t.equal(watchdogInterval({ WATCHDOG_USEC: '9000000' }), 3000);
  t.equal(watchdogInterval({ WATCHDOG_USEC: '9000000', WATCHDOG_PID: String(process.pid) }), 3000);
  t.equal(watchdogInterval({ WATCHDOG_USEC: '9000000', WATCHDOG_PID: '1' }), null, 'meant for another process');
  t.equal(watchdogInterval({ WATCHDOG_USEC: '1000' }), 200, 'not faster than an idle worker turns');
  for (const none of [{}, { WATCHDOG_USEC: '' }, { WATCHDOG_USEC: '0' }, { WATCHDOG_USEC: 'soon' }]) t.equal(watchdogInterval(none), null);
});

t.test('after a takeover the watchdog is told as often as before: systemd says its time only to the process that it starts as the main one', async (t) => {
  t.equal(successorInterval({}, 333), 333, 'as the one before handed on');
  t.equal(successorInterval({ WATCHDOG_USEC: '9000000' }, 333), 3000, 'what systemd says to it counts more');
  t.equal(successorInterval({}, null), null, 'the one before had none');
  t.equal(successorInterval({}, undefined), 1000, 'the one before did not say');
  const { dataplane } = await simulate(steerAll());
  t.teardown(() => dataplane.stop());
  const supervised = async (name: string, predecessor: Predecessor | null): Promise<{ heard: () => string[]; stop: () => void }> => {
    const { heard, end } = await manager(join(directory, name));
    process.env['NOTIFY_SOCKET'] = join(directory, name);
    const supervision = await Supervision.start(dataplane, 'weir.yaml', log, predecessor);
    supervision.ready();
    return { heard: () => heard().map(([, text]) => text.split('\n')[0] ?? ''), stop: () => (supervision.stopping('SIGTERM'), end()) };
  };
  t.equal(process.env['WATCHDOG_USEC'], undefined);
  const first = await supervised('first', null);
  const next = await supervised('next', { watchdogMs: 300 });
  await until('it to be told again and again', () => next.heard().length >= 4);
  t.strictSame(next.heard().slice(0, 4), ['READY=1', 'WATCHDOG=1', 'WATCHDOG=1', 'WATCHDOG=1']);
  t.notOk(first.heard().includes('WATCHDOG=1'), 'who was started without a watchdog has none');
  first.stop();
  next.stop();
  const alone = await Supervision.start(dataplane, 'weir.yaml', log, { watchdogMs: 300 });
  alone.ready();
  alone.stopping('without a manager there is nothing to tell');
});

t.test('a worker that does not move stops it, and moving again lets it go on', async (t) => {
  let turns = [1, 1];
  let told = 0;
  const said: { level: number; msg: string }[] = [];
  const watchdog = new Watchdog({ beats: () => turns, alive: () => told++ }, pino({}, { write: (line) => void said.push(JSON.parse(line) as { level: number; msg: string }) }));
  const look = (next: number[]): number => {
    turns = next;
    watchdog.look();
    return told;
  };
  t.equal(look([1, 1]), 1, 'the first look has nothing to compare with');
  t.equal(look([2, 9]), 2);
  t.equal(look([3, 9]), 2, 'worker 1 stands still');
  t.equal(look([4, 9]), 2);
  t.equal(look([5, 10]), 3);
  t.strictSame(said.map(({ level, msg }) => [level, msg]), [
    [50, 'worker 1 does not move: the watchdog is not told that all is well until it does'],
    [30, 'every worker moves again'],
  ]);
  const alone = new Watchdog({ beats: () => [], alive: () => told++ }, log);
  alone.look();
  alone.look();
  t.equal(told, 5, 'without threads the timer itself is the proof');
});
