/** What is told of a running dataplane: the bus, what is watched, and a whole dataplane on the sim port. */
import { pino } from 'pino';
import t from 'tap';
import { eventLine } from '../../src/cli/events.js';
import { named, userName } from '../../src/control/peer.js';
import type { NativeCounters } from '../../src/dataplane/native.js';
import { Watch } from '../../src/dataplane/watch.js';
import { EVENT_KINDS, Events, KEPT_EVENTS, type EventFacts, type EventKind, type WeirEvent } from '../../src/observe/events.js';
import { Who } from '../../src/observe/who.js';
import { steerAll, valid } from '../support/configuration.js';
import { udp } from '../support/packets.js';
import { simulate } from '../support/sim.js';

const silent = pino({ level: 'silent' });
const edited = (cause: string): EventFacts => ({ kind: 'config', cause });

t.test('the bus', async (t) => {
  await t.test('each event has number, time, generation, cause and who, and comes in order', async (t) => {
    let generation = 7;
    const events = new Events(() => generation, silent, () => Date.UTC(2026, 0, 2, 3, 4, 5, 6));
    const heard: WeirEvent[] = [];
    const stop = events.listen((event) => heard.push(event));
    events.emit(edited('one'), new Who('alice', 1000, 1000, 42));
    generation++;
    events.emit(edited('two'));
    stop();
    events.emit(edited('three'));
    t.match(heard, [
      { sequence: 1, time: '2026-01-02T03:04:05.006Z', generation: 7, kind: 'config', cause: 'one', who: { name: 'alice', uid: 1000, pid: 42 } },
      { sequence: 2, generation: 8, cause: 'two', who: { name: 'weir', uid: null, pid: null } },
    ]);
    t.equal(heard.length, 2);
    t.equal(events.last, 3);
  });

  await t.test('the last ones can be asked for, and what is gone is counted', async (t) => {
    const events = new Events(() => 1, silent);
    t.match(events.history(), { last: 0, missed: 0, events: [] });
    for (let i = 1; i <= KEPT_EVENTS + 50; i++) events.emit(i % 2 === 0 ? edited(String(i)) : { kind: 'offload', cause: 'no segmentation offload', interface: 'a' });
    const all = events.history();
    t.equal(all.events.length, KEPT_EVENTS);
    t.equal(all.events[0]?.sequence, 51);
    t.match(all, { last: KEPT_EVENTS + 50, missed: 50 });
    t.strictSame(events.history({ since: KEPT_EVENTS + 47, limit: 2 }).events.map((event) => event.sequence), [KEPT_EVENTS + 49, KEPT_EVENTS + 50]);
    t.strictSame(events.history({ limit: 2, kinds: ['config'] }).events.map((event) => event.sequence), [KEPT_EVENTS + 48, KEPT_EVENTS + 50]);
    t.match(events.history({ since: KEPT_EVENTS + 50 }), { missed: 0, events: [] });
    t.match(events.history({ limit: 0 }), { events: [] });
  });

  await t.test('a listener that throws is dropped; the others and the one who emits notice nothing', async (t) => {
    const said: string[] = [];
    const events = new Events(() => 1, pino({}, { write: (line) => void said.push(line) }));
    let good = 0;
    events.listen(() => {
      throw new Error('broken');
    });
    events.listen(() => good++);
    events.emit(edited('one'));
    events.emit(edited('two'));
    t.equal(good, 2);
    t.equal(said.length, 1);
    t.match(said[0], /broken.*a listener for events failed/);
  });
});

function watched(): { watch: Watch; events: Events; news: () => WeirEvent[]; links: Map<string, { up: boolean; carrier: boolean }> } {
  const events = new Events(() => 1, silent);
  const links = new Map<string, { up: boolean; carrier: boolean }>();
  let seen = 0;
  const news = (): WeirEvent[] => {
    const { events: fresh, last } = events.history({ since: seen });
    seen = last;
    return [...fresh];
  };
  return { watch: new Watch(events, silent, (name) => links.get(name) ?? null), events, news, links };
}

