/** Streams of a service function: found in both directions, told apart, bounded, ended. And what it sees of packets. */
import t from 'tap';
import { Packet } from '../../src/service/packet.js';
import type { StreamEnd, Verdict } from '../../src/service/service-function.js';
import { FunctionUnderTest, type TestPacket } from '../support/service-function.js';
import { ACK, FIN, RST, SYN, echo, extended, fragmentHeader, fragments, icmpError, ipPacket, tcp, tcpSegment, udp, udpDatagram, type Flow } from '../support/segments.js';

const V4: Flow = { a: '10.1.0.2', b: '10.2.0.2', aPort: 40_000, bPort: 80 };
const V6: Flow = { a: 'fd01::2', b: 'fd02::2', aPort: 40_000, bPort: 80 };

interface State {
  readonly number: number;
  originals: number;
  answers: number;
}

function counting(options: { maxStreams?: number } = {}): { test: FunctionUnderTest; states: State[]; ends: [number, StreamEnd][]; last: () => number } {
  const states: State[] = [];
  const ends: [number, StreamEnd][] = [];
  let last = -1;
  const test = new FunctionUnderTest({
    name: 'counting',
    newStream: () => {
      const state = { number: states.length, originals: 0, answers: 0 };
      states.push(state);
      return state;
    },
    onPacket: (packet, stream): Verdict => {
      const state = stream as State;
      if (packet.original) state.originals++;
      else state.answers++;
      last = state.number;
      return 'forward';
    },
    onStreamEnd: (stream, why) => void ends.push([(stream as State).number, why]),
  }, {}, options);
  return { test, states, ends, last: () => last };
}

for (const [name, flow] of [['IPv4', V4], ['IPv6', V6]] as const) {
  t.test(`${name}: both directions, ICMP errors about it and its fragments are one stream`, async (t) => {
    const { test, states } = counting();
    const quoted = ipPacket(flow.a, flow.b, 6, tcpSegment(flow, true));
    test.handle([tcp(flow, true, { flags: SYN }), tcp(flow, false, { flags: SYN | ACK }), tcp(flow, true), icmpError(flow, 6, false, flow.b, flow.a, quoted)]);
    t.strictSame(states, [{ number: 0, originals: 2, answers: 2 }]);
    test.handle([udp(flow, true), ...fragments(flow, true, 7), udp(flow, false), ...fragments(flow, false, 8)]);
    t.strictSame(states[1], { number: 1, originals: 3, answers: 3 });
    test.handle([echo(flow, true), echo(flow, false, true)]);
    t.strictSame(states[2], { number: 2, originals: 1, answers: 1 });
    t.equal(states.length, 3);
  });
}

t.test('a later fragment over IPv6 is of the stream with its code, which says what it is; without one it is nothing that has a name', async (t) => {
  const seen: [number, number, number][] = [];
  let streams = 0;
  const test = new FunctionUnderTest({
    name: 'seeing',
    newStream: () => streams++,
    onPacket: ({ protocol, tupleProtocol }, stream) => {
      seen.push([stream as number, protocol, tupleProtocol]);
      return 'forward';
    },
  });
  const part = (flow: Flow, fromA: boolean, offset: number, claimed: number): TestPacket => extended(udp(flow, fromA, 'x'.repeat(40)), [fragmentHeader(offset, offset === 0, 7)], claimed);
  test.handle([part(V6, true, 0, 17), ...[17, 60, 6, 58, 0].map((claimed) => part(V6, true, 48, claimed)), part(V6, false, 48, 60)]);
  t.strictSame(seen, Array(7).fill([0, 17, 17]));
  seen.length = 0;
  const stray: Flow = { ...V6, aPort: 1 };
  test.handle([part(stray, true, 48, 6), part(stray, true, 96, 17), part(stray, true, 0, 17), part(stray, true, 48, 6)]);
  t.strictSame(seen.map(([, protocol]) => protocol), [0, 0, 17, 17]);
  t.equal(seen[2]?.[0], seen[3]?.[0]);
});

