import t from 'tap';
import { addInstance, addPolicy, addService, insertIntoChain, removeFromChain, removeInstance, removePolicy, removeService, replaceInChain, setChain, weighInstance, type Edit } from '../../src/config/edits.js';
import { mergePatch } from '../../src/config/patch.js';
import { DocumentRefused, GenerationMismatch } from '../../src/config/refused.js';
import type { Dataplane } from '../../src/dataplane/dataplane.js';
import type { PlainDocument } from '../../src/config/configuration.js';
import { flows } from '../../src/dataplane/views.js';
import { trace as show } from '../../src/cli/show-trace.js';
import { subjectOf } from '../../src/explain/subject.js';
import { trace } from '../../src/explain/trace.js';
import { steerAll } from '../support/configuration.js';
import { udp } from '../support/packets.js';
import { simulate, type Simulation } from '../support/sim.js';

const WHO = 'a test';
const MS = 1_000_000n;

async function begin(t: { teardown: (end: () => unknown) => void }, yaml = steerAll()): Promise<Simulation & { send: (port?: number) => void; document: () => Record<string, unknown> }> {
  const simulation = await simulate(yaml);
  t.teardown(() => simulation.dataplane.stop());
  const { dataplane, network } = simulation;
  const send = (sourcePort = 40000): void => {
    network.inject(1, udp({ sourcePort }));
    network.advance(MS);
  };
  return { ...simulation, send, document: () => structuredClone(dataplane.configuration.source.document) as Record<string, unknown> };
}

/** Everything that a refused change must leave as it was. */
const inForce = (dataplane: Dataplane): unknown => [dataplane.generation, dataplane.configuration, dataplane.program, dataplane.paths.all()];

t.test('a document is applied in one swap, and the answer says what it did', async (t) => {
  const { dataplane, network, send, document } = await begin(t);
  send();
  const next = document();
  next['chains'] = { inspect: ['firewall', 'added', 'ids'], extra: ['ids'] };
  next['policies'] = [...(next['policies'] as object[]), { name: 'dns', priority: 5, match: { destination_port: 54, protocol: 'udp' }, action: 'drop' }];
  next['default'] = 'drop';
  network.instance('10.20.0.13');
  (next['services'] as { firewall: { instances: object[] } }).firewall.instances.push({ name: 'fw-3', address: '10.20.0.13', weight: 3 });
  const dry = await dataplane.apply(next, { dryRun: true, existing: 'move' }, WHO);
  t.match(dry, { generation: 1, dry_run: true });
  t.equal(dataplane.generation, 1);
  t.equal(dataplane.configuration.chains.length, 1);
  const answer = await dataplane.apply(next, { existing: 'move' }, WHO);
  t.strictSame(answer.changes, dry.changes, 'a dry run says the same');
  t.match(answer, { generation: 2, dry_run: false });
  t.strictSame(answer.changes, [
    'instance firewall/fw-3 added (10.20.0.13, weight 3)',
    'chain extra added: [ids]',
    'chain inspect is now [firewall, added, ids], existing streams move',
    'policy added: dns, live streams move',
    'default pass is now drop',
  ]);
  send();
  t.match(await flows(dataplane, {}, 10), { flows: [{ chain: 'inspect', path: 2, instances: [/^firewall/, 'added/add-1', /^ids/] }] });
  t.strictSame(dataplane.configuration.source.document, next);
  t.strictSame(await dataplane.apply(document(), {}, WHO), { generation: 2, changed: 'nothing changed', changes: [], dry_run: false, who: WHO }, 'the same again changes nothing');
});

