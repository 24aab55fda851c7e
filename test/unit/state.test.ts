import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { loadConfiguration } from '../../src/config/load.js';
import type { Configuration } from '../../src/config/configuration.js';
import { chooseStart, type Start } from '../../src/state/start.js';
import type { SavedState } from '../../src/state/state.js';
import { StateStore } from '../../src/state/store.js';
import { steerAll } from '../support/configuration.js';
import { simulate } from '../support/sim.js';

const WHO = 'a test';
const scratch = mkdtempSync(join(tmpdir(), 'weir-state-'));
t.teardown(() => rmSync(scratch, { recursive: true, force: true }));
let made = 0;

interface Place {
  readonly directory: string;
  readonly file: string;
  readonly store: StateStore;
  readonly given: () => Configuration;
  /** What a start with this file says in its log, and what it comes up with. */
  readonly start: (forceConfig?: boolean) => Start & { readonly said: string };
}

function place(more = ''): Place {
  const directory = join(scratch, String(++made));
  mkdirSync(directory);
  const file = join(directory, 'weir.yaml');
  writeFileSync(file, steerAll('nsh', `state_dir: ${join(directory, 'state')}\n${more}`));
  const given = (): Configuration => {
    const loaded = loadConfiguration(file);
    if (!loaded.ok) throw new Error(JSON.stringify(loaded.errors));
    return loaded.configuration;
  };
  const start = (forceConfig = false): Start & { said: string } => {
    const said: string[] = [];
    const log = { info: (...args: unknown[]) => void said.push(String(args.at(-1))), warn: (...args: unknown[]) => void said.push(String(args.at(-1))) };
    return { ...chooseStart(given(), file, { forceConfig }, log as never), said: said.join('\n') };
  };
  return { directory, file, store: new StateStore(join(directory, 'state')), given, start };
}

/** The file is as old as this many seconds. */
const age = (file: string, seconds: number): void => utimesSync(file, Date.now() / 1000 - seconds, Date.now() / 1000 - seconds);

async function keep(store: StateStore, state: SavedState): Promise<void> {
  store.open();
  await (await store.prepare(state)).commit();
}

t.test('changes are kept: a restart comes up with document, generation and instance states', async (t) => {
  const { file, start, store } = place();
  const first = start();
  t.match(first.said, /starting from .*weir.yaml: there is no state in/);
  const { dataplane } = await simulate(first.configuration, 16, undefined, first.origin);
  t.ok(existsSync(store.file), 'what it starts with is kept too');
  await dataplane.setChain('inspect', ['ids'], 'move', WHO);
  await dataplane.setInstance('ids', 'ids-1', 'draining', 3_600_000, WHO);
  await dataplane.setInstance('ids', 'ids-2', 'down', null, WHO);
  await dataplane.setInstance('added', 'add-1', 'down', null, WHO);
  await dataplane.setInstance('added', 'add-1', 'up', null, WHO);
  await dataplane.stop();
  age(file, 10);
  t.equal(statSync(store.file).mode & 0o777, 0o600);
  t.strictSame(readdirSync(store.directory), ['runtime.json', 'state.json']);

  const second = start();
  t.match(second.said, /starting from the last state, generation 6: .* is older than it \(--force-config takes the file\)/);
  t.strictSame(second.configuration.chains[0]?.services, ['ids']);
  t.match(second.origin, { generation: 6, instances: { 'ids/ids-1': { state: 'draining', deadlineMs: Number }, 'ids/ids-2': { state: 'down', deadlineMs: null } } });
  t.strictSame(Object.keys(second.origin.instances), ['ids/ids-1', 'ids/ids-2']);
  const again = await simulate(second.configuration, 16, undefined, second.origin);
  t.equal(again.dataplane.generation, 6);
  t.equal(again.dataplane.stateOf('ids/ids-2'), 'down');
  await again.dataplane.stop();
});

t.test('the file wins when it is newer, another one, or forced; generations only go up', async (t) => {
  const { file, start, store, given } = place();
  const state: SavedState = { generation: 7, file, document: { ...given().source.document, default: 'drop' }, instances: { 'ids/ids-1': { state: 'down', deadlineMs: null } } };
  await keep(store, state);
  age(file, 10);
  t.match(start(), { configuration: { default: 'drop' }, origin: { generation: 7 } });
  t.match(start(true), { configuration: { default: 'pass' }, origin: { generation: 8, instances: {} }, said: /--force-config was given/ });
  age(file, -10);
  t.match(start(), { configuration: { default: 'pass' }, origin: { generation: 8, instances: {} }, said: /it is newer than the state of generation 7/ });
  age(file, 10);
  await keep(store, { ...state, file: '/etc/other.yaml' });
  t.match(start(), { configuration: { default: 'pass' }, origin: { generation: 8 }, said: /the state in .* came from another file, \/etc\/other.yaml/ });
});

