/** Members of paths: whoever comes serves streams of a new path and ranks last on those that there are; whoever goes, goes from all. */
import t from 'tap';
import type { InstanceState } from '../../src/dataplane/native.js';
import { followMembers } from '../../src/dataplane/members.js';
import { Paths } from '../../src/dataplane/paths.js';
import { parseConfiguration } from '../../src/config/load.js';
import { valid } from '../support/configuration.js';

const document = (more = '', b = 'sync: strict'): string => `
underlay: {interface: u}
captures: [{name: a, in: b, out: c}]
services:
  a: {instances: [{name: a1, address: 10.0.0.1}, {name: a2, address: 10.0.0.2}]}
  b: {${b}, instances: [{name: b1, address: 10.0.0.3}, {name: b2, address: 10.0.0.4}, {name: b3, address: 10.0.0.5, weight: 2}]}
chains: {line: {services: [a, b], return: mesh${more}}, hub: [b]}
mesh: {key: {file: k}}
policies: [{name: all, match: {}, chain: line}]`;

class Followed {
  configuration = valid(document());
  readonly paths = new Paths();
  readonly sessions = new Map(['a/a1', 'a/a2', 'b/b1', 'b/b2', 'b/b3'].map((key, i) => [key, `run${i}`]));
  readonly states = new Map<string, InstanceState>();
  /** By their health. */
  readonly failing = new Set<string>();

  constructor() {
    for (const chain of this.configuration.chains) this.paths.add(chain, 'keep');
    this.follow();
  }

  follow(): void {
    followMembers(this.paths, this.configuration, { sessionOf: (key) => this.sessions.get(key) ?? null, stateOf: (key) => (this.failing.has(key) ? 'down' : (this.states.get(key) ?? 'up')), failing: (key) => this.failing.has(key) });
  }

  /** Of a chain's paths from the oldest on: the members of service b. */
  b(chain = 'line'): string[] {
    return this.paths.all().filter((path) => path.chain === chain).map((path) => `${path.id}${path.current ? '*' : ''}${path.movedTo === 0 ? '' : `>${path.movedTo}`}: ${(path.members?.[path.services.indexOf('b')] ?? []).map(({ key, session, weight, tier = 0 }) => `${key} ${session} ${weight}${tier === 0 ? '' : ` +${tier}`}`).join(', ')}`);
  }
}

t.test('an instance that fails leaves every path; back in another run, it serves a new path and is the last of the others', async (t) => {
  const f = new Followed();
  t.strictSame(f.b(), ['1*: b/b1 run2 1, b/b2 run3 1, b/b3 run4 2']);
  t.strictSame(f.b('hub'), ['2*: b/b1 run2 1, b/b2 run3 1, b/b3 run4 2'], 'hub chains with synced services, too');
  f.follow();
  t.equal(f.paths.all().length, 2, 'nothing new makes no path');
  f.sessions.delete('b/b1');
  f.follow();
  t.strictSame(f.b(), ['1*: b/b2 run3 1, b/b3 run4 2'], 'new streams and old ones: the same path, without it');
  f.sessions.set('b/b1', 'run9');
  f.follow();
  t.strictSame(f.b(), ['1: b/b2 run3 1, b/b3 run4 2, b/b1 run9 1 +1', '3*: b/b1 run9 1, b/b2 run3 1, b/b3 run4 2']);
  f.follow();
  t.strictSame(f.b().length, 2, 'once');
});

t.test('instances that fail one after the other and come back never leave a path without one that was filled', async (t) => {
  const f = new Followed();
  for (let kill = 0; kill < 30; kill++) {
    const key = `b/b${(kill % 3) + 1}`;
    f.sessions.delete(key);
    f.follow();
    const before = f.b()[0] ?? '';
    f.sessions.set(key, `kill${kill}`);
    f.follow();
    const [was, is] = [before, f.b()[0] ?? ''].map((line) => line.replace('1*: ', '1: ').replace(/ \+\d/g, ''));
    t.equal(was?.split(', ').length, 2, 'two of them are left');
    t.equal(is, `${was}, ${key} kill${kill} ${key === 'b/b3' ? 2 : 1}`, 'and it ranks after them');
    t.ok(f.paths.get(1)?.members?.[1]?.every(({ tier = 0 }) => tier <= 3));
    // The streams of every other path but the oldest have ended meanwhile.
    for (const nowMs of [0, 10_000]) f.paths.sweep((id) => (id === 1 ? 1 : 0), nowMs);
  }
});