t.test('what is watched', async (t) => {
  const counters = (evicted: number, rxDropped: number, cuts = false): Pick<NativeCounters, 'streams' | 'ports'> => ({
    streams: { active: 10, opened: 100, expired: 0, evicted, capacity: 10 },
    ports: [{ port: 1, interface: 'in0', rxFrames: 0, rxBytes: 0, rxDropped, txFrames: 0, txBytes: 0, txErrors: 0, cuts, open: true }],
  });

  await t.test('overflow is told at once, then once a minute while it goes on, with all since', async (t) => {
    const { watch, news } = watched();
    watch.counters(counters(0, 0), 0);
    t.strictSame(news(), []);
    watch.counters(counters(5, 0), 1000);
    t.match(news(), [{ kind: 'overflow', evicted: 5, total: 5, capacity: 10 }]);
    for (let second = 2; second < 61; second++) watch.counters(counters(5 + second, second), second * 1000);
    t.match(news(), [{ kind: 'ring', interface: 'in0', dropped: 2, total: 2 }]);
    watch.counters(counters(66, 61), 61_000);
    t.match(news(), [{ kind: 'overflow', evicted: 61, total: 66 }]);
    watch.counters(counters(66, 61), 200_000);
    t.match(news(), [{ kind: 'ring', dropped: 59, total: 61 }]);
    watch.counters(counters(66, 61), 400_000);
    t.strictSame(news(), []);
  });

  await t.test('a device without offload is told once', async (t) => {
    const { watch, news } = watched();
    watch.counters(counters(0, 0, true), 0);
    watch.counters(counters(0, 0, true), 1000);
    t.match(news(), [{ kind: 'offload', interface: 'in0' }]);
  });

  await t.test('interfaces come and go, each with the reason', async (t) => {
    const { watch, news, links } = watched();
    const { captures, underlays } = valid(steerAll());
    const configuration = { captures, underlays };
    const host = { interfaces: ['und0', 'a', 'b'] };
    for (const name of host.interfaces) links.set(name, { up: true, carrier: true });
    watch.links(configuration, host);
    t.strictSame(news(), [], 'up at the start is no news');
    links.set('b', { up: true, carrier: false });
    watch.links(configuration, host);
    watch.links(configuration, host);
    t.match(news(), [{ kind: 'capture', capture: 'web', interface: 'b', state: 'down', cause: 'no carrier' }]);
    links.set('b', { up: true, carrier: true });
    links.delete('und0');
    watch.links(configuration, host);
    t.match(news(), [
      { kind: 'capture', capture: null, interface: 'und0', state: 'down', cause: 'the interface is gone' },
      { kind: 'capture', capture: 'web', interface: 'b', state: 'up', cause: 'carrier found' },
    ]);
  });

  await t.test('neighbours are found, lost, found again and moved', async (t) => {
    const { watch, news } = watched();
    const configuration = { services: valid(steerAll()).services.slice(0, 1) };
    const neighbour = { mac: null as string | null, silent: false };
    const round = (): string[] => {
      const facts = { macOf: (address: string) => (address === '10.20.0.11' ? neighbour.mac : 'aa:aa:aa:aa:aa:aa'), silent: (address: string) => address === '10.20.0.11' && neighbour.silent };
      watch.neighbours(configuration, facts, () => 'up');
      return news().map((event) => (event.kind === 'instance' ? `${event.instance} ${event.state} ${event.cause}` : event.kind));
    };
    t.strictSame(round(), []);
    neighbour.mac = '02:00:00:00:00:01';
    t.strictSame(round(), ['firewall/fw-1 up neighbour found']);
    neighbour.silent = true;
    t.strictSame(round(), ['firewall/fw-1 up neighbour lost']);
    t.strictSame(round(), []);
    neighbour.silent = false;
    t.strictSame(round(), ['firewall/fw-1 up neighbour found']);
    neighbour.mac = '02:00:00:00:00:02';
    t.strictSame(round(), ['firewall/fw-1 up neighbour moved']);
  });
});

t.test('a dataplane', async (t) => {
  const said: Record<string, unknown>[] = [];
  const { dataplane, network } = await simulate(steerAll(), 16, pino({}, { write: (line) => void said.push(JSON.parse(line) as Record<string, unknown>) }));
  const bob = new Who('bob', 1001, 1001, 77);
  let seen = 0;
  const news = (): readonly WeirEvent[] => {
    const { events, last } = dataplane.events.history({ since: seen });
    seen = last;
    return events;
  };
  t.match(news(), [{ kind: 'capture', capture: 'web', state: 'up', cause: 'started', generation: 1 }]);

  const change = await dataplane.setChain('inspect', ['ids'], 'move', bob);
  t.match(change, { generation: 2, who: 'bob, uid 1001, pid 77' });
  t.match(news(), [{ kind: 'config', generation: 2, cause: /^chain inspect is now \[ids\]/, who: { name: 'bob', uid: 1001, pid: 77 } }]);
  t.match(said.at(-1), { generation: 2, who: { uid: 1001, pid: 77 }, msg: /^chain inspect is now \[ids\].* \(bob, uid 1001, pid 77\)$/ });

  await t.rejects(dataplane.setChain('inspect', ['nope'], 'keep', bob));
  t.strictSame(news(), [], 'what is refused did not happen');

  await dataplane.upkeep(10_000);
  await dataplane.upkeep(13_000);
  t.match(news(), [{ kind: 'path', path: 1, chain: 'inspect', cause: 'no stream left', generation: dataplane.generation, who: { name: 'weir' } }]);

  network.inject(1, udp());
  network.advance(1_000_000n);
  const pinned = dataplane.runner.counters().instances.find((row) => row.streams > 0);
  const name = dataplane.ids.instances.name(pinned?.id ?? -1) ?? '';
  const [service = '', instance = ''] = name.split('/');
  await dataplane.setInstance(service, instance, 'draining', 60_000, bob);
  await dataplane.upkeep(Date.now());
  t.match(news(), [{ kind: 'instance', instance: name, state: 'draining', cause: 'set', generation: 3, who: { uid: 1001 } }]);
  await dataplane.upkeep(Date.now() + 61_000);
  t.match(news(), [{ kind: 'instance', instance: name, state: 'down', cause: 'deadline', generation: dataplane.generation, who: { name: 'weir' } }]);
  await dataplane.setInstance('firewall', 'fw-1', 'draining', null, bob);
  await dataplane.upkeep(Date.now());
  t.match(news(), [{ cause: 'set' }, { kind: 'instance', instance: 'firewall/fw-1', state: 'down', cause: 'drained', generation: dataplane.generation }]);

  for (let host = 0; host < 200; host++) network.inject(1, udp({ sourcePort: 1024 + host }));
  network.advance(1_000_000n);
  await dataplane.upkeep(100_000);
  t.match(news(), [{ kind: 'overflow', evicted: dataplane.runner.counters().streams.evicted, who: { name: 'weir' } }]);

  await dataplane.stop();
  t.match(news(), [{ kind: 'capture', capture: 'web', state: 'down', cause: 'stopped' }]);
});