t.test('streams that share a code are told apart', async (t) => {
  const { test, states } = counting();
  const flows = [1, 2, 3, 4].map((n): Flow => ({ ...V4, aPort: n }));
  const same = (packet: TestPacket): TestPacket => ({ ...packet, code: 0xfffffff0 });
  for (let round = 0; round < 3; round++) test.handle(flows.flatMap((flow) => [same(udp(flow, true)), same(udp(flow, false))]));
  t.strictSame(states.map(({ originals, answers }) => [originals, answers]), [[3, 3], [3, 3], [3, 3], [3, 3]]);
  test.handle([same(udp({ ...V4, aPort: 5 }, true))]);
  t.equal(states.length, 5, 'a fifth takes the place of one');
  t.equal(test.handler.streams.size, 4);
});

t.test('they are bounded, and those in use outlive a flood of opening packets', async (t) => {
  const { test, states, ends } = counting({ maxStreams: 100 });
  const used = Array.from({ length: 50 }, (_, n): Flow => ({ ...V4, aPort: 1000 + n }));
  test.handle(used.flatMap((flow) => [tcp(flow, true, { flags: SYN }), tcp(flow, false, { flags: SYN | ACK })]));
  test.handle(Array.from({ length: 5000 }, (_, n) => tcp({ ...V4, aPort: 2000 + n }, true, { flags: SYN })));
  t.equal(test.handler.streams.size, 75);
  t.equal(ends.length, 4975);
  t.ok(ends.every(([, why]) => why === 'evicted'));
  const before = states.length;
  test.handle(used.map((flow) => tcp(flow, true)));
  t.equal(states.length, before, 'all 50 are still known');
  test.handler.streams.shed(0.5);
  t.equal(test.handler.streams.size, 37);
});

t.test('they end when idle, closed, reopened, by word of the function, and when the node stops', async (t) => {
  const { test, ends, states } = counting();
  const at = (n: number): Flow => ({ ...V4, aPort: n });
  test.handle([tcp(at(1), true, { flags: SYN }), udp(at(2), true)]);
  test.nowMs += 121_000;
  test.handler.sweep();
  t.strictSame(ends.splice(0), [[1, 'idle']]);
  test.nowMs += 230_000;
  test.handler.sweep();
  t.strictSame(ends.splice(0), [[0, 'idle']]);

  test.handle([tcp(at(3), true, { flags: SYN }), tcp(at(3), true, { flags: FIN | ACK }), tcp(at(3), false, { flags: FIN | ACK }), tcp(at(4), true, { flags: SYN }), tcp(at(4), false, { flags: RST })]);
  test.nowMs += 4_000;
  test.handler.sweep();
  t.strictSame(ends, []);
  test.handle([tcp(at(4), true, { flags: SYN })]);
  t.strictSame(ends.splice(0), [[3, 'closed']], 'a SYN on what was reset is another stream');
  t.equal(states.length, 5);
  test.nowMs += 1_500;
  test.handler.sweep();
  t.strictSame(ends.splice(0), [[2, 'closed']]);
  await test.handler.stop();
  t.strictSame(ends, [[4, 'stopped']]);

  const own = new FunctionUnderTest({
    name: 'own',
    newStream: () => ({ n: 0 }),
    onPacket: (packet, stream) => {
      if (++(stream as { n: number }).n === 2) packet.endStream();
      return 'forward';
    },
    idleMs: () => 10_000,
  });
  own.handle([udp(V4, true)]);
  t.equal(own.handler.streams.size, 1);
  own.handle([udp(V4, true)]);
  t.equal(own.handler.streams.size, 0);
  own.handle([udp(V4, true)]);
  own.nowMs += 9_000;
  own.handler.sweep();
  t.equal(own.handler.streams.size, 1);
  own.nowMs += 1_000;
  own.handler.sweep();
  t.equal(own.handler.streams.size, 0);
});

