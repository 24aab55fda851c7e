/** What the numbers in a flow table mean stays so in the next process, and streams go on by it; the live kernel's part is in test/live/restart.test.ts. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { loadConfiguration } from '../../src/config/load.js';
import type { Configuration } from '../../src/config/configuration.js';
import { affinityKeyOf } from '../../src/dataplane/affinity-key.js';
import { flowFilePrefix, openFlowTable, sameTenants, type FlowTable } from '../../src/dataplane/flow-table.js';
import { native } from '../../src/dataplane/native.js';
import { chooseStart } from '../../src/state/start.js';
import type { Origin } from '../../src/state/state.js';
import { steerAll } from '../support/configuration.js';
import { simulate } from '../support/sim.js';

const WHO = 'a test';
const scratch = mkdtempSync(join(tmpdir(), 'weir-continuity-'));
const memory = mkdtempSync('/dev/shm/weir-continuity-');
t.teardown(() => [scratch, memory].forEach((directory) => rmSync(directory, { recursive: true, force: true })));
let made = 0;

function place(): { file: string; directory: string; write: (edit: (text: string) => string, ageSeconds: number) => void; start: () => { configuration: Configuration; origin: Origin; said: string } } {
  const directory = join(scratch, String(++made));
  mkdirSync(directory);
  const file = join(directory, 'weir.yaml');
  const write = (edit: (text: string) => string, ageSeconds: number): void => {
    writeFileSync(file, edit(steerAll('nsh', `state_dir: ${join(directory, 'state')}\n`)));
    utimesSync(file, Date.now() / 1000 - ageSeconds, Date.now() / 1000 - ageSeconds);
  };
  write((text) => text, 10);
  const start = () => {
    const loaded = loadConfiguration(file);
    if (!loaded.ok) throw new Error(JSON.stringify(loaded.errors));
    const said: string[] = [];
    const log = { info: (...args: unknown[]) => void said.push(String(args.at(-1))), warn: (...args: unknown[]) => void said.push(String(args.at(-1))) };
    return { ...chooseStart(loaded.configuration, file, { forceConfig: false }, log as never), said: said.join('\n') };
  };
  return { file, directory, write, start };
}

t.test('names keep their ids, chains their paths, old paths their streams, and codes their key, from one process to the next', async (t) => {
  const { start, directory } = place();
  const first = start();
  const { dataplane } = await simulate(first.configuration, 16, undefined, first.origin);
  await dataplane.setChain('inspect', ['ids', 'added', 'firewall'], 'keep', WHO);
  await dataplane.edit((document) => ({ ...document, policies: [{ name: 'first', match: {}, action: 'pass' }, ...(document['policies'] as object[])] }), {}, WHO);
  const { ids, paths, program } = dataplane;
  await dataplane.stop();
  const runtime = join(directory, 'state', 'runtime.json');
  t.equal(statSync(runtime).mode & 0o777, 0o600);
  t.notOk(readFileSync(join(directory, 'state', 'state.json'), 'latin1').includes(Buffer.from(program.affinityKey).toString('hex')), 'the key is in one file only');

  const second = start();
  const again = (await simulate(second.configuration, 16, undefined, second.origin)).dataplane;
  t.strictSame(again.program.affinityKey, program.affinityKey);
  t.strictSame(again.program.instances, program.instances);
  t.strictSame(again.program.services, program.services);
  t.strictSame(again.program.paths, program.paths, 'the old path too');
  t.strictSame(again.paths.all(), paths.all());
  t.strictSame(again.program.rules, program.rules, 'policies and chains have their ids');
  t.equal(again.ids.policies.id('first'), ids.policies.id('first'));
  t.equal(again.paths.currentId('inspect'), 2);
  await again.setChain('inspect', ['ids'], 'keep', WHO);
  t.equal(again.paths.currentId('inspect'), 3, 'path ids go on where they were');
  await again.stop();
});

t.test('a file that was changed meanwhile is as an edit: chains that differ get new paths, services of old ones stay for their streams', async (t) => {
  const { start, write } = place();
  const first = start();
  const { dataplane } = await simulate(first.configuration, 16, undefined, first.origin);
  const { ids } = dataplane;
  await dataplane.stop();
  write((text) => text.replace('[firewall, ids]', '[ids]').replace(/ {2}firewall:.*\n/, '  first: {instances: [{name: f-1, address: 10.20.0.51}]}\n'), -10);
  const second = start();
  t.match(second.said, /it is newer than the state/);
  const again = (await simulate(second.configuration, 16, undefined, second.origin)).dataplane;
  t.match(again.paths.all(), [{ id: 1, services: ['firewall', 'ids'], current: false }, { id: 2, services: ['ids'], current: true }]);
  t.match(again.whole.services.map(({ name }) => name), ['first', 'ids', 'added', 'firewall']);
  t.ok(again.program.instances.some(({ id }) => id === ids.instances.id('firewall/fw-1')), 'its instances are in the program with their ids');
  t.not(again.ids.services.id('first'), ids.services.id('firewall'), 'a new name gets a new id');
  await again.upkeep(Date.now());
  await again.upkeep(Date.now() + 3000);
  t.match(again.paths.all(), [{ id: 2 }], 'without streams it is freed');
  await again.stop();
});

t.test('what is damaged is not believed: a new beginning, and a line that says so', async (t) => {
  const { start, directory } = place();
  const first = start();
  await (await simulate(first.configuration, 16, undefined, first.origin)).dataplane.stop();
  const file = join(directory, 'state', 'runtime.json');
  const whole = readFileSync(file, 'utf8');
  for (const [claim, text] of [['cut', whole.slice(0, -20)], ['edited', whole.replace('"next":', '"next": ')], ['empty', '']] as const) {
    writeFileSync(file, text);
    const { said, origin } = start();
    t.match(said, /runtime.json can't be used: .* Streams of the last run are forgotten/, claim);
    t.not(origin.continuity?.identity, first.origin.continuity?.identity);
    t.equal(origin.continuity?.before, null);
  }
});

t.test('captures that are no longer what they were give no streams', (t) => {
  const { start } = place();
  const { configuration, origin } = start();
  const { continuity } = origin;
  if (continuity === undefined) throw new Error('no continuity');
  const meaning = { ids: {}, paths: {}, services: [] } as never;
  const other = { name: 'db', in: 'c', out: 'd', tenant: 1 };
  const captures = [...configuration.captures, other];
  const before = (list: Configuration['captures']) => ({ ...continuity, before: { ...(meaning as object), captures: list } as never });
  t.strictSame(sameTenants({ ...configuration, captures }, before(captures)), [0, 1]);
  t.strictSame(sameTenants({ ...configuration, captures }, before([{ ...configuration.captures[0]!, tenant: 1 }, { ...other, tenant: 0 }])), []);
  t.strictSame(sameTenants({ ...configuration, captures }, before([{ ...configuration.captures[0]!, out: 'x' }, other])), [1]);
  t.strictSame(sameTenants(configuration, { ...continuity, before: null }), []);
  t.end();
});

t.test('the table goes where there is a tmpfs, says so where there is none, and is nobody else\'s', async (t) => {
  const { start } = place();
  const { configuration, origin } = start();
  const { continuity } = origin;
  if (continuity === undefined) throw new Error('no continuity');
  const said: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line: string) => void said.push(line) });
  const small = { ...configuration, flows: { ...configuration.flows, max: 100 } };
  const open = (directories: string[], key = affinityKeyOf(small, origin)): Promise<FlowTable | null> => openFlowTable(small, continuity, key, log, { fresh: false, directories });
  t.equal(await open(['/proc/self', scratch, join(scratch, 'absent')]), null);
  t.match(said.join(''), /live streams will not outlive this process: the flow table's memory is its own .*is no tmpfs/);
  const prefix = flowFilePrefix(small.stateDir);
  // One that an earlier state of this directory had, and nobody can read any more.
  new native.FlowFile({ path: join(memory, `${prefix}0123456789abcdef`), flowsMax: 10, bootId: randomBytes(16), identity: randomBytes(8), affinityKey: randomBytes(16), fresh: false, descriptor: null }).publish();
  const left = readdirSync(memory);
  const table = await open(['/proc/self', memory]);
  if (table === null) throw new Error(said.join(''));
  t.equal(table.file.publish(), '');
  t.match(table.path, join(memory, prefix));
  t.equal(statSync(table.path).mode & 0o777, 0o600);
  t.ok(left.length === 1);
  await t.rejects(open(['/proc/self', memory]), { message: /another weir has state_dir .* in use .*--takeover/ });
  table.file.rest(0);
  t.notOk(existsSync(table.path));
});

t.test('bad options of native calls are refused by name', (t) => {
  const good = { path: '/dev/shm/x', flowsMax: 10, bootId: new Uint8Array(16), identity: new Uint8Array(8), affinityKey: new Uint8Array(16), fresh: false, descriptor: null };
  for (const [field, value] of [['path', 'x'], ['flowsMax', 0], ['flowsMax', 1e9], ['bootId', new Uint8Array(3)], ['identity', 'x'], ['affinityKey', null], ['fresh', 1], ['descriptor', -1]] as const) {
    t.throws(() => new native.FlowFile({ ...good, [field]: value } as never), { message: new RegExp(field) }, `${field} ${String(value)}`);
  }
  t.throws(() => new native.Engine({ flowsMax: 10, flowFile: {} as never }), { message: /flowFile: expected a FlowFile/ });
  t.throws(() => native.Channel.connect(`weir-nobody-${process.pid}`), { message: /refused/ });
  t.end();
});

t.test('a channel carries text and open files; who waits too long gets nothing, and the other side can say nothing more', async (t) => {
  const name = `weir-channel-test-${process.pid}`;
  const listening = native.Channel.listen(name);
  t.throws(() => native.Channel.listen(name), { message: /in use/ });
  t.equal(await listening.accept(10), null);
  const one = native.Channel.connect(name);
  const other = await listening.accept(5000);
  if (other === null) throw new Error('nobody connected');
  t.match(other.peer(), { pid: process.pid, uid: process.getuid?.() });
  const file = new native.FlowFile({ path: join(memory, 'handed'), flowsMax: 10, bootId: new Uint8Array(16), identity: new Uint8Array(8), affinityKey: new Uint8Array(16), fresh: false, descriptor: null });
  t.ok(one.send('hello', [file.descriptor, file.descriptor]));
  const message = await other.receive(5000);
  t.equal(message?.text, 'hello');
  t.equal(message?.descriptors.length, 2);
  native.closeDescriptors(message?.descriptors ?? []);
  t.equal(await other.receive(10), null);
  t.notOk(one.send('too late'));
  other.close();
  t.equal(await one.receive(5000), null);
  t.throws(() => one.send('x'.repeat(200_000)), { message: /too long/ });
});
