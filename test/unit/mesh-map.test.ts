/** The service map: who is there, what nodes get of it, what they refuse, and that native code and TypeScript find the same instances by it. */
import t from 'tap';
import { native, type NativeMeshMap } from '../../src/dataplane/native.js';
import { NOBODY, open, seal } from '../../src/mesh/envelope.js';
import { decodeMap, digestOf, encodeMap, MapView, type ServiceMap } from '../../src/mesh/service-map.js';
import { decodeHello, encodeHello, piecesOf, type SyncReport } from '../../src/mesh/hello.js';
import { instanceSeed } from '../../src/program/compile.js';
import { content, KEY, MeshOnWire, session } from '../support/mesh-wire.js';
import { Random } from '../support/random-policies.js';

const INSTANCES = ['a/a1', 'a/a2', 'b/b1', 'b/b2', 'b/b3'].map((key, i) => ({ key, address: `10.20.0.${10 + i}` }));
const runs = INSTANCES.map((one, i) => ({ ...one, session: session(i + 1) }));

t.test('nodes become members by their hello, get the map, and lose their place with their lease', async (t) => {
  const mesh = new MeshOnWire(INSTANCES);
  const member = mesh.member('a/a1', 1);
  t.equal(mesh.controller.sessionOf('a/a1'), null, 'not before it has been heard');
  mesh.settle();
  t.equal(mesh.controller.sessionOf('a/a1'), session(1));
  t.strictSame(mesh.changes, ['a/a1 is there']);
  const version = mesh.controller.publish(content(runs));
  mesh.settle();
  t.equal(member.view?.map.version, version);
  t.ok(mesh.controller.everybodyHasIt);
  t.equal(mesh.controller.publish(content(runs)), version, 'nothing new is no new version');

  mesh.nowMs += 101;
  mesh.controller.tick();
  mesh.controller.tick();
  t.equal(mesh.controller.sessionOf('a/a1'), null);
  t.strictSame(mesh.changes.slice(1), ['a/a1 has not been heard of for 100 ms'], 'told once');
  member.hello();
  mesh.settle();
  t.equal(mesh.controller.sessionOf('a/a1'), session(1), 'back in the same run');
  mesh.member('a/a1', 9);
  mesh.settle();
  t.equal(mesh.changes.at(-1), 'a/a1 is there in another run', 'a restart within the lease does not go unnoticed');
});

t.test('a node knows when its next hello is due, and has nothing to do before', async (t) => {
  const mesh = new MeshOnWire(INSTANCES);
  const member = mesh.member('a/a1', 1);
  mesh.settle();
  mesh.controller.publish(content(runs));
  mesh.settle();
  t.equal(member.dueMs, mesh.nowMs + 25, 'four a lease');
  mesh.nowMs = member.dueMs - 1;
  member.tick();
  t.equal(mesh.toController.length, 0);
  mesh.nowMs++;
  member.tick();
  t.equal(mesh.toController.length, 1);
  t.equal(member.dueMs, mesh.nowMs + 25);
  member.end();
  t.equal(member.dueMs, Infinity);
});

t.test('nobody is waited for who is on the map no more', async (t) => {
  const mesh = new MeshOnWire(INSTANCES);
  for (const [i, { key }] of INSTANCES.entries()) mesh.member(key, i + 1);
  mesh.settle();
  mesh.controller.publish(content(runs));
  t.notOk(mesh.controller.everybodyHasIt);
  mesh.settle();
  t.ok(mesh.controller.everybodyHasIt);
  mesh.nowMs += 30;
  mesh.members.delete(INSTANCES[4]?.address ?? ''); // killed: it hears nothing, and its lease goes on for a while
  mesh.controller.publish(content(runs.slice(0, 4)));
  t.notOk(mesh.controller.everybodyHasIt, 'those that are on it are');
  mesh.settle();
  t.equal(mesh.controller.sessionOf('b/b3'), session(5));
  t.ok(mesh.controller.everybodyHasIt);
});

