/** The sync of state between instances: what is said, kept, taken over, and refused. */
import t from 'tap';
import { seal } from '../../src/mesh/envelope.js';
import { MapView, type ServiceMap } from '../../src/mesh/service-map.js';
import { readRecord, writeRecord, type SyncRecord } from '../../src/mesh/sync/record.js';
import { Reader, StateCodec, StateRefused, Writer, type FieldValue } from '../../src/mesh/sync/state-codec.js';
import { StateSync } from '../../src/mesh/sync/state-sync.js';
import { Streams, type Stream } from '../../src/service/streams.js';
import { Packet } from '../../src/service/packet.js';
import { content, KEY, session } from '../support/mesh-wire.js';
import { udp, type Flow } from '../support/segments.js';

interface Count {
  packets: number;
  note: string;
}

const SHAPE = { version: 1, fields: { packets: 'uint', note: { text: 20 } } } as const;
const INSTANCES = [1, 2, 3].map((n) => ({ key: `s/${n}`, address: `10.20.0.${n}`, session: session(n) }));

class Instance {
  readonly streams: Streams<Count>;
  readonly sync: StateSync<Stream<Count>>;
  readonly packet = new Packet();
  session: string;

  constructor(readonly net: Net, readonly n: number) {
    const codec = new StateCodec(SHAPE);
    this.session = session(n);
    this.streams = new Streams<Count>({ max: 1000, mayServe: (packet) => this.sync.mayServe(packet.spi >>> 1, packet.code), newState: () => ({ packets: 0, note: '' }), onEnd: (_, why, stream) => (why === 'moved' ? undefined : this.sync.end(stream)), restore: (_, fields) => ({ packets: Number(fields[0]), note: String(fields[1]) }) });
    this.sync = new StateSync<Stream<Count>>({
      now: () => net.nowMs,
      send: ({ address }, datagram) => net.under.push({ to: Number(address.split('.')[3]), datagram }),
      key: KEY,
      session: session(n),
      service: 's',
      codec,
      store: this.streams,
      save: ({ state }) => ({ ...state }),
      tell: (reason) => net.told.push(`${n} ${reason}`),
    });
  }

  renew(): void {
    this.session = session(this.n + 0x100);
    this.sync.renew(this.session);
  }

  /** A packet is counted; false while it has to wait. */
  work(flow: Flow, a = true, note = '', path = 1): { left: () => boolean; waits: () => boolean; stream: Stream<Count> } {
    const { bytes, code } = udp(flow, a);
    this.packet.place(bytes, 0, bytes.length, code, (path * 2) << 8 | 255, 2);
    const stream = this.streams.find(this.packet, this.net.nowMs);
    const own = this.sync.touch(stream, path);
    if (own) {
      stream.state.packets++;
      if (note !== '') stream.state.note = note;
    }
    const hold = this.sync.seal(() => undefined);
    return { left: () => own && !stream.lost && (hold === null || hold.open), waits: () => hold !== null && !hold.open, stream };
  }
}

class Net {
  nowMs = 1_750_000_000_000;
  readonly under: { to: number; datagram: Buffer }[] = [];
  readonly told: string[] = [];
  readonly all = [1, 2, 3].map((n) => new Instance(this, n));
  version = 0;

  constructor(sync: 'async' | 'strict' = 'strict') {
    this.map(INSTANCES, sync);
  }

  map(members: typeof INSTANCES, sync: 'async' | 'strict' = 'strict'): void {
    const map: ServiceMap = { ...content(members, { services: [{ name: 's', sync, failOpen: false }] }), version: ++this.version };
    for (const instance of this.all) instance.sync.install(new MapView(map));
  }

  /** Paths as they were made: id, members. */
  paths(...paths: readonly (readonly [id: number, members: readonly Instance[]])[]): void {
    const map: ServiceMap = {
      ...content(INSTANCES, { services: [{ name: 's', sync: 'strict', failOpen: false }] }),
      version: ++this.version,
      paths: paths.map(([id, members]) => ({ id, handsOn: true, answersBackwards: true, hops: [{ service: 's', members: members.map(({ n }) => [n - 1, 1, 0] as const).sort((x, y) => x[0] - y[0]) }] })),
    };
    for (const instance of this.all) instance.sync.install(new MapView(map));
  }