t.test('what is refused names every error, and leaves the state in force untouched', async (t) => {
  const { dataplane, document } = await begin(t);
  const before = inForce(dataplane);
  const cases: readonly (readonly [claim: string, change: object, errors: readonly RegExp[]])[] = [
    ['an unknown service and a wrong prefix', { chains: { inspect: ['nope'] }, policies: [{ name: 'p', match: { source: '10.0.0.1/8' }, action: 'drop' }] }, [/^document: chains.inspect\[0\]: there is no service "nope"/, /^document: policies\[0\].match.source: .*did you mean 10.0.0.0\/8/]],
    ['a wrong shape', { polcies: [], flows: { idle: { tcp: 5 } } }, [/polcies: unknown key; did you mean "policies"/, /flows.idle.tcp: expected a duration/]],
    ['a chain in use that goes', { chains: { inspect: null } }, [/policies\[0\].chain: there is no chain "inspect"/]],
    ['overlapping instance addresses', { services: { added: { instances: [{ name: 'x', address: '10.20.0.11' }] } } }, [/already used by firewall\/fw-1/]],
    ['what needs a restart', { captures: [{ name: 'web', in: 'a', out: 'c' }], workers: 2, flows: { max: 5 } }, [/captures: can't change while weir runs, it needs a restart/, /workers: can't change from "auto" to 2 while/, /flows.max: can't change from 1000000 to 5/]],
    ['another key', { affinity_key: { file: 'key' }, state_dir: '/elsewhere', underlay: { interface: 'eth9' }, port: 'pcap', control: { socket: '/x' } }, [/underlay:/, /port:/, /control:/, /state_dir:/, /affinity_key:/]],
    ['too many hops', { services: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`s${i}`, { instances: [] }])), chains: { inspect: Array.from({ length: 33 }, (_, i) => `s${i}`) } }, [/at most 32 services/]],
  ];
  for (const [claim, patch, errors] of cases) {
    await t.test(claim, async (t) => {
      const refused = await dataplane.edit((current) => mergePatch(current, patch), {}, WHO).catch((error: unknown) => error);
      t.ok(refused instanceof DocumentRefused);
      t.match((refused as DocumentRefused).message.split('\n'), errors);
      t.strictSame(inForce(dataplane), before);
    });
  }
  for (const wrong of [null, 5, 'text', [], {}]) t.ok((await dataplane.apply(wrong, {}, WHO).catch((error: unknown) => error)) instanceof DocumentRefused, JSON.stringify(wrong));
  t.strictSame(inForce(dataplane), before);
  t.match(await dataplane.apply({ ...document(), default: 'drop' }, {}, WHO), { generation: 2 }, 'and it still takes a good one');
});

t.test('edits with a name', async (t) => {
  const { dataplane } = await begin(t);
  const good: readonly (readonly [Edit, string])[] = [
    [insertIntoChain('inspect', 'added', { after: 'firewall' }), 'chain inspect is now [firewall, added, ids], existing streams keep'],
    [replaceInChain('inspect', 'ids', 'ids'), ''],
    [removeFromChain('inspect', 'ids'), 'chain inspect is now [firewall, added], existing streams keep'],
    [replaceInChain('inspect', 'added', 'ids'), 'chain inspect is now [firewall, ids], existing streams keep'],
    [setChain('inspect', ['ids']), 'chain inspect is now [ids], existing streams keep'],
    [insertIntoChain('inspect', 'firewall', { before: 'ids' }), 'chain inspect is now [firewall, ids], existing streams keep'],
    [addPolicy({ name: 'p', match: { vlan: 7 }, action: 'drop' }, { before: 'all' }), 'policy added: p'],
    [removePolicy('p'), 'policy removed: p'],
    [addService('proxy', { instances: [{ name: 'p-1', address: '10.20.0.40' }] }), 'service proxy added with 1 instance'],
    [addInstance('proxy', { name: 'p-2', address: '10.20.0.41', weight: 2 }), 'instance proxy/p-2 added (10.20.0.41, weight 2)'],
    [weighInstance('proxy', 'p-2', 9), 'instance proxy/p-2: weight 2 is now 9'],
    [removeInstance('proxy', 'p-1'), 'instance proxy/p-1 removed'],
    [removeService('proxy'), 'service proxy removed'],
  ];
  for (const [edit, change] of good) {
    const { changes } = await dataplane.edit(edit, {}, WHO);
    t.strictSame(changes, change === '' ? [] : [change]);
  }
  t.match(dataplane.configuration.source.document['chains'], { inspect: { services: ['firewall', 'ids'], encapsulation: 'nsh' } }, 'a chain keeps the form it was written in');
  const before = inForce(dataplane);
  const wrong: readonly (readonly [Edit, string, RegExp])[] = [
    [insertIntoChain('inspcet', 'added', { after: 'ids' }), 'chain', /no chain "inspcet"; there are: inspect/],
    [insertIntoChain('inspect', 'nope', { after: 'ids' }), 'service', /no service "nope"/],
    [insertIntoChain('inspect', 'added', { after: 'nope' }), 'after', /chain "inspect" has no service "nope"; it has: firewall, ids/],
    [insertIntoChain('inspect', 'added', {}), 'after', /say where/],
    [insertIntoChain('inspect', 'added', { after: 'ids', before: 'ids' }), 'before', /either "after" or "before"/],
    [insertIntoChain('inspect', 'ids', { after: 'ids' }), 'service', /twice/],
    [removeFromChain('inspect', 'added'), 'service', /has no service "added"/],
    [setChain('inspect', []), 'services', /expected at least one service .*`action: pass`/],
    [(document) => removeFromChain('inspect', 'ids')(removeFromChain('inspect', 'firewall')(document)), 'service', /"ids" is the last one of chain "inspect", and a chain has at least one/],
    [replaceInChain('inspect', 'ids', 'firewall'), 'with', /twice/],
    [addPolicy({ name: 'all', match: {}, action: 'drop' }, {}), 'policy.name', /there is a policy "all" already/],
    [addPolicy({ name: 'q', match: { source: 'here' }, action: 'drop' }, {}), 'policies[1].match.source', /expected an address/],
    [addPolicy({ name: 'q', match: {}, action: 'drop' }, { after: 'nope' }), 'after', /no policy "nope"/],
    [removePolicy('nope'), 'policy', /no policy "nope"/],
    [addService('ids', { instances: [] }), 'service', /already/],
    [removeService('ids'), 'service', /still on chain inspect/],
    [addInstance('nope', { name: 'i', address: '10.20.0.90' }), 'service', /no service "nope"/],
    [addInstance('ids', { name: 'i', address: '10.20.0.11' }), 'services.ids.instances[2].address', /already used by firewall\/fw-1/],
    [removeInstance('ids', 'nope'), 'instance', /service "ids" has no instance "nope"; it has: ids-1, ids-2/],
    [weighInstance('ids', 'ids-1', 0), 'services.ids.instances[0].weight', /from 1 to 65535/],
  ];
  for (const [edit, path, message] of wrong) {
    const refused = await dataplane.edit(edit, {}, WHO).catch((error: unknown) => error);
    t.match(refused, { path, message }, path);
  }
  t.strictSame(inForce(dataplane), before);
});