t.test('a node whose run was given up begins another one, whatever maps it missed, and is there again', async (t) => {
  const mesh = new MeshOnWire(INSTANCES);
  const member = mesh.member('a/a1', 1);
  mesh.settle();
  mesh.controller.publish(content(runs));
  mesh.settle();
  mesh.nowMs += 30;
  mesh.controller.publish(content(runs, { givenUp: [session(7)] }));
  mesh.settle();
  t.equal(mesh.controller.sessionOf('a/a1'), session(1), 'another one was meant');
  mesh.nowMs += 30;
  mesh.controller.publish(content(runs, { givenUp: [session(1), session(7)] }));
  mesh.settle();
  t.equal(mesh.controller.sessionOf('a/a1'), session(0x1001));
  t.equal(mesh.changes.at(-1), 'a/a1 is there in another run');
  mesh.nowMs += 30;
  const version = mesh.controller.publish(content(runs, { givenUp: [session(1)] }));
  mesh.settle();
  t.equal(mesh.controller.sessionOf('a/a1'), session(0x1001), 'once');
  t.equal(member.view?.map.version, version);
  t.equal(mesh.controller.refusals.of('replayed'), 0);
});

t.test('versions only go up: past those of a controller before, and when the clock goes back', async (t) => {
  const mesh = new MeshOnWire(INSTANCES);
  mesh.member('a/a1', 1);
  mesh.settle();
  const first = mesh.controller.publish(content(runs));
  mesh.nowMs -= 5000;
  const second = mesh.controller.publish(content(runs, { leaseMs: 200 }));
  t.ok(second > first);
  const hello = encodeHello({ service: 'a', name: 'a1', syncPort: 1, version: second + 1_000_000, digest: 'ffffffffffffffff', unreachable: [] });
  mesh.controller.receive(seal({ kind: 'hello', from: session(1), to: session(0xc0), sequence: 100, atMs: mesh.nowMs + 1, body: hello }, KEY), { address: '10.20.0.10', port: 1 });
  t.ok(mesh.controller.publish(content(runs, { leaseMs: 300 })) > second + 1_000_000, 'past what a node says it has');
});

t.test('a node refuses maps from the past, two of one version, and what is not for it, each told once', async (t) => {
  const mesh = new MeshOnWire(INSTANCES);
  const member = mesh.member('a/a1', 1);
  mesh.settle();
  mesh.controller.publish(content(runs));
  const old = mesh.toMembers.map(({ datagram }) => datagram);
  mesh.settle();
  mesh.nowMs += 50;
  const version = mesh.controller.publish(content(runs, { leaseMs: 200 }));
  mesh.settle();
  t.equal(member.view?.map.version, version);
  for (const datagram of [...old, ...old]) member.receive(datagram);
  t.equal(member.refusals.of('map_from_the_past'), 2 * old.length);

  const other = encodeMap({ ...content(runs, { leaseMs: 999 }), version });
  const pieces = piecesOf(other, version, digestOf(other));
  const from = (kind: 'map' | 'welcome', body: Buffer, sender = session(0xc0), to = session(1), key: Uint8Array = KEY): Buffer => seal({ kind, from: sender, to, sequence: 1, atMs: mesh.nowMs, body }, key);
  member.receive(from('map', pieces[0] as Buffer));
  t.equal(member.refusals.of('two_maps'), 1);
  const newer = encodeMap({ ...content(runs), version: version + 1 });
  const [piece] = piecesOf(newer, version + 1, digestOf(newer));
  member.receive(from('map', piece as Buffer, session(0xbad)));
  member.receive(from('map', piece as Buffer, session(0xc0), session(77)));
  member.receive(from('map', piece as Buffer, session(0xc0), session(1), Buffer.from('another key than this')));
  member.receive(Buffer.from('rubbish'));
  const broken = Buffer.from(JSON.stringify({ version: version + 1 }));
  for (const part of piecesOf(broken, version + 1, digestOf(broken))) member.receive(from('map', part));
  t.match(member.refusals.counts, { stranger: 1, not_for_us: 1, forged: 1, malformed: 2 });
  t.equal(member.view?.map.version, version, 'the map in force is what it was');
  t.equal(new Set(mesh.told.map(({ reason }) => reason)).size, mesh.told.length, 'each reason is told once');
});