  /** By tier. */
  tiers(...tiers: readonly (readonly Instance[])[]): void {
    const instances = INSTANCES.map((one, i) => ({ ...one, session: this.all[i]?.session ?? '' }));
    const members = tiers.flatMap((list, tier) => list.map(({ n }) => [n - 1, 1, tier] as const));
    const map: ServiceMap = { ...content(instances, { services: [{ name: 's', sync: 'strict', failOpen: false }] }), version: ++this.version, paths: [{ id: 1, handsOn: true, answersBackwards: true, hops: [{ service: 's', members }] }] };
    for (const instance of this.all) instance.sync.install(new MapView(map));
  }

  /** In the order in which they serve a code. */
  ranked(code: number): Instance[] {
    const map: ServiceMap = { ...content(INSTANCES), version: 1 };
    return (new MapView(map).ranked(1, 's', code) ?? []).map((one) => this.all[Number(one.key.split('/')[1]) - 1] as Instance);
  }

  settle(lose: (n: number) => boolean = () => false): void {
    for (let n = 0; this.under.length > 0; n++) {
      const [one] = this.under.splice(0, 1);
      if (one !== undefined && !lose(n)) this.all[one.to - 1]?.sync.receive(one.datagram);
    }
  }

  later(ms: number): void {
    this.nowMs += ms;
    for (const { sync } of this.all) sync.tick();
  }
}

const flow: Flow = { a: '10.1.0.2', b: '10.2.0.2', aPort: 40_000, bPort: 9 };
const code = udp(flow, true).code;

t.test('strict: a packet leaves when the second instance has its state, which goes on with it', async (t) => {
  const net = new Net();
  const [first, second, third] = net.ranked(code) as [Instance, Instance, Instance];
  const one = first.work(flow);
  t.notOk(one.left(), 'not before');
  net.settle();
  t.ok(one.left(), 'then');
  first.work(flow, false);
  net.settle();
  t.equal(second.streams.copies, 1);
  t.equal(third.streams.copies, 0);

  net.map(INSTANCES.filter((_, i) => i !== first.n - 1));
  const after = second.work(flow);
  t.equal(after.stream.state.packets, 3, 'the count goes on where it was');
  t.notOk(after.left(), 'and is kept twice again');
  net.settle();
  t.ok(after.left());
  t.equal(third.streams.copies, 1);
  const zombie = first.work(flow);
  t.notOk(zombie.left(), 'who is no longer a member lets no packet of it go');
  net.later(2);
  t.equal(first.streams.size, 0, 'and forgets');
});

t.test('what waits for a stream that another instance turns out to have is dropped, and holds nothing up', async (t) => {
  const net = new Net();
  const [first, second, third] = net.ranked(code) as [Instance, Instance, Instance];
  net.paths([1, [first, second]], [2, [second, third]]);
  const one = second.work(flow, true, '', 2);
  net.under.splice(0);
  t.ok(one.waits());
  first.work(flow);
  net.settle();
  t.notOk(one.waits());
  t.notOk(one.left());
});

t.test('an instance that comes back is the last, is filled when it is the second, and goes on when all before it are gone', async (t) => {
  const net = new Net();
  const [first, second, third] = net.ranked(code) as [Instance, Instance, Instance];
  first.work(flow);
  net.settle();
  t.equal(second.streams.copies, 1);
  net.tiers([first, third]);
  first.work(flow);
  net.settle();
  second.renew();
  t.equal(second.streams.copies, 0, 'it begins with nothing');
  net.tiers([first, third], [second]);
  const one = first.work(flow);
  net.settle();
  t.ok(one.left());
  t.strictSame([second.streams.copies, third.streams.copies], [0, 1], 'who keeps the copies stays the same');
  net.tiers([third], [second]);
  net.later(5);
  net.settle();
  t.equal(second.streams.copies, 1, 'of a stream that nobody speaks on, too');
  const two = third.work(flow);
  t.equal(two.stream.state.packets, 4);
  t.notOk(two.left());
  net.settle();
  t.ok(two.left());
  first.renew();
  net.tiers([second], [first]);
  t.equal(second.work(flow).stream.state.packets, 5, 'all that it ever was');
  net.settle();
  net.tiers([first]);
  t.equal(first.work(flow).stream.state.packets, 6);
});

t.test('who was given up lets nothing go that was held, and what is said to its former run is refused', async (t) => {
  const net = new Net();
  const [first, second] = net.ranked(code) as [Instance, Instance];
  const held = first.work(flow);
  const { length } = net.under;
  t.ok(length > 0);
  first.renew();
  t.notOk(held.left());
  net.settle();
  t.equal(first.sync.refusals.of('not_for_us'), 1);
  t.equal(second.streams.copies, 1);
  t.notOk(first.work(flow).left(), 'until it is on the map again');
  t.equal(first.sync.counts.waitingStreams, 0);
});

