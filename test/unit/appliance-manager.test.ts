/** Managers: who is let in, who leads, what a document changes; and the connections that they listen on. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import t from 'tap';
import { Channel, type Message } from '../../src/appliance/channel.js';
import { ManagerLink } from '../../src/appliance/link.js';
import { Manager, type Peer } from '../../src/appliance/manager.js';
import type { DispatcherPart, DispatcherReport, ManagerState, Part, Report, UnitPart, UnitReport } from '../../src/appliance/messages.js';
import { ManagerServer } from '../../src/appliance/server.js';
import { until } from '../support/lab.js';

const log = pino({ level: 'silent' });
const layout = { min: 1, max: 3, start: 2 };
const document = (change: object = {}): { appliance: object } => ({
  appliance: {
    name: 'edge',
    service: 'inspect',
    function: 'meter',
    settings: { max_hosts: 5 },
    managers: [{ name: 'm-1', address: '127.0.0.1' }],
    dispatchers: [{ name: 'd-1', address: '10.20.0.51' }, { name: 'd-2', address: '10.20.0.52' }],
    units: [1, 2, 3].map((i) => ({ name: `u-${i}`, address: `10.20.0.${100 + i}`, ...(i === 3 ? { settings: { max_hosts: 9 } } : {}) })),
    layout,
    ...change,
  },
});

const unit = (i: number, change: Partial<UnitReport> = {}): UnitReport => ({ type: 'unit', term: 0, revision: 0, name: `u-${i}`, service: 'inspect', address: `10.20.0.${100 + i}`, session: `s${i}`, streams: 0, needs: [], cpu: 1, packetsPerSecond: 1, opened: 0, openedMidstream: 0, passedOn: 0, takenUp: 0, ...change });
const dispatcher = (i: number, change: Partial<DispatcherReport> = {}): DispatcherReport => ({ type: 'dispatcher', term: 0, revision: 0, name: `d-${i}`, addresses: [`10.20.0.${50 + i}`], fingerprint: 'f', error: null, streams: 0, ...change });

class FakePeer implements Peer {
  readonly said: Part[] = [];
  refused: string | null = null;
  constructor(readonly address: string) {}
  send(message: Message): void {
    this.said.push(message as unknown as Part);
  }
  refuse(why: string): void {
    this.refused = why;
  }
}

/** Managers and members under one clock; members report and do what they are told. */
class World {
  nowMs = 0;
  readonly peers = new Map<string, FakePeer>();
  readonly kept: ManagerState[] = [];
  readonly managers: Manager[];
  /** Of each unit, in percent. */
  load = 30;
  /** Of each unit. */
  streams = 0;

  constructor(...names: string[]) {
    this.managers = names.map((name) => new Manager({ name, now: () => this.nowMs, keep: async (state) => void this.kept.push(state), log }));
  }

  get manager(): Manager {
    return this.managers[0] as Manager;
  }

  say(report: UnitReport | DispatcherReport, address = report.type === 'unit' ? report.address : '10.20.0.99'): FakePeer {
    const key = `${report.name} ${address}`;
    const peer = this.peers.get(key) ?? new FakePeer(address);
    this.peers.set(key, peer);
    const last = peer.said.at(-1);
    for (const manager of this.managers) manager.received({ ...report, ...(last === undefined ? {} : { term: last.term, revision: last.revision }) } as unknown as Message, peer);
    return peer;
  }

  /** So long, with these units and both dispatchers alive; `silent` managers don't run. */
  pass(ms: number, units: readonly number[] = [1, 2, 3], silent: readonly Manager[] = []): void {
    for (const end = this.nowMs + ms; this.nowMs < end; this.nowMs += 100) {
      for (const manager of this.managers) {
        if (silent.includes(manager)) continue;
        for (const other of this.managers) if (other !== manager && !silent.includes(other)) other.received(manager.report(true) as unknown as Message, new FakePeer('127.0.0.1'));
        manager.tick();
      }
      for (const i of units) this.say(unit(i, { cpu: this.load, streams: this.streams }));
      for (const i of [1, 2]) this.say(dispatcher(i));
    }
  }