t.test('two editors race: of those that name a generation, one wins each', async (t) => {
  const { dataplane } = await begin(t);
  let won = 0;
  let lost = 0;
  const editor = async (name: string): Promise<void> => {
    for (let i = 0; i < 50; i++) {
      for (;;) {
        const { generation } = dataplane;
        const policies = dataplane.configuration.source.document['policies'] as readonly { name: string }[];
        try {
          // Read, think, write: what was read meanwhile may be old.
          await new Promise((wake) => setImmediate(wake));
          await dataplane.edit(() => ({ ...dataplane.configuration.source.document, policies: [...policies, { name: `${name}-${i}`, match: {}, action: 'pass' }] }), { ifGeneration: generation }, name);
          won++;
          break;
        } catch (error) {
          t.ok(error instanceof GenerationMismatch);
          t.match((error as Error).message, /was meant for generation \d+, but generation \d+ is in force/);
          lost++;
        }
      }
    }
  };
  await Promise.all([editor('a'), editor('b')]);
  t.equal(won, 100);
  t.ok(lost > 0, `${lost} lost`);
  t.equal(dataplane.configuration.policies.length, 101, 'no edit was overwritten');
});

t.test('a chain that is removed ends when its last stream has; so does its service', async (t) => {
  const { dataplane, network, send, document } = await begin(t, `${steerAll('nsh', 'flows: {idle: {other: 10s}}')}`);
  send();
  const next = document() as { chains?: unknown; policies?: unknown; services: Record<string, unknown> };
  next.chains = {};
  next.policies = [{ name: 'all', match: {}, action: 'pass' }];
  delete next.services['ids'];
  const { changes } = await dataplane.apply(next, {}, WHO);
  t.strictSame(changes, ['service ids removed', 'chain inspect removed, its live streams end on it', 'policy changed: all']);
  network.clear();
  send();
  t.equal(network.sent(2).length, 1);
  t.equal(network.sent(0).length, 2, 'the live stream still visits both services');
  send(40001);
  t.equal(network.sent(0).length, 2, 'a new one does not');
  t.match(dataplane.paths.all(), [{ id: 1, chain: 'inspect', current: false }]);
  const now = Date.now();
  await dataplane.upkeep(now);
  t.equal(dataplane.paths.all().length, 1, 'not while a stream is on it');
  network.advance(30_000n * MS);
  await dataplane.upkeep(now + 1000);
  await dataplane.upkeep(now + 4000);
  t.strictSame(dataplane.paths.all(), []);
  t.strictSame(dataplane.program.services.map(({ id }) => dataplane.ids.services.name(id)), ['firewall', 'added']);
  t.equal(dataplane.generation, 2, 'what weir clears up makes no generation');
  const again = await dataplane.edit((current) => mergePatch(current, { chains: { inspect: ['firewall'] }, policies: [{ name: 'all', match: {}, chain: 'inspect' }] }) as PlainDocument, {}, WHO);
  t.equal(again.generation, 3);
});