t.test('a packet that was meant for a former run of an instance changes nothing at the one that came back', async (t) => {
  const net = new Net();
  const [first, second, third] = net.ranked(code) as [Instance, Instance, Instance];
  first.renew();
  net.tiers([second, third], [first]);
  const one = second.work(flow);
  net.settle();
  t.ok(one.left());
  t.notOk(first.work(flow).left());
  t.equal(first.streams.size, 0);
  net.tiers([second], [first]);
  net.later(5);
  net.settle();
  t.equal(first.streams.copies, 1);
  t.notOk(first.work(flow).left(), 'nor with a copy');
  t.equal(first.streams.copies, 1);
  const two = second.work(flow);
  net.settle();
  t.ok(two.left());
  net.tiers([first]);
  t.equal(first.work(flow).stream.state.packets, 3);
});

t.test('what is said to one who is no member yet is said again, and no packet leaves before', async (t) => {
  const net = new Net();
  const [first, second, third] = net.ranked(code) as [Instance, Instance, Instance];
  net.tiers([first]);
  const map = net.version;
  net.tiers([first], [third]);
  net.version = map;
  third.sync.install(new MapView({ ...content(INSTANCES), version: map, paths: [{ id: 1, handsOn: true, answersBackwards: true, hops: [{ service: 's', members: [[first.n - 1, 1, 0]] }] }] }));
  const one = first.work(flow);
  net.settle();
  t.notOk(one.left());
  t.equal(third.streams.copies, 0);
  net.version = map + 1;
  net.tiers([first], [third]);
  net.later(50);
  net.settle();
  t.ok(one.left());
  t.equal(third.streams.copies, 1);
  t.equal(second.streams.copies, 0);
});

t.test('a map is in force at once, however many streams there are to follow it', (t) => {
  const net = new Net();
  const flows = Array.from({ length: 200 }, (_, i) => ({ ...flow, aPort: 20_000 + i }));
  for (const one of flows) net.ranked(udp(one, true).code)[0]?.work(one);
  net.settle();
  net.map(INSTANCES.slice(1));
  const [first] = flows.filter((one) => net.ranked(udp(one, true).code)[0]?.n === 1) as [Flow];
  const second = net.ranked(udp(first, true).code).find(({ n }) => n !== 1) as Instance;
  const looked = second.sync.counts.fillLeft;
  t.ok(looked >= second.streams.size + second.streams.copies, `${looked} of them have not been looked at`);
  const packet = second.work(first);
  t.equal(packet.stream.state.packets, 2, 'a packet that comes now is served with the state');
  net.settle();
  t.ok(packet.left());
  for (let n = 0; n < 20; n++) {
    net.later(2);
    net.settle();
  }
  t.equal(second.sync.counts.fillLeft, 0, 'and the others follow');
  t.end();
});

t.test('after a failure a packet waits behind one datagram of the fill, and the fill goes on all the same', async (t) => {
  const net = new Net();
  const flows = Array.from({ length: 600 }, (_, i) => ({ ...flow, aPort: 20_000 + i }));
  const own = flows.filter((one) => net.ranked(udp(one, true).code)[0]?.n === 1);
  for (const one of own) net.all[0]?.work(one, true, 'a note');
  net.settle();
  net.map(INSTANCES.slice(1));
  const taken = own.filter((one) => net.ranked(udp(one, true).code).find(({ n }) => n !== 1)?.n === 2);
  t.ok(taken.length > 60, `${taken.length} streams`);
  net.later(2);
  const first = net.all[1]?.work(taken[0] as Flow);
  t.equal(first?.left(), false);
  const to3 = net.under.filter(({ to }) => to === 3);
  t.ok(to3.length <= 2, `${to3.length} datagrams on their way, and the last one is the packet's`);
  const left = net.all[1]?.sync.counts.fillLeft;
  net.settle();
  t.equal(first?.left(), true);
  t.equal(net.all[1]?.sync.counts.fillLeft, left, 'an acknowledgement has no more of it said: others may wait for theirs');
  // The third has those that it is second for, and no stream's packets have to come for it.
  for (let n = 0; n < 20; n++) {
    net.later(2);
    net.settle();
  }
  t.equal(net.all[1]?.sync.counts.fillLeft, 0);
  const copies = net.all[2]?.streams.copies ?? 0;
  t.ok(copies >= taken.length, `${copies}`);
});