  part<P extends Part>(name: string): P {
    const peer = [...this.peers].find(([key]) => key.startsWith(`${name} `))?.[1];
    return peer?.said.at(-1) as P;
  }
}

t.test('a document, and each member gets the part that its role needs', async (t) => {
  const world = new World('m-1');
  t.equal(world.manager.status(), null);
  t.strictSame((await world.manager.apply(document(), true)).dry_run, true);
  t.equal(world.manager.appliance, null);
  await world.manager.apply(document(), false);
  world.pass(3000);
  const first = world.part<UnitPart>('u-1');
  t.match(first, { function: 'meter', settings: { max_hosts: 5 }, dispatchers: ['10.20.0.51', '10.20.0.52'], units: [['u-1', '10.20.0.101'], ['u-2', '10.20.0.102']] });
  t.strictSame(world.part<UnitPart>('u-3').settings, { max_hosts: 9 });
  t.strictSame(world.part<DispatcherPart>('d-1').instances.map(({ name, leaving }) => [name, leaving]), [['u-1', false], ['u-2', false]]);
  t.match(world.manager.status(), { phase: 'steady', count: { wanted: 2, serving: 2 } });
  t.strictSame(world.manager.status()?.units.map(({ state }) => state), ['serving', 'serving', 'standby']);

  await world.manager.scale(3);
  world.pass(3000);
  t.strictSame(world.manager.status()?.units.map(({ state }) => state), ['serving', 'serving', 'serving']);
  await t.rejects(world.manager.scale(4), /expected 1 to 3 units/);
  t.strictSame((await world.manager.apply(document(), false)).changes, [], 'the same once more changes nothing');
  t.strictSame((await world.manager.apply(document({ settings: { max_hosts: 6 } }), false)).changes, ['settings are changed']);
  world.pass(1000);
  t.strictSame(world.part<UnitPart>('u-1').settings, { max_hosts: 6 });
  await t.rejects(world.manager.apply(document({ service: 'other' }), false), /the service of an appliance that runs stays/);
  await t.rejects(world.manager.apply(document({ managers: [{ name: 'm-9', address: '127.0.0.1' }] }), false), /this manager is "m-1"/);
  await t.rejects(world.manager.apply(document({ units: [{ name: 'u-1', address: '10.20.0.150' }], layout: { min: 1, max: 1 } }), false), /unit "u-1" is in use at 10.20.0.101/);
  await t.rejects(world.manager.apply({ appliance: { name: 'x' } }, false), /the key "units" is missing/);
});

t.test('who is not what the document says is not let in', async (t) => {
  const world = new World('m-1');
  await world.manager.apply(document(), false);
  world.pass(2000);
  t.match(world.say({ ...unit(1), name: 'u-9' }).refused, /has no unit "u-9"; it has: u-1, u-2, u-3/);
  t.match(world.say(unit(2, { service: 'other' }), '10.20.0.77').refused, /performs other, and edge is for inspect/);
  t.match(world.say(unit(3, { address: '10.20.0.44' })).refused, /is at 10.20.0.44, and the document says 10.20.0.103/);
  t.match(world.say(unit(3), '10.20.0.45').refused, /says that it is at 10.20.0.103, and speaks from 10.20.0.45/);
  t.match(world.say(dispatcher(1, { addresses: ['10.20.0.9'] }), '10.20.0.78').refused, /is at 10.20.0.9 on its underlay, and the document says 10.20.0.51/);
  t.match(world.say(dispatcher(2, { fingerprint: 'g' }), '10.20.0.79').refused, /another affinity key than "d-1"/);
  t.match(world.say(dispatcher(1), '10.20.0.80').refused, /connected already, from 10.20.0.99: are there two of that name/);
  const absurd: Readonly<Record<string, unknown>> = { streams: -1, needs: [1, -7], cpu: 1e300, packetsPerSecond: '5', opened: null, address: 'x'.repeat(1000), session: {}, revision: 0.5 };
  for (const [key, value] of Object.entries(absurd)) {
    const peer = new FakePeer('10.20.0.101');
    world.manager.received({ ...unit(1), [key]: value } as unknown as Message, peer);
    t.equal(peer.refused, `its "${key}" makes no sense`);
  }
  const second = new FakePeer('10.20.0.102');
  world.manager.received(unit(2, { session: 'of another process' }) as unknown as Message, second);
  t.match(second.refused, /unit "u-2" is connected already, from 10.20.0.102: are there two of that name/);
  const liar = new FakePeer('10.20.0.101');
  world.manager.received(unit(1, { term: 2 ** 52 }) as unknown as Message, liar);
  t.match(liar.refused, /has been told something by a manager of term 4503599627370496, and this one knows of/);
  t.equal(world.manager.status()?.count.serving, 2, 'and those who are in serve on');
});