t.test('weir refuses hellos that are forged, replayed, of a former run, or of somebody else', async (t) => {
  const mesh = new MeshOnWire(INSTANCES);
  mesh.member('a/a1', 1);
  mesh.settle();
  const { controller } = mesh;
  const hello = (fields: { from?: string; to?: string; sequence?: number; atMs?: number; name?: string; key?: Uint8Array }): Buffer =>
    seal({ kind: 'hello', from: fields.from ?? session(1), to: fields.to ?? session(0xc0), sequence: fields.sequence ?? 1000, atMs: fields.atMs ?? mesh.nowMs, body: encodeHello({ service: 'a', name: fields.name ?? 'a1', syncPort: 5000, version: 0, digest: '', unreachable: [] }) }, fields.key ?? KEY);
  const at = (address: string, datagram: Buffer): void => controller.receive(datagram, { address, port: 7000 });
  at('10.20.0.10', hello({ sequence: 0 }));
  at('10.20.0.10', hello({ key: Buffer.from('another key than this') }));
  at('10.20.0.10', hello({ name: 'a2' }));
  at('10.99.0.1', hello({}));
  at('10.20.0.10', Buffer.alloc(3));
  t.strictSame(controller.refusals.counts, { replayed: 1, forged: 1, wrong_instance: 1, unknown_sender: 1, malformed: 1 });
  mesh.member('a/a1', 2);
  mesh.settle();
  at('10.20.0.10', hello({ sequence: 3000 }));
  t.equal(controller.refusals.of('replayed'), 2, 'a run that is over does not come back');
  t.equal(controller.sessionOf('a/a1'), session(2));
  mesh.nowMs += 101;
  at('10.20.0.10', hello({ to: NOBODY, sequence: 2000 }));
  t.equal(controller.sessionOf('a/a1'), null, 'who does not know this run of weir renews nothing');
  const [answer] = mesh.toMembers.splice(0);
  t.match(open(answer?.datagram ?? Buffer.alloc(0), KEY), { kind: 'welcome', to: session(1) }, 'but is told of it');
});

t.test('how far the sync is behind a node says in its hello, or nothing: a hello of an older node is as good', async (t) => {
  const plain = { service: 'a', name: 'a1', syncPort: 5000, version: 0, digest: '', unreachable: [] };
  const sync: SyncReport = { lagMs: 12, waitingStreams: 3, fillStreams: 40, unprotected: 5 };
  t.strictSame(decodeHello(encodeHello({ ...plain, sync })), { ...plain, sync });
  t.strictSame(decodeHello(Buffer.from(JSON.stringify(plain))), { ...plain, sync: null });
  t.strictSame(decodeHello(Buffer.from(JSON.stringify({ ...plain, sync: null, later: 1 })))?.sync, null);
  const wrong: unknown[] = [1, 'x', [], {}, { ...sync, lagMs: -1 }, { ...sync, lagMs: 0.5 }, { ...sync, lagMs: '12' }, { ...sync, waitingStreams: 2 ** 53 }, { ...sync, fillStreams: null }, { ...sync, unprotected: undefined }, { ...sync, lagMs: 1e300 }];
  for (const one of wrong) t.equal(decodeHello(Buffer.from(JSON.stringify({ ...plain, sync: one }))), null, JSON.stringify(one));

  const mesh = new MeshOnWire(INSTANCES);
  let said: SyncReport | null = sync;
  mesh.member('a/a1', 1, () => said);
  mesh.member('a/a2', 2);
  mesh.settle();
  const shown = (): unknown[] => mesh.controller.view().map(({ instance, sync: of }) => [instance, of]).slice(0, 3);
  t.strictSame(shown(), [['a/a1', sync], ['a/a2', null], ['b/b1', null]]);
  mesh.nowMs += 101;
  t.strictSame(shown()[0], ['a/a1', null], 'of who is not there nothing is known');
  said = null;
  for (const member of mesh.members.values()) member.hello();
  mesh.settle();
  t.strictSame(shown()[0], ['a/a1', null]);
});

t.test('errors that nodes tell of count from when a node is first heard, once, also past its lease and in its next run', async (t) => {
  const mesh = new MeshOnWire(INSTANCES);
  const { controller } = mesh;
  let sequence = 0;
  const tells = (run: number, ...unreachable: readonly (readonly [string, number])[]): number => {
    const body = encodeHello({ service: 'a', name: 'a1', syncPort: 5000, version: 0, digest: '', unreachable });
    controller.receive(seal({ kind: 'hello', from: session(run), to: session(0xc0), sequence: sequence++, atMs: mesh.nowMs, body }, KEY), { address: '10.20.0.10', port: 7000 });
    return controller.unreachable('b/b1');
  };
  t.equal(tells(1, ['b/b1', 40]), 0, 'what was before this weir is nothing new');
  t.equal(tells(1, ['b/b1', 43]), 3);
  mesh.nowMs += 101;
  t.equal(controller.unreachable('b/b1'), 3, 'a node that is not there takes nothing back');
  t.equal(tells(1, ['b/b1', 43]), 3, 'and brings nothing again');
  t.equal(tells(2, ['b/b1', 2]), 5, 'its next process counts from the start');
  t.equal(tells(2, ['b/b1', 2], ['c/none', 9]), 5);
  t.equal(controller.unreachable('c/none'), 0, 'nobody of that name');
});