t.test('a run that was given up does not come back: others have served its streams since', async (t) => {
  const f = new Followed();
  f.states.set('b/b1', 'down');
  f.follow();
  f.states.set('b/b1', 'up');
  f.follow();
  t.strictSame(f.b(), ['1*: b/b2 run3 1, b/b3 run4 2'], 'nor to another one');
  t.strictSame(f.paths.get(1)?.former, [{ key: 'b/b1', session: 'run2' }]);
  const saved = new Paths();
  saved.resume(JSON.parse(JSON.stringify(f.paths.toSave())), f.configuration.chains, () => true);
  t.strictSame(saved.get(1), f.paths.get(1), 'nor does it when weir has restarted');
  f.sessions.set('b/b1', 'run9');
  f.follow();
  t.strictSame(f.b()[0], '1: b/b2 run3 1, b/b3 run4 2, b/b1 run9 1 +1', 'another run of it does');
  f.sessions.delete('b/b2');
  f.follow();
  t.strictSame(f.paths.get(1)?.former, [{ key: 'b/b2', session: 'run3' }], 'of those that are over nothing is remembered');
});

t.test('where health says that nobody is left, those who still say hello stay: nobody else has the states', async (t) => {
  const f = new Followed();
  f.failing.add('b/b1');
  f.follow();
  for (const key of ['b/b2', 'b/b3']) f.failing.add(key);
  f.follow();
  t.strictSame(f.b(), ['1*: b/b2 run3 1, b/b3 run4 2'], 'but for the one that failed while others did not');
  f.sessions.delete('b/b2');
  f.follow();
  t.strictSame(f.b(), ['1*: b/b3 run4 2'], 'nor who no longer says hello');
  f.failing.delete('b/b3');
  f.follow();
  t.strictSame(f.b(), ['1*: b/b3 run4 2']);
  f.states.set('b/b3', 'down');
  f.follow();
  t.strictSame(f.b(), ['1*: '], 'whom people take out goes at once');
});

t.test('a scale-out, and another weight: live streams stay, and have one more to go on with', async (t) => {
  const f = new Followed();
  f.configuration = valid(document().replace('weight: 2}', 'weight: 3}, {name: b4, address: 10.0.0.6}, {name: b5, address: 10.0.0.7}'));
  for (const n of [4, 5]) f.sessions.set(`b/b${n}`, `new${n}`);
  f.follow();
  t.strictSame(f.b(), ['1: b/b1 run2 1, b/b2 run3 1, b/b3 run4 2, b/b4 new4 1 +1, b/b5 new5 1 +1', '3*: b/b1 run2 1, b/b2 run3 1, b/b3 run4 3, b/b4 new4 1, b/b5 new5 1']);
});

t.test('where streams wait for their instance nobody comes to its path', async (t) => {
  const f = new Followed();
  f.configuration = valid(document('', 'sync: strict, on_failure: hold'));
  f.sessions.set('b/b1', 'run9');
  f.follow();
  t.strictSame(f.b(), ['1: b/b1 run2 1, b/b2 run3 1, b/b3 run4 2', '3*: b/b1 run9 1, b/b2 run3 1, b/b3 run4 2']);
});

t.test('a restart that nobody saw is a failure and a return', async (t) => {
  const f = new Followed();
  f.sessions.set('b/b1', 'run9');
  f.follow();
  t.strictSame(f.b(), ['1: b/b2 run3 1, b/b3 run4 2, b/b1 run9 1 +1', '3*: b/b1 run9 1, b/b2 run3 1, b/b3 run4 2']);
});

t.test('draining keeps live streams and gets no new ones; down loses them', async (t) => {
  const f = new Followed();
  f.states.set('b/b1', 'draining');
  f.follow();
  t.strictSame(f.b(), ['1: b/b1 run2 1, b/b2 run3 1, b/b3 run4 2', '3*: b/b2 run3 1, b/b3 run4 2']);
  f.states.set('b/b1', 'down');
  f.follow();
  t.strictSame(f.b(), ['1: b/b2 run3 1, b/b3 run4 2', '3*: b/b2 run3 1, b/b3 run4 2']);
});