t.test('lost datagrams are said again, late and doubled ones change nothing', async (t) => {
  const net = new Net();
  const [first, second] = net.ranked(code) as [Instance, Instance];
  const one = first.work(flow);
  const [lost] = net.under.splice(0);
  net.later(25);
  net.settle();
  t.ok(one.left());
  const two = first.work(flow);
  net.settle();
  t.ok(two.left());
  net.under.push(lost as { to: number; datagram: Buffer }, lost as { to: number; datagram: Buffer });
  net.settle();
  net.map(INSTANCES.filter((_, i) => i !== first.n - 1));
  t.equal(second.work(flow).stream.state.packets, 3);
  t.equal(first.sync.counts.saidAgain, 1);
});

t.test('deltas carry what changed; who lacks their base asks for all', async (t) => {
  const net = new Net();
  const [first, second] = net.ranked(code) as [Instance, Instance];
  first.work(flow, true, 'a note');
  net.settle();
  const full = first.work(flow);
  const size = net.under.at(-1)?.datagram.length ?? 0;
  net.settle();
  t.ok(full.left());
  const stream = second.streams.known(code, full.stream);
  if (stream !== null) second.streams.forget(stream);
  const delta = first.work(flow);
  t.ok((net.under.at(-1)?.datagram.length ?? 0) <= size, 'without the note');
  net.settle();
  t.ok(delta.left(), 'all of it was said then');
  t.strictSame(second.streams.known(code, full.stream)?.copy, [3, 'a note']);
});

t.test('a stream that ended leaves nothing behind; async waits for nothing; alone, packets leave unprotected and are counted', async (t) => {
  const net = new Net('async');
  const [first, second] = net.ranked(code) as [Instance, Instance];
  const one = first.work(flow);
  t.ok(one.left());
  net.settle();
  t.equal(second.streams.copies, 1);
  first.streams.end(one.stream, 'ended');
  net.later(1);
  net.settle();
  t.equal(second.streams.copies, 0);
  net.map(INSTANCES.filter((_, i) => i === first.n - 1));
  t.ok(first.work(flow).left());
  t.equal(first.sync.counts.unprotected, 1);
});

t.test('a joining second is filled in the background', async (t) => {
  const net = new Net();
  const flows = Array.from({ length: 200 }, (_, i): Flow => ({ ...flow, aPort: 1000 + i }));
  const [one, two] = [net.all[0] as Instance, INSTANCES.slice(0, 1)];
  net.map(two);
  for (const each of flows) one.work(each);
  net.map(INSTANCES);
  for (let n = 0; n < 20; n++) {
    net.settle();
    net.later(2);
  }
  t.equal((net.all[1]?.streams.copies ?? 0) + (net.all[2]?.streams.copies ?? 0), net.all[0]?.streams.size);
  t.equal(one.sync.counts.fillLeft, 0);
});

t.test('before it has a map, and for streams of a path that a run before it served, an instance lets nothing go', async (t) => {
  const net = new Net();
  const [first] = net.ranked(code) as [Instance];
  const restarted = new Instance(net, first.n);
  t.notOk(restarted.work(flow).left(), 'no map');
  t.equal(restarted.streams.size, 0, 'and begins no state of its own');
  const others = INSTANCES.filter((_, i) => i !== first.n - 1);
  restarted.sync.install(new MapView({ ...content(others, { services: [{ name: 's', sync: 'strict', failOpen: false }] }), version: 100 }));
  t.notOk(restarted.work(flow).left(), 'a map on which it does not serve that path');
});