t.test('a state that was cut short, damaged or edited is refused with path, reason and what to do', async (t) => {
  const { file, start, store, given } = place();
  await keep(store, { generation: 3, file, document: given().source.document, instances: {} });
  age(file, 10);
  const whole = readFileSync(store.file, 'utf8');
  const body = whole.indexOf('\n') + 1;
  const cases: readonly (readonly [claim: string, text: string, why: RegExp])[] = [
    ['nothing', '', /its first line is not/],
    ['not a state', 'hello\nthere\n', /its first line is not/],
    ['a number', '5\n{}\n', /its first line is not/],
    ['a later format', whole.replace('"weir_state":1', '"weir_state":2'), /it has format 2, and this weir reads format 1/],
    ['edited', whole.replace('"nsh"', '"geneve"'), /its checksum is wrong/],
    ['lengthened', `${whole}\n`, /its checksum is wrong/],
    ...[1, body - 1, body, body + 1, whole.length - 100, whole.length - 1].map((length) => [`cut to ${length}`, whole.slice(0, length), /cut short|its first line/] as const),
  ];
  for (const [claim, text, why] of cases) {
    writeFileSync(store.file, text);
    t.throws(start, { message: why }, claim);
    t.throws(start, { message: new RegExp(`the state file ${store.file} can't be used: .* Start with --force-config .* or delete it`) });
    t.match(start(true).origin.generation >= 1, true, 'forced, it starts');
  }
  await keep(store, { generation: 3, file, document: { nonsense: 1 }, instances: {} });
  t.throws(start, { message: /its document is not valid for this weir.*\n.*captures/s });
});

t.test('a directory that can not be written: a failure if it was named, a warning if not', async (t) => {
  const { file, given } = place();
  const blocked = join(scratch, 'a-file');
  writeFileSync(blocked, '');
  const said: string[] = [];
  const log = { info: () => undefined, warn: (text: string) => void said.push(text) } as never;
  const configuration = given();
  const named = { ...configuration, stateDir: join(blocked, 'state') };
  t.throws(() => chooseStart(named, file, { forceConfig: false }, log), { message: /state_dir: can't write to .*\/a-file\/state \(ENOTDIR\)/ });
  const { state_dir: _, ...document } = configuration.source.document;
  const byDefault = { ...named, source: { ...named.source, document } };
  t.equal(chooseStart(byDefault, file, { forceConfig: false }, log).origin.keeper, null);
  t.match(said, [/can't write to .* Changes made while weir runs will be lost when it ends/]);
});

t.test('a change that can not be kept is not made; an instance is taken out all the same', async (t) => {
  const { start, store } = place();
  const { configuration, origin } = start();
  const { dataplane } = await simulate(configuration, 16, undefined, origin);
  t.teardown(() => dataplane.stop());
  rmSync(store.directory, { recursive: true });
  const program = dataplane.program;
  await t.rejects(dataplane.setChain('inspect', ['ids'], 'keep', WHO), { message: /the state can't be written \(ENOENT.*so nothing was changed/, path: 'state_dir' });
  t.equal(dataplane.program, program);
  t.equal(dataplane.generation, 1);
  t.strictSame(dataplane.configuration.chains[0]?.services, ['firewall', 'ids']);
  t.match(await dataplane.setInstance('ids', 'ids-1', 'down', null, WHO), { generation: 2 });
  store.open();
  t.match(await dataplane.setChain('inspect', ['ids'], 'keep', WHO), { generation: 3 });
  t.match(store.load(), { generation: 3, instances: { 'ids/ids-1': { state: 'down' } } });
});


t.test('a directory that can not be made is refused and not tried for ever; those above one that can are made', async (t) => {
  for (const directory of ['/proc/nope', '/proc/nope/deeper']) t.throws(() => new StateStore(directory).open(), { message: /can't write to \/proc\/nope.*\(E[A-Z]+\): make it writable for this user, or name another directory/ });
  const { directory, file } = place();
  t.throws(() => new StateStore(join(file, 'state')).open(), { message: /ENOTDIR|EEXIST/ });
  const deep = new StateStore(join(directory, 'a/b/state'));
  deep.open();
  deep.open();
  t.equal(statSync(join(directory, 'a')).mode & 0o777, 0o700);
});