t.test('streams whose service has lost all its members go over to a path with those that there are, and stay with the other services', async (t) => {
  const f = new Followed();
  f.sessions.set('a/a1', 'again');
  f.follow();
  t.strictSame(f.b(), ['1: b/b1 run2 1, b/b2 run3 1, b/b3 run4 2', '3*: b/b1 run2 1, b/b2 run3 1, b/b3 run4 2']);
  for (const key of ['b/b1', 'b/b2', 'b/b3']) f.sessions.set(key, 'again');
  f.follow();
  t.strictSame(f.b(), ['1>5: ', '3>4: ', '4*: b/b1 again 1, b/b2 again 1, b/b3 again 2', '5: b/b1 again 1, b/b2 again 1, b/b3 again 2']);
  const a = (id: number): readonly string[] => (f.paths.get(id)?.members?.[0] ?? []).map(({ key, session }) => `${key} ${session}`);
  t.strictSame([a(5), a(4)], [['a/a2 run1', 'a/a1 again'], ['a/a1 again', 'a/a2 run1']], 'the one with the state of the other service first');
});

t.test('streams of very old versions go over to the current path', async (t) => {
  const f = new Followed();
  for (let n = 0; n < 100; n++) {
    f.sessions.set('a/a1', `run ${n}`);
    f.follow();
  }
  t.ok(f.paths.all().filter(({ chain, movedTo }) => chain === 'line' && movedTo === 0).length <= 66, 'a bounded number of versions');
});

t.test('streams that the network may have opened never go over to a path that exits directly', async (t) => {
  const f = new Followed();
  const direct = document(', exit: direct').replace('match: {}', 'match: {direction: out}');
  const change = (text: string, existing: 'keep' | 'move'): void => {
    f.configuration = valid(text);
    for (const chain of f.configuration.chains.filter(({ name }) => name === 'line')) f.paths.add(chain, existing);
    f.follow();
  };
  const line = (): string[] => f.paths.all().filter(({ chain }) => chain === 'line').map(({ id, movedTo, exit }) => `${id}>${movedTo} ${exit}`);
  change(direct, 'move');
  t.strictSame(line(), ['1>0 weir', '3>0 direct'], 'not when they are to move');
  for (const key of ['b/b1', 'b/b2', 'b/b3']) f.sessions.set(key, 'again');
  f.follow();
  t.strictSame(line(), ['1>5 weir', '3>4 direct', '4>0 direct', '5>0 weir'], 'not when their instances are gone');
  for (let n = 0; n < 100; n++) {
    f.sessions.set('a/a1', `run ${n}`);
    f.follow();
  }
  const ends = new Map(f.paths.all().map((path) => [path.id, path]));
  t.equal(ends.get(1)?.movedTo, 5, 'nor when there are very many versions');
  t.strictSame([ends.get(5)?.movedTo, ends.get(5)?.exit], [0, 'weir']);
  t.ok(line().filter((path) => path.includes('>0 ')).length <= 67, 'a bounded number of versions');
  change(document(), 'move');
  t.ok(f.paths.all().filter(({ chain, current }) => chain === 'line' && !current).every(({ movedTo }) => movedTo !== 0), 'back to weir they all may');
});

t.test('the path that takes over from one that exits directly does what the chain does now', async (t) => {
  const f = new Followed();
  const change = (text: string): void => {
    f.configuration = valid(text);
    for (const chain of f.configuration.chains.filter(({ name }) => name === 'line')) f.paths.add(chain, 'keep');
    f.follow();
  };
  change(document(', exit: direct').replace('match: {}', 'match: {direction: out}'));
  change(document().replace('services: [a, b], return: mesh', 'services: [b]').replace('weight: 2', 'weight: 3'));
  for (const key of ['a/a1', 'a/a2']) f.sessions.delete(key);
  f.follow();
  const next = f.paths.get(f.paths.get(3)?.movedTo ?? 0);
  t.match(next, { current: false, services: ['b'], return: 'hub', exit: 'weir' });
});

t.test('a service that is no longer on the chain: its streams go over to a path with those that there are, or to the current one', async (t) => {
  const f = new Followed();
  f.configuration = valid(document().replace('services: [a, b]', 'services: [a]'));
  for (const chain of f.configuration.chains.filter(({ name }) => name === 'line')) f.paths.add(chain, 'keep');
  f.follow();
  t.strictSame(f.b(), ['1: b/b1 run2 1, b/b2 run3 1, b/b3 run4 2', '3*: ']);
  for (const key of ['b/b1', 'b/b2', 'b/b3']) f.sessions.set(key, 'again');
  f.follow();
  t.strictSame(f.b(), ['1>4: ', '3*: ', '4: b/b1 again 1, b/b2 again 1, b/b3 again 2']);
  for (const key of ['b/b1', 'b/b2', 'b/b3']) f.sessions.delete(key);
  f.follow();
  t.strictSame(f.b(), ['1>3: ', '3*: ', '4>3: ']);
});

