/**
 * What a node reads in a packet is what the engine read in it: a packet that is steered as TCP is TCP to the function, or a rule about TCP would
 * not see it. And what the engine can't read, the node can't either.
 */
import t from 'tap';
import { FunctionUnderTest } from '../support/service-function.js';
import { echo, extended, extension, fragmentHeader, tcp, udp, type Built, type Extension, type Flow } from '../support/segments.js';
import { steerAll } from '../support/configuration.js';
import { stampOf } from '../support/packets.js';
import { simulate } from '../support/sim.js';

const IN = 1;
const UNDERLAY = 0;
const INNER = 66;
const MS = 1_000_000n;
const KINDS = [0, 43, 60, 135, 139, 140, 51];

interface Seen {
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

let port = 1000;
const flow = (): Flow => ({ a: 'fd01::2', b: 'fd02::2', aPort: port++, bPort: 80 });
const times = (n: number, type: number): Extension[] => Array.from({ length: n }, () => extension(type));
const TRANSPORTS: readonly ((flow: Flow) => Built)[] = [(f) => tcp(f, true, { payload: 'GET /etc/passwd' }), (f) => udp(f, true, 'GET /etc/passwd'), (f) => echo(f, true)];

/** Each packet, and the headers that it has. */
const table: Built[] = TRANSPORTS.flatMap((build) => [
  build(flow()),
  ...KINDS.flatMap((kind) => [1, 7, 8, 9, 10, 11, 12, 13].map((n) => extended(build(flow()), times(n, kind)))),
  ...KINDS.flatMap((kind) => [0, 1, 9, 10, 11].flatMap((n) => [false, true].map((more) => extended(build(flow()), [...times(n, kind), fragmentHeader(0, more, port)])))),
  extended(build(flow()), [0, 60, 43, 60, 51, 60, 135, 139, 140].map((kind) => extension(kind))),
  extended(build(flow()), [extension(0, 3), extension(43, 2), extension(51, 4), extension(60, 31)]),
  extended(build(flow()), [fragmentHeader(0, true, port), extension(60)]),
  extended(build(flow()), [fragmentHeader(0, false, port), extension(51), extension(140)]),
]);
// What is behind these numbers nobody looks at; the last ones lie about their length.
for (const next of [4, 41, 50, 59, 132, 253]) table.push(extended(tcp(flow(), true), [extension(60)], next));
for (const kind of KINDS) table.push(extended(tcp(flow(), true), [extension(60), { type: kind, body: Buffer.from([200, 1, 4, 0, 0, 0, 0]) }]));

t.test('extension headers, of each kind and number, also in fragments: the engine and the node read the same', async (t) => {
  const { dataplane, network } = await simulate(steerAll());
  t.teardown(() => dataplane.stop());
  const views: (Seen & { readonly version: number })[] = [];
  const node = new FunctionUnderTest({
    name: 'view',
    onPacket: ({ version, protocol, sourcePort, destinationPort }) => {
      views.push({ version, protocol, sourcePort, destinationPort });
      return 'forward';
    },
  });
  const engine = async (code: number): Promise<Seen> => {
    const { flows } = await network.flows(0, 10_000);
    const found = flows.find((one) => one.code === code);
    return { protocol: found?.protocol ?? -1, sourcePort: found?.sourcePort ?? -1, destinationPort: found?.destinationPort ?? -1 };
  };
  const outcomes = { steered: 0, crossed: 0, dropped: 0 };
  for (const packet of table) {
    network.clear();
    const before = network.counters();
    network.inject(IN, Buffer.from(packet.bytes));
    network.advance(MS);
    const stamped = network.sent(UNDERLAY)[0];
    views.length = 0;
    if (stamped === undefined) {
      node.handle([packet]);
      const crossed = network.counters().crossedBy['other_protocol'] !== before.crossedBy['other_protocol'];
      outcomes[crossed ? 'crossed' : 'dropped']++;
      if (crossed) t.notOk([6, 17, 58].includes(views[0]?.protocol ?? 6), `${packet.what}: crosses, and is protocol ${views[0]?.protocol} to the node`);
      else t.equal(views[0]?.version, 0, `${packet.what}: dropped, and nothing to the node`);
      continue;
    }
    outcomes.steered++;
    const { code, spi, si } = stampOf(stamped);
    node.handle([{ bytes: stamped.subarray(INNER), code, spi, si, kind: 2 }]);
    t.strictSame(views, [{ version: 6, ...(await engine(code)) }], packet.what);
  }
  t.ok(Object.values(outcomes).every((n) => n > 5), JSON.stringify(outcomes));
});

t.test('a later fragment is of the stream that its first one began, with its protocol', async (t) => {
  const { dataplane, network } = await simulate(steerAll());
  t.teardown(() => dataplane.stop());
  const protocols: number[] = [];
  const node = new FunctionUnderTest({
    name: 'view',
    newStream: () => protocols.length,
    onPacket: (packet, stream) => {
      protocols.push(packet.protocol);
      return stream === 0 ? 'forward' : 'drop';
    },
  });
  const to = flow();
  const first = extended(tcp(to, true, { payload: 'GET /etc/pa'.padEnd(28) }), [extension(60), fragmentHeader(0, true, 7)]);
  const later = extended({ ...first, bytes: tcp(to, true, { payload: 'sswd' }).bytes }, [extension(60), fragmentHeader(48, false, 7)], 6);
  for (const packet of [first, later]) network.inject(IN, Buffer.from(packet.bytes));
  network.advance(MS);
  const stamped = network.sent(UNDERLAY).filter((frame) => stampOf(frame).si === 255);
  t.equal(new Set(stamped.map((frame) => stampOf(frame).code)).size, 1);
  t.strictSame(node.handle(stamped.map((frame) => ({ ...stampOf(frame), bytes: frame.subarray(INNER) }))), ['forward', 'forward']);
  t.strictSame(protocols, [6, 6]);
});