t.test('a chain that gets a service that nobody performs now is changed, and the answer warns', async (t) => {
  const { dataplane } = await begin(t);
  await dataplane.setInstance('added', 'add-1', 'down', null, WHO);
  const insert = insertIntoChain('inspect', 'added', { after: 'firewall' });
  const warning = 'warning: no instance of added can take packets now: streams of chain inspect are dropped until one can (fail: closed)';
  t.strictSame((await dataplane.edit(insert, { dryRun: true }, WHO)).changes, ['chain inspect is now [firewall, added, ids], existing streams keep', warning]);
  t.strictSame((await dataplane.edit(insert, {}, WHO)).changes, ['chain inspect is now [firewall, added, ids], existing streams keep', warning]);
  t.notMatch((await dataplane.edit(addPolicy({ name: 'other', match: {}, action: 'drop' }, {}), {}, WHO)).changes.join(), /warning/, 'only of what changes');
  t.match((await dataplane.edit((document) => mergePatch(document, { services: { added: { fail: 'open' } }, chains: { extra: ['added'] } }) as PlainDocument, {}, WHO)).changes.at(-1), 'warning: no instance of added can take packets now: streams of chain extra skip it until one can (fail: open)');
  const traced = await trace(subjectOf(dataplane), { capture: 'web', vlan: [0, 0], protocol: 17, source: '10.1.0.2', sourcePort: 1, destination: '10.2.0.2', destinationPort: 2, direction: 'out' });
  t.match(show(traced), /\nhop 2: no instance of added can take packets now: new streams skip it until one can \(fail: open\)\n/);
  await dataplane.setInstance('added', 'add-1', 'up', null, WHO);
  t.notMatch((await dataplane.edit(removeInstance('firewall', 'fw-1'), {}, WHO)).changes.join(), /warning/, 'another one is there');
  t.match((await dataplane.edit(removeInstance('firewall', 'fw-2'), {}, WHO)).changes.at(-1), /no instance of firewall .* chain inspect are dropped/);
});

t.test('an instance that weir takes down once it is drained makes no generation: whoever drained it goes on with the one he has', async (t) => {
  const { dataplane } = await begin(t);
  for (const [name, deadlineMs] of [['ids-1', null], ['ids-2', 1]] as const) {
    const { generation } = await dataplane.setInstance('ids', name, 'draining', deadlineMs, WHO);
    await dataplane.upkeep(Date.now() + 1000);
    t.equal(dataplane.stateOf(`ids/${name}`), 'down');
    t.equal(dataplane.generation, generation);
    t.match(await dataplane.edit(removeInstance('ids', name), { ifGeneration: generation }, WHO), { generation: generation + 1 });
  }
});

t.test('streams of a removed instance are picked anew; states of those that remain are kept', async (t) => {
  const { dataplane, network, send } = await begin(t);
  for (let i = 0; i < 40; i++) send(41000 + i);
  await dataplane.setInstance('ids', 'ids-2', 'draining', 60_000, WHO);
  // One packet is at the instance when it is taken out: it comes back, and is taken.
  network.inject(1, udp({ sourcePort: 41000 }));
  await dataplane.edit(removeInstance('firewall', 'fw-1'), {}, WHO);
  network.clear();
  for (let i = 0; i < 40; i++) send(41000 + i);
  const { flows: live } = await flows(dataplane, {}, 100);
  t.equal(network.sent(2).length, 41, 'nothing was lost');
  t.ok(live.every(({ instances }) => instances[0] === 'firewall/fw-2'));
  t.equal(dataplane.stateOf('ids/ids-2'), 'draining');
  await dataplane.edit(addInstance('firewall', { name: 'fw-1', address: '10.20.0.11' }), {}, WHO);
  t.equal(dataplane.stateOf('firewall/fw-1'), 'up');
  t.match(dataplane.program.instances.filter(({ service }) => service === dataplane.ids.services.id('firewall')), [{ address: '10.20.0.12' }, { address: '10.20.0.11', state: 'up' }], 'its address is its own again at once');
});

t.test('a packet under way at a removed instance is taken back', async (t) => {
  const { dataplane, network } = await begin(t, steerAll().replace(', {name: fw-2, address: 10.20.0.12}', ''));
  network.inject(1, udp());
  // Instances answer 2 µs after they got it: in between, it is gone.
  network.advance(1000n);
  await dataplane.edit((current) => mergePatch(current, { services: { firewall: { instances: [{ name: 'fw-9', address: '10.20.0.19' }] } } }), {}, WHO);
  network.instance('10.20.0.19');
  network.advance(MS);
  t.equal(network.sent(2).length, 1);
  await dataplane.upkeep(Date.now() + 5000);
  t.strictSame(dataplane.program.instances.filter(({ address }) => address === '10.20.0.11'), [], 'and after a while it is forgotten');
});