t.test('a member whose connection is over may come back at once, also where the lease is long', async (t) => {
  const world = new World('m-1');
  await world.manager.apply(document({ layout: { ...layout, lease: '20s' } }), false);
  world.pass(2000);
  const before = [world.peers.get('d-1 10.20.0.99'), world.peers.get('u-1 10.20.0.101')] as FakePeer[];
  for (const peer of before) world.manager.gone(peer);
  world.manager.tick();
  for (const [report, address] of [[dispatcher(1), '10.20.0.99'], [unit(1, { session: 'the next one' }), '10.20.0.101']] as const) {
    const again = new FakePeer(address);
    world.manager.received(report as unknown as Message, again);
    t.equal(again.refused, null);
    t.equal(again.said.length, 1, 'and is told its part');
  }
  await world.manager.scale(3);
  const told = before.map(({ said }) => said.length);
  world.manager.tick();
  t.strictSame(before.map(({ said }) => said.length), told, 'nothing is said to a connection that is over');
});

t.test('what another manager says and makes no sense is not gone on from', async (t) => {
  const managers = [{ name: 'm-1', address: '127.0.0.1' }, { name: 'm-2', address: '127.0.0.2' }];
  const world = new World('m-1');
  await world.manager.apply(document({ managers }), false);
  const good = world.kept.at(-1) as ManagerState;
  const states = [{}, { ...good, rollout: {} }, { ...good, rollout: { ...good.rollout, maps: [{ version: 1, members: ['u-1'] }] } }, { ...good, places: [] }, { ...good, document: null }, 7];
  for (const state of states) {
    const peer = new FakePeer('127.0.0.2');
    world.manager.received({ type: 'manager', name: 'm-2', term: 99, revision: 99, state } as unknown as Message, peer);
    t.match(peer.refused, /its "state" makes no sense/);
  }
  const peer = new FakePeer('127.0.0.2');
  world.manager.received({ type: 'manager', name: 'm-2', term: 99, revision: 99, state: { ...good, rollout: { ...good.rollout, term: 99 }, document: { appliance: { name: 'x' } } } } as unknown as Message, peer);
  t.equal(world.manager.appliance?.name, 'edge');
  world.manager.received({ type: 'manager', name: 'm-3', term: 0, revision: 0, state: null }, peer);
  t.match(peer.refused, /has no manager "m-3"/);
});

t.test('a unit that leaves has all its time to drain, whichever manager goes on', async (t) => {
  const world = new World('m-1');
  const change = { layout: { ...layout, drain: '5s' } };
  await world.manager.apply(document(change), false);
  world.streams = 7;
  world.pass(3000);
  await world.manager.scale(1);
  world.pass(2000);
  t.match(world.manager.status()?.phase, /u-2 leaving/);
  // Its clock is another one.
  for (const startMs of [5_000_000, 0]) {
    const again = new World('m-1');
    again.nowMs = startMs;
    again.streams = 7;
    again.manager.begin(world.kept.at(-1) as ManagerState);
    again.pass(4000);
    t.match(again.manager.status()?.phase, /u-2 leaving/);
    again.pass(4000);
    t.equal(again.manager.status()?.phase, 'steady');
  }
});