t.test('a service that is no longer on the chain and can not come back: the states at the other services stay', async (t) => {
  const f = new Followed();
  f.configuration = valid(document().replace('services: [a, b]', 'services: [b]').replace('weight: 2', 'weight: 3'));
  for (const chain of f.configuration.chains.filter(({ name }) => name === 'line')) f.paths.add(chain, 'keep');
  f.follow();
  t.strictSame(f.b(), ['1: b/b1 run2 1, b/b2 run3 1, b/b3 run4 2', '3*: b/b1 run2 1, b/b2 run3 1, b/b3 run4 3']);
  for (const key of ['a/a1', 'a/a2']) f.sessions.delete(key);
  f.follow();
  t.strictSame(f.b(), ['1>5: b/b1 run2 1, b/b2 run3 1, b/b3 run4 2', '3*: b/b1 run2 1, b/b2 run3 1, b/b3 run4 3', '5: b/b1 run2 1, b/b2 run3 1, b/b3 run4 2'], 'with the weights by which the states are where they are');
  t.strictSame(f.paths.get(5)?.services, ['b']);
});

t.test('what the chain has now is waited for, unless packets may go without it', async (t) => {
  const f = new Followed();
  const less = document().replace('services: [a, b]', 'services: [b]');
  f.configuration = valid(less);
  for (const chain of f.configuration.chains.filter(({ name }) => name === 'line')) f.paths.add(chain, 'keep');
  f.follow();
  f.sessions.clear();
  f.follow();
  t.strictSame(f.b(), ['1: ', '3*: ']);
  f.configuration = valid(less.replace('sync: strict', 'sync: strict, fail: open'));
  f.follow();
  t.strictSame(f.b(), ['1>3: ', '3*: ']);
});

t.test('a path is kept while streams are to go on to it, however many paths there were on the way', async (t) => {
  const paths = new Paths();
  const [line] = valid(document()).chains;
  if (line === undefined) throw new Error('no chain');
  const streams = (id: number): number => (id === 2 ? 1 : 0);
  for (let n = 0; n < 2; n++) paths.add(line, 'keep', []);
  // A stream of 2 is to go to the older 1, and on from there to 3; new ones are on 4.
  paths.move(2, 1);
  paths.add(line, 'keep', []);
  paths.move(1, 3);
  paths.add(line, 'keep', []);
  const { next, current, versions } = paths.toSave();
  for (const nowMs of [0, 10_000]) paths.sweep(streams, nowMs);
  t.strictSame(paths.all().map(({ id, movedTo }) => `${id}>${movedTo}`), ['2>3', '3>0', '4>0']);

  const resumed = new Paths();
  resumed.resume({ next, current, versions: versions.map((version) => (version.id === 2 ? { ...version, movedTo: 1 } : version)) }, [line], () => true);
  for (const nowMs of [0, 10_000]) resumed.sweep(streams, nowMs);
  t.strictSame(resumed.all().map(({ id, movedTo }) => `${id}>${movedTo}`), ['1>3', '2>1', '3>0', '4>0'], 'as another process may have had them');
});

t.test('what can not be a mesh is refused with place and reason', async (t) => {
  const refused = (text: string): string[] => {
    const loaded = parseConfiguration(text, 'test.yaml');
    return loaded.ok ? [] : loaded.errors.map(({ path, message }) => `${path}: ${message}`);
  };
  t.match(refused(document(', encapsulation: geneve')), [/^chains\.line\.encapsulation: a mesh chain is stamped with nsh/]);
  t.match(refused(document('', 'sync: strict, affinity: 2-tuple')), [/^chains\.line\.services\[1\]: service "b" has the affinity 2-tuple/]);
  t.match(refused(document('', 'sync: strict, placement: by_load')), [/^services\.b\.placement: the service .*placement: hash/]);
  t.match(refused(document().replace('mesh: {key: {file: k}}', '')), [/^services\.b\.sync: sync needs service nodes/, /^chains\.line\.return: a mesh chain needs/]);
  t.match(refused(document().replace('10.0.0.5', 'fd01::5')), [/^chains\.line\.services: 10\.0\.0\.1 and fd01::5 are of different families/]);
  t.match(refused(document().replace('{key: {file: k}}', '{key: {file: k}, lease: 1ms}')), [/^mesh\.lease: expected a duration from 50ms/]);
  t.match(refused(document().replace('return: mesh', 'return: mesh, deliver: true')).join('\n'), /chains\.line\.deliver: a chain that delivers/);
});