t.test('what is seen of a packet', async (t) => {
  const seen: unknown[] = [];
  const test = new FunctionUnderTest({
    name: 'looking',
    onPacket: (packet) => {
      const { version, protocol, source, destination, sourcePort, destinationPort, related } = packet;
      seen.push({ version, protocol, source, destination, sourcePort, destinationPort, related, payload: Buffer.from(packet.payload).toString(), fromOpener: packet.fromOpener,
        ttl: packet.ipv4?.ttl, hopLimit: packet.ipv6?.hopLimit, flags: packet.tcp?.flags, window: packet.tcp?.window, scale: packet.tcp?.option(3)?.length, length: packet.udp?.length, type: packet.icmp?.type });
      return 'forward';
    },
  });
  test.handle([tcp(V4, true, { flags: SYN, window: 777, scale: 7, payload: 'hello' }), udp(V6, false, 'over'), echo(V4, true)]);
  t.strictSame(seen, [
    { version: 4, protocol: 6, source: '10.1.0.2', destination: '10.2.0.2', sourcePort: 40000, destinationPort: 80, related: false, payload: 'hello', fromOpener: true, ttl: 64, hopLimit: undefined, flags: 2, window: 777, scale: 1, length: undefined, type: undefined },
    { version: 6, protocol: 17, source: 'fd02::2', destination: 'fd01::2', sourcePort: 80, destinationPort: 40000, related: false, payload: 'over', fromOpener: false, ttl: undefined, hopLimit: 64, flags: undefined, window: undefined, scale: undefined, length: 12, type: undefined },
    { version: 4, protocol: 1, source: '10.1.0.2', destination: '10.2.0.2', sourcePort: 40000, destinationPort: 40000, related: false, payload: '\0'.repeat(16), fromOpener: true, ttl: 64, hopLimit: undefined, flags: undefined, window: undefined, scale: undefined, length: undefined, type: 8 },
  ]);
});

t.test('a packet cut or spoilt anywhere is no packet, or one within its bytes', async (t) => {
  const packet = new Packet();
  const whole = [tcp(V4, true, { flags: SYN, scale: 3, payload: 'abc' }), tcp(V6, true, { payload: 'abc' }), udp(V4, true), ...fragments(V6, true, 1), icmpError(V4, 17, false, V4.b, V4.a, ipPacket(V4.a, V4.b, 17, udpDatagram(V4, true)))];
  let read = 0;
  for (const { bytes } of whole) {
    for (let length = 0; length <= bytes.length; length++) {
      for (const at of [12, 14, 18, 20, 23, 26, 46, 47, 54, 66]) {
        for (const value of [0, 1, 6, 17, 44, 60, 0x4f, 0x6f, 255]) {
          const memory = new Uint8Array(length + 8).fill(0xee);
          memory.set(bytes.subarray(0, length));
          if (at < length) memory[at] = value;
          packet.place(memory, 0, length, 1, 2 << 8, 2);
          if (packet.version === 0) continue;
          read++;
          const { ip, transport, payloadStart, end } = packet;
          if (!(ip <= transport && transport <= payloadStart && payloadStart <= end && end <= length)) t.fail(`${length} bytes, ${value} at ${at}: ${ip} ${transport} ${payloadStart} ${end}`);
          packet.tcp?.option(3);
        }
      }
    }
  }
  t.ok(read > 1000, `${read} were packets`);
});