t.test('a unit that dies is given up and replaced; a manager that starts anew waits for them', async (t) => {
  const world = new World('m-1');
  await world.manager.apply(document(), false);
  world.pass(3000);
  world.pass(3000, [2, 3]);
  t.strictSame(world.manager.status()?.units.map(({ state }) => state), ['away', 'serving', 'serving']);
  t.strictSame(world.part<DispatcherPart>('d-1').instances.map(({ name }) => name), ['u-2', 'u-3']);
  const again = new World('m-1');
  again.nowMs = 5_000_000;
  const state = world.kept.at(-1);
  if (state !== undefined) again.manager.begin(state);
  again.pass(1000, []);
  t.equal(again.manager.status()?.count.serving, 2, 'nobody is given up before he had time to speak');
  again.pass(3000);
  t.strictSame(again.manager.status()?.units.map(({ state: is }) => is), ['standby', 'serving', 'serving']);
  t.ok((again.manager.status()?.term ?? 0) > (state?.rollout.term ?? 0));
});

t.test('of two managers the first leads; when it is gone the other goes on, and the first takes over from it when it is back', async (t) => {
  const managers = [{ name: 'm-1', address: '127.0.0.1' }, { name: 'm-2', address: '127.0.0.2' }];
  const world = new World('m-1', 'm-2');
  const [one, two] = world.managers as [Manager, Manager];
  await one.apply(document({ managers }), false);
  world.pass(4000);
  t.match([one.leads, two.leads, two.leader], [true, false, 'm-1']);
  await t.rejects(two.scale(3), /manager "m-1" leads: ask there/);
  world.pass(2500, [1, 2, 3], [one]);
  t.match([two.leads, two.leader], [true, 'm-2']);
  const { term } = two.rollout;
  t.ok(term > one.rollout.term);
  await two.scale(3);
  world.pass(3000, [1, 2, 3], [one]);
  t.equal(two.status()?.count.serving, 3);
  t.equal(world.part<UnitPart>('u-1').term, term);
  world.pass(4000);
  t.match([one.leads, two.leads], [true, false]);
  t.ok(one.rollout.term > term);
  t.equal(one.status()?.count.serving, 3, 'it has what was done without it');
});

t.test('hooks start the units that are missing and end those that have left; thresholds change their number', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weir-hooks-'));
  const file = join(directory, 'calls');
  const hook = { exec: ['/bin/sh', '-c', `echo "$WEIR_ACTION $WEIR_SERVICE $WEIR_INSTANCE $WEIR_ADDRESS" >> ${file}; test "$WEIR_INSTANCE" != u-2`] };
  const calls = (): string[] => (existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').sort() : []);
  const world = new World('m-1');
  const thresholds = { metric: 'cpu', add_above: 70, remove_below: 20, for: '1s' };
  await world.manager.apply(document({ layout: { ...layout, thresholds, add: hook, remove: hook } }), false);
  world.pass(500, []);
  await until('both to be started', () => calls().length === 2);
  t.strictSame(calls(), ['add inspect u-1 10.20.0.101', 'add inspect u-2 10.20.0.102']);
  await until('the failure to be known', () => world.manager.starter.failed('u-2'));
  t.match(world.manager.status()?.units[1], { state: 'failed', cause: 'its hook: it ended with 1' });
  world.pass(500, []);
  await until('the next one to be started', () => calls().includes('add inspect u-3 10.20.0.103'));
  world.pass(4000, [1, 3]);
  t.strictSame(world.manager.status()?.units.map(({ state }) => state), ['serving', 'failed', 'serving']);

  world.load = 90;
  world.pass(3000, [1, 3]);
  t.equal(world.manager.count, 3);
  world.load = 0;
  world.pass(8000, [1, 3]);
  t.equal(world.manager.count, 1);
  await until('the one that left to be ended', () => calls().some((call) => call.startsWith('remove')));
  t.strictSame(calls().filter((call) => call.startsWith('remove')), ['remove inspect u-3 10.20.0.103']);
  rmSync(directory, { recursive: true });
});