t.test('refused, counted, told once: strangers, states that do not fit, another version, who no longer serves, who serves already', async (t) => {
  const net = new Net();
  const [first, second, third] = net.ranked(code) as [Instance, Instance, Instance];
  const record = (fields: Partial<SyncRecord>): Buffer => {
    const out = new Writer(100);
    const tuple = first.work(flow).stream;
    writeRecord(out, { kind: 'full', code, path: 1, tuple, version: 1000, base: 0, answered: false, ends: 0, state: new StateCodec(SHAPE).encode([1, ''], null), ...fields });
    return Buffer.from(out.done());
  };
  const says = (from: string, to: Instance, body: Buffer, key: Uint8Array = KEY): void => to.sync.receive(seal({ kind: 'sync', from, to: session(to.n), sequence: 1, atMs: net.nowMs, body }, key));
  says(session(99), second, record({}));
  says(session(first.n), second, record({}), Buffer.from('another key than this'));
  says(session(first.n), second, record({ state: new StateCodec({ version: 2, fields: SHAPE.fields }).encode([1, ''], null) }));
  says(session(first.n), second, record({ state: Buffer.alloc(100) }));
  says(session(first.n), second, Buffer.from([7, 1]));
  net.under.length = 0;
  second.work(flow); // its own now: whoever sent it knows that the first is gone
  says(session(first.n), second, record({ version: 1_000_000 }));
  net.map(INSTANCES.filter((_, i) => i !== first.n - 1));
  third.sync.receive(seal({ kind: 'sync', from: session(first.n), to: session(third.n), sequence: 1, atMs: net.nowMs, body: record({}) }, KEY));
  t.match(second.sync.refusals.counts, { stranger: 1, forged: 1, wrong_version: 1, too_large: 1, malformed: 1, owned: 1 });
  t.match(third.sync.refusals.counts, { stranger: 1 });
  second.work(flow);
  second.sync.refusals.add('owned', 'once more');
  t.equal(net.told.filter((line) => line.endsWith('owned')).length, 1);
  t.equal(second.work(flow).stream.state.packets, 3, 'its own count is what it was');
});

t.test('a state that does not fit what is declared keeps its packet here, and no other', async (t) => {
  const net = new Net();
  const [first] = net.ranked(code) as [Instance];
  const bad = first.work(flow, true, 'a text that is longer than twenty bytes');
  net.settle();
  t.notOk(bad.left());
  t.match(first.sync.refusals.counts, { too_large: 1 });
  const other = { ...flow, aPort: 41_000 };
  const good = (net.ranked(udp(other, true).code)[0] as Instance).work(other);
  net.settle();
  t.ok(good.left());
});

t.test('states as bytes: every type, its limits, and rubbish', async (t) => {
  const codec = new StateCodec({ version: 3, fields: { n: 'uint', i: 'int', f: 'float', b: 'bool', t: { text: 8 }, d: { bytes: 4 } } });
  const values: FieldValue[] = [2 ** 53 - 1, -5, 0.25, true, 'grün', Uint8Array.of(1, 2, 3)];
  t.strictSame(codec.decode(codec.encode(values, null), null), values);
  const after: FieldValue[] = [7, -5, 0.25, false, 'grün', Uint8Array.of(9)];
  const mask = codec.difference(values, after);
  t.strictSame(codec.decode(codec.encode(after, mask), values), after);
  t.ok(codec.encode(after, mask).length < codec.encode(after, null).length);
  for (const [fields, reason] of [[{ n: -1 }, 'wrong_type'], [{ n: 0.5 }, 'wrong_type'], [{ t: 'longer than 8' }, 'too_large'], [{ d: new Uint8Array(5) }, 'too_large'], [{ b: 1 }, 'wrong_type']] as const) {
    const state: Record<string, FieldValue> = { n: 0, i: 0, f: 0, b: false, t: '', d: new Uint8Array(0) };
    let why = '';
    try {
      codec.values(Object.assign(state, fields));
    } catch (error) {
      why = (error as StateRefused).reason;
    }
    t.equal(why, reason);
  }
  let rubbish = 0;
  for (let n = 0; n < 5000; n++) {
    const bytes = Uint8Array.from({ length: n % 40 }, (_, i) => (n * 31 + i * i * 7 + (n >> 3)) & 255);
    try {
      codec.decode(bytes, n % 2 === 0 ? null : values);
      readRecord(new Reader(bytes));
    } catch (error) {
      if (!(error instanceof StateRefused)) throw error;
      rubbish++;
    }
  }
  t.ok(rubbish > 4000);
  t.throws(() => new StateCodec({ version: 1, fields: { big: { bytes: 9000 } } }), /8192/);
  t.throws(() => new StateCodec({ version: 0, fields: { n: 'uint' } }), /state\.version/);
});

t.test('a connection that is copied keeps its direction and its end', async (t) => {
  const net = new Net();
  const [first, second] = net.ranked(code) as [Instance, Instance];
  const opened = first.work(flow);
  net.settle();
  first.work(flow, false);
  net.settle();
  net.map(INSTANCES.filter((_, i) => i !== first.n - 1));
  const answer = second.work(flow, false);
  t.equal(second.packet.original, false, 'an answer is still one');
  t.ok(answer.stream.answered);
  t.equal(answer.stream.fromPort, opened.stream.fromPort);
});