const nativeMap = (map: ServiceMap, own: number): NativeMeshMap => {
  const services = map.services.map(({ name }) => name);
  return {
    version: map.version,
    own: { address: map.instances[own]?.address ?? '', mac: '02:00:00:00:00:01' },
    ownService: services.indexOf(map.instances[own]?.key.split('/')[0] ?? ''),
    forwarders: map.forwarders.map((address) => ({ address, mac: '02:00:00:00:00:02' })),
    instances: map.instances.map(({ key, address }) => ({ address, mac: '02:00:00:00:00:03', seed: instanceSeed(key) })),
    paths: map.paths.map(({ id, handsOn, answersBackwards, exitsDirectly = false, hops }) => ({ id, handsOn, answersBackwards, exitsDirectly, hops: hops.map(({ service, members }) => ({ service: services.indexOf(service), failOpen: map.services.find(({ name }) => name === service)?.failOpen ?? false, members: members.flat() })) })),
  };
};

t.test('native code and TypeScript find the same next instance, whatever the weights, tiers and members', async (t) => {
  const random = new Random(6);
  for (let round = 0; round < 40; round++) {
    const names = ['a', 'b', 'c'].flatMap((service) => Array.from({ length: 1 + random.below(6) }, (_, i) => `${service}/${i}${random.below(1000)}`));
    const instances = names.map((key, i) => ({ key, address: `10.20.${round}.${i + 1}`, session: session(i + 1), syncPort: 0 }));
    const hop = (service: string): ServiceMap['paths'][number]['hops'][number] => ({ service, members: instances.flatMap(({ key }, i) => (key.startsWith(`${service}/`) && random.chance(0.8) ? [[i, random.pick([1, 1, 3, 1000]), random.below(round % 3)] as const] : [])).sort((x, y) => x[2] - y[2]) });
    const map: ServiceMap = { ...content([]), version: round + 1, services: ['a', 'b', 'c'].map((name) => ({ name, sync: 'off', failOpen: name === 'c' })), instances, paths: [{ id: 7, handsOn: true, answersBackwards: true, hops: [hop('a'), hop('b'), hop('c')] }] };
    const view = new MapView(map);
    const at = (service: string): number => instances.findIndex(({ key }) => key.startsWith(`${service}/`));
    const [first, last] = [new native.MeshMap(nativeMap(map, at('a'))), new native.MeshMap(nativeMap(map, at('c')))];
    for (let n = 0; n < 50; n++) {
      const code = random.below(2 ** 32);
      const [b] = view.ranked(7, 'b', code) ?? [];
      const expected = b === undefined ? { kind: 'refused', reason: 'no_instance' } : { kind: 'instance', instance: instances.findIndex(({ session: run }) => run === b.session), si: 254 };
      for (const found of [first.next(14, 255, code), last.next(15, 255, code)]) if (!sameStep(found, expected)) return t.match(found, expected, `round ${round}`);
    }
  }
  t.pass('2,000 codes, both directions');
});

t.test('who comes to a path ranks after all that are there, and who goes leaves the others as they were', (t) => {
  const random = new Random(9);
  const instances = Array.from({ length: 6 }, (_, i) => ({ key: `b/b${i + 1}`, address: `10.20.0.${i + 1}`, session: session(i + 1), syncPort: 0 }));
  const view = (members: ServiceMap['paths'][number]['hops'][number]['members']): MapView =>
    new MapView({ ...content([]), version: 1, services: [{ name: 'b', sync: 'off', failOpen: false }], instances, paths: [{ id: 7, handsOn: true, answersBackwards: true, hops: [{ service: 'b', members }] }] });
  const all = [[0, 1, 0], [1, 3, 0], [2, 1, 0], [3, 1000, 1], [4, 1, 2], [5, 5, 2]] as const;
  for (let n = 0; n < 300; n++) {
    const code = random.below(2 ** 32);
    const keys = (members: typeof all | readonly (typeof all)[number][]): string[] => (view(members).ranked(7, 'b', code) ?? []).map(({ key }) => key);
    const ranked = keys(all);
    t.strictSame([ranked.slice(0, 3), ranked.slice(0, 4), ranked], [keys(all.slice(0, 3)), keys(all.slice(0, 4)), keys(all)]);
    const without = random.below(6);
    t.strictSame(keys(all.filter((_, i) => i !== without)), ranked.filter((key) => key !== `b/b${without + 1}`));
  }
  t.end();
});