t.test('every kind reads as one plain line', async (t) => {
  const events = new Events(() => 12, silent, () => Date.UTC(2026, 0, 2, 3, 4, 5, 6));
  const root = new Who('root', 0, 0, 42);
  const told: readonly (readonly [facts: EventFacts, text: string])[] = [
    [edited('chain a is now [b]'), 'chain a is now [b]'],
    [{ kind: 'path', cause: 'no stream left', path: 3, chain: 'a' }, 'path 3 of chain a freed: no stream left'],
    [{ kind: 'instance', cause: 'set', instance: 'fw/1', state: 'draining' }, 'fw/1 is now draining'],
    [{ kind: 'instance', cause: 'deadline', instance: 'fw/1', state: 'down' }, 'fw/1 is now down: deadline'],
    [{ kind: 'instance', cause: 'neighbour lost', instance: 'fw/1', state: 'up' }, 'fw/1 (up): neighbour lost'],
    [{ kind: 'condition', cause: 'it is 08:00', variant: 'office', active: true }, 'office is now in force: it is 08:00'],
    [{ kind: 'scale', cause: 'packets 900/s, 500 wanted', service: 'fw', instance: 'fw/auto-1', phase: 'adding' }, 'fw/auto-1: adding: packets 900/s, 500 wanted'],
    [{ kind: 'overflow', cause: 'flow table full', evicted: 2, total: 5, capacity: 10 }, 'flow table full: 2 live streams given up for new ones (5 since the start, room for 10)'],
    [{ kind: 'ring', cause: 'ring full', interface: 'in0', dropped: 2, total: 5 }, 'in0: ring full, 2 frames lost (5 since the start)'],
    [{ kind: 'capture', cause: 'no carrier', capture: null, interface: 'und0', state: 'down' }, 'underlay (und0) is down: no carrier'],
    [{ kind: 'offload', cause: 'no segmentation offload', interface: 'in0' }, 'in0: no segmentation offload, super-frames are cut before they reach it'],
    [edited('a\n\u001b[2Jb'), 'a??[2Jb'],
  ];
  const lines = told.map(([facts]) => eventLine(events.emit(facts, root)));
  t.strictSame(
    lines.map((line) => /^2026-01-02T03:04:05\.006Z {2}g12 {3}\S+ +(.*) {2}\(root, uid 0, pid 42\)$/.exec(line)?.[1]),
    told.map(([, text]) => text),
  );
  t.strictSame(new Set(told.map(([facts]) => facts.kind)), new Set<EventKind>(EVENT_KINDS));
});

t.test('who, in words', async (t) => {
  t.equal(String(new Who('alice', 1000, 1000, 4711)), 'alice, uid 1000, pid 4711');
  t.equal(String(new Who('uid 1000', 1000, 1000, null)), 'uid 1000');
  t.equal(String(new Who('control connection 3')), 'control connection 3');
  const passwd = t.testdir({ passwd: '# a comment\nroot:x:0:0:root:/:/bin/sh\n:x:7:7::/:\nalice:x:1000:1000::/:/bin/sh\n' });
  t.equal(userName(1000, `${passwd}/passwd`), 'alice');
  t.equal(userName(7, `${passwd}/passwd`), null);
  t.equal(userName(8, `${passwd}/passwd`), null);
  t.equal(userName(0, `${passwd}/none`), null);
  t.equal(String(named(new Who('uid 1000', 1000, 1000, 4711), `${passwd}/passwd`)), 'alice, uid 1000, pid 4711');
  t.equal(String(named(new Who('uid 8', 8, 8, 4711), `${passwd}/passwd`)), 'uid 8, pid 4711');
  t.equal(String(named(new Who('control connection 3'), `${passwd}/passwd`)), 'control connection 3');
});