t.test('another payload: lengths and checksums are right', async (t) => {
  for (const build of [tcp(V4, true, { payload: 'GET /a' }), tcp(V6, true, { payload: 'GET /a' }), udp(V4, true, 'GET /a'), udp(V6, true, 'GET /a')]) {
    const test = new FunctionUnderTest({ name: 'other', onPacket: (packet) => ({ replace: packet.withPayload(Buffer.from('POST /another/path')) }) });
    const [replaced] = test.handle([build]);
    const isTcp = build.what.includes('tcp');
    const flow = build.what.includes('tcp') || build.what.includes('udp') ? (build.bytes[12] === 8 ? V4 : V6) : V4;
    const expected = isTcp ? tcp(flow, true, { payload: 'POST /another/path' }) : udp(flow, true, 'POST /another/path');
    t.strictSame(Buffer.from(replaced as Uint8Array).toString('hex'), Buffer.from(expected.bytes).toString('hex'), build.what);
  }
  const test = new FunctionUnderTest({ name: 'other', onPacket: (packet) => ({ replace: packet.withPayload(new Uint8Array(70_000)) }) });
  t.strictSame(test.handle([udp(V4, true), fragments(V4, true, 1)[0]]), ['error', 'error']);
});

t.test('batches: each packet with its stream, and one without an answer has failed', async (t) => {
  const test = new FunctionUnderTest({
    name: 'batches',
    newStream: () => ({ seen: 0 }),
    onBatch: (batch) => {
      for (let i = 0; i < batch.length; i++) {
        const packet = batch.at(i);
        const seen = ++(batch.stream as { seen: number }).seen;
        if (packet.payload[0] === 63) continue;
        batch.answer(seen === 3 ? { replace: packet.withPayload(Buffer.from('third')) } : seen === 2 ? 'drop' : 'forward');
      }
    },
  });
  const answers = test.handle([udp(V4, true), udp(V4, true), udp(V6, true), udp(V4, true), udp(V4, true, '?')]);
  t.strictSame(answers.map((answer) => (typeof answer === 'string' ? answer : 'replaced')), ['forward', 'drop', 'forward', 'replaced', 'error']);
  const wrong = new FunctionUnderTest({
    name: 'wrong',
    onBatch: (batch) => {
      batch.at(0);
      batch.answer('forward');
      batch.at(1);
      batch.answer('no verdict' as Verdict);
    },
  });
  t.strictSame(wrong.handle([udp(V4, true), udp(V4, true), udp(V4, true)]), ['forward', 'error', 'error']);
  t.match(wrong.lines, [{ msg: /answered "no verdict"/ }]);
  const outside = new FunctionUnderTest({ name: 'outside', onBatch: (batch) => void batch.at(batch.length) });
  t.strictSame(outside.handle([udp(V4, true)]), ['error']);
});

t.test('timers and metrics: bounded, and what they do wrong is logged', async (t) => {
  const said: string[] = [];
  let ended = 0;
  const test = new FunctionUnderTest({
    name: 'timed',
    start: (node) => {
      node.counter('seen_total', 'Seen.').add(2);
      node.counter('seen_total', 'Seen.').add();
      node.gauge('level', 'Level.').set(-1.5);
      for (const wrong of [() => node.counter('bad name', ''), () => node.gauge('seen_total', ''), () => node.counter('seen_total', '').add(-1), () => node.every(0, () => undefined), () => node.after(10, 'x' as unknown as () => void)]) {
        try {
          wrong();
        } catch (error) {
          said.push((error as Error).message);
        }
      }
      node.after(1, () => {
        ended++;
        throw new Error('late');
      });
      const stop = node.every(1, () => {
        if (++ended > 5) stop();
      });
      for (let n = 0; n < 98; n++) node.after(60_000, () => undefined);
      try {
        node.after(1, () => undefined);
      } catch (error) {
        said.push((error as Error).message);
      }
    },
    onPacket: () => 'forward',
  });
  t.equal(test.metric('seen_total'), 3);
  t.equal(test.metric('level'), -1.5);
  t.match(said, [/expected a metric's name/, /is a counter, not a gauge/, /expected a number of 0 or more/, /expected 1 to/, /expected a function/, /no more than 100 timers/]);
  while (ended < 6) await new Promise(setImmediate);
  t.match(test.lines, [{ msg: /function timed: a timer threw Error: late/ }]);
  await test.handler.stop();
});