t.test('a map of another format is refused, with what to do', (t) => {
  const map = { ...content(runs), version: 3 };
  t.strictSame(decodeMap(encodeMap(map)), map);
  const [path] = map.paths;
  const exits = (value: unknown, handsOn = true): Buffer => Buffer.from(JSON.stringify({ format: 2, ...map, paths: [{ ...path, handsOn, exitsDirectly: value }] }));
  t.equal(decodeMap(exits(true)).paths[0]?.exitsDirectly, true);
  for (const wrong of [exits('yes'), exits(true, false)]) t.throws(() => decodeMap(wrong), /a path that is none/);
  t.throws(() => decodeMap(Buffer.from(JSON.stringify(map))), /the map has the format 1, and this node reads 2: run the same version of weir everywhere/);
  const badly = (members: readonly (readonly number[])[]): Buffer => Buffer.from(JSON.stringify({ format: 2, ...map, paths: [{ ...map.paths[0], hops: [{ service: 'a', members }] }] }));
  t.throws(() => decodeMap(badly([[0, 1, 1], [1, 1, 0]])), /tiers do not go up/);
  t.throws(() => decodeMap(badly([[0, 1]])), /a member that is none/);
  t.end();
});

const sameStep = (found: object, expected: object): boolean => Object.entries(expected).every(([key, value]) => (found as Record<string, unknown>)[key] === value);

t.test('a packet with an index that the path does not have, or of another service, is refused; the end goes to weir', async (t) => {
  const map = { ...content(runs), version: 1 };
  const at = (i: number): InstanceType<typeof native.MeshMap> => new native.MeshMap(nativeMap(map, i));
  const code = 0x31795085;
  t.match(at(0).next(2, 255, code), { kind: 'instance', si: 254 });
  t.match(at(2).next(2, 254, code), { kind: 'forwarder', si: 253 }, 'the last service sends to the forwarder');
  t.match(at(2).next(3, 255, code), { kind: 'instance', si: 254 }, 'answers come in by the last service');
  t.match(at(0).next(3, 254, code), { kind: 'forwarder', si: 253 });
  t.match(at(0).next(2, 253, code), { kind: 'refused', reason: 'bad_index' });
  t.match(at(0).next(2, 1, code), { kind: 'refused', reason: 'bad_index' });
  t.match(at(0).next(2, 0, code), { kind: 'refused', reason: 'si_zero' });
  t.match(at(2).next(2, 255, code), { kind: 'refused', reason: 'wrong_service' });
  const direct = { ...map, paths: map.paths.map((path) => ({ ...path, exitsDirectly: true })) };
  t.match(new native.MeshMap(nativeMap(direct, 2)).next(2, 254, code), { kind: 'exit', si: 253 }, 'or straight out');
  t.match(new native.MeshMap(nativeMap(direct, 0)).next(3, 254, code), { kind: 'forwarder', si: 253 }, 'but not answers');
  t.match(at(0).next(8, 255, code), { kind: 'back', si: 254 }, 'of a path it does not know, nothing but that it has done its service');
  t.throws(() => new native.MeshMap({ ...nativeMap(map, 0), paths: [{ id: 1, handsOn: true, answersBackwards: true, exitsDirectly: false, hops: [{ service: 0, failOpen: false, members: [99, 1, 0] }] }] }), /member that is not there/);
  t.throws(() => new native.MeshMap({ ...nativeMap(map, 0), paths: [{ id: 1, handsOn: true, answersBackwards: true, exitsDirectly: false, hops: [{ service: 0, failOpen: false, members: [1, 1, 1, 0, 1, 0] }] }] }), /tiers do not go up/);
  t.throws(() => new native.MeshMap({ ...nativeMap(map, 0), paths: [{ id: 1, handsOn: true, answersBackwards: true, exitsDirectly: false, hops: [{ service: 0, failOpen: false, members: [1, 1] }] }] }), /an index, a weight and a tier each/);
});