t.test('a hook that says its unit is somewhere else, and a unit there that says it is the one', async (t) => {
  const liar = { exec: ['/bin/sh', '-c', 'echo "{\\"address\\": \\"10.20.0.9\\"}"'] };
  const world = new World('m-1');
  await world.manager.apply(document({ layout: { min: 1, max: 1, add: liar, remove: liar } }), false);
  world.pass(500, []);
  await until('the lie to be known', () => world.manager.starter.failed('u-1'));
  t.match(world.manager.status()?.units[0], { state: 'failed', cause: 'its hook says that it is at 10.20.0.9, and the document says 10.20.0.101' });
  t.match(world.say(unit(1), '10.20.0.9').refused, /says that it is at 10.20.0.101, and speaks from 10.20.0.9/);
});

t.test('over the wire: strangers, garbage and floods are refused and counted, members get their parts', async (t) => {
  const stateDir = mkdtempSync(join(tmpdir(), 'weir-manager-'));
  const key = Buffer.from('a key that members have');
  const server = await ManagerServer.listen({ name: 'm-1', address: '127.0.0.1', port: 0, key, stateDir }, log);
  const { manager, port } = server;
  const counted = (): Record<string, number> => server.refusals.counts as Record<string, number>;
  await manager.apply(document({ units: [{ name: 'u-1', address: '127.0.0.1' }], layout: { min: 1, max: 1 } }), false);

  const throwAt = async (text: string | Buffer): Promise<void> => {
    const socket = connect(port, '127.0.0.1');
    await new Promise((resolve) => socket.once('data', resolve));
    socket.on('error', () => undefined);
    socket.write(text);
    await new Promise((resolve) => socket.once('close', resolve));
  };
  await throwAt('GET / HTTP/1.1\r\n\r\n');
  await throwAt(`weir-appliance/1 ${'0'.repeat(32)}\n${'0'.repeat(64)} {"type":"unit"}\n`);
  await throwAt(Buffer.alloc(100_000, 'x'));
  t.match(counted(), { malformed: 1, forged: 1, too_long: 1 });

  const wrongKey = await new Promise<string>((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const channel = new Channel(socket, 'client', Buffer.from('another key, of a stranger'), { received: () => resolve('taken'), closed: (refused) => resolve(refused?.reason ?? 'closed') });
    channel.send({ type: 'unit' });
  });
  t.not(wrongKey, 'taken');
  await until('it to be counted', () => counted()['forged'] === 2);

  const told: string[] = [];
  const stranger: ManagerLink = new ManagerLink({ managers: [{ address: '127.0.0.1', port }], address: '127.0.0.1', key: Buffer.from('another key, of a stranger'), report: (): Report => unit(1, { address: '127.0.0.1' }), take: async () => undefined }, { ...log, warn: (text: string) => void told.push(text) } as typeof log);
  await until('the member with the wrong key to be told', () => told.length > 0);
  stranger.close();
  t.match(told, [/manager 127.0.0.1 ends the connection before it has said anything: is --manager-key the same file there\?/]);

  const parts: Part[] = [];
  const link: ManagerLink = new ManagerLink({ managers: [{ address: '127.0.0.1', port }], address: '127.0.0.1', key, report: (): Report => unit(1, { address: '127.0.0.1', ...link?.edition }), take: async (part) => void parts.push(part) }, log);
  await until('the unit to serve', () => manager.status()?.units[0]?.state === 'serving' && manager.status()?.units[0]?.behind === false);
  t.match(parts.at(-1), { type: 'unit_part', function: 'meter', units: [['u-1', '127.0.0.1']] });
  link.close();
  await server.close();

  const again = await ManagerServer.listen({ name: 'm-1', address: '127.0.0.1', port, key, stateDir }, log);
  t.equal(again.manager.appliance?.name, 'edge', 'what was applied is there after a restart');
  await again.close();
  rmSync(stateDir, { recursive: true });
});
