/** What a service function can do wrong costs its packet, never those beside it, and is logged without flooding. */
import t from 'tap';
import { LONGEST_REPLACEMENT, type ServiceFunction, type Verdict } from '../../src/service/service-function.js';
import { FunctionUnderTest, type Answer, type TestPacket } from '../support/service-function.js';

/** Packets are told apart by their code. */
const packets = (...codes: number[]): TestPacket[] => codes.map((code) => ({ bytes: Buffer.from(`packet ${code}`), code }));

const start = (service: Partial<ServiceFunction>): FunctionUnderTest => new FunctionUnderTest({ name: 'under-test', newStream: () => null, onPacket: () => 'forward', ...service });

const shown = (answers: readonly Answer[]): unknown[] => answers.map((answer) => (typeof answer === 'string' ? answer : Buffer.from(answer).toString()));

const revoked = (): unknown => {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
};

t.test('what it may answer', async (t) => {
  const answers: Verdict[] = ['forward', 'drop', { replace: Buffer.from('other') }, { replace: new Uint8Array(LONGEST_REPLACEMENT) }];
  const test = start({ onPacket: (packet) => answers[packet.code] as Verdict });
  const verdicts = test.handle(packets(0, 1, 2, 3));
  t.strictSame(shown(verdicts.slice(0, 3)), ['forward', 'drop', 'other']);
  t.equal((verdicts[3] as Uint8Array).length, LONGEST_REPLACEMENT);
  t.strictSame(test.lines, []);
});

const WRONG: Record<string, [Partial<ServiceFunction> | (() => unknown), RegExp]> = {
  'an error': [() => { throw new TypeError('no such thing'); }, /onPacket\(\) threw TypeError: no such thing/],
  'null thrown': [() => { throw null; }, /onPacket\(\) threw null/],
  'undefined thrown': [() => { throw undefined; }, /onPacket\(\) threw undefined/],
  'an object without a prototype thrown': [() => { throw Object.create(null); }, /onPacket\(\) threw something that can't be shown/],
  'a revoked proxy thrown': [() => { throw revoked(); }, /onPacket\(\) threw something that can't be shown/],
  'an error whose message throws': [() => { throw Object.defineProperty(new Error(), 'message', { get() { throw new Error('again'); } }); }, /threw something that can't be shown/],
  'an error of endless length': [() => { throw new Error('x'.repeat(1e6)); }, /^.{0,600}$/],
  'newStream() that throws': [{ newStream: () => { throw new Error('no stream'); } }, /newStream\(\) threw Error: no stream/],
  'no answer': [() => undefined, /answered undefined; expected 'forward', 'drop' or {replace: bytes}/],
  'null': [() => null, /answered null/],
  'another word': [() => 'pass', /answered "pass"/],
  'a number': [() => 7, /answered 7/],
  'a symbol': [() => Symbol('odd'), /answered Symbol\(odd\)/],
  'an empty object': [() => ({}), /answered an object whose "replace" is undefined/],
  'a replacement that is text': [() => ({ replace: 'text' }), /"replace" is "text"/],
  'a replacement that only says it were bytes': [() => ({ replace: Object.create(Uint8Array.prototype) as unknown }), /"replace" is an object/],
  'a replacement of another type': [() => ({ replace: new Uint16Array(4) }), /"replace" is an object/],
  'a replacement whose getter throws': [() => ({ get replace() { throw new RangeError('not there'); } }), /its answer threw RangeError: not there/],
  'a revoked proxy': [revoked, /its answer threw TypeError/],
  'an empty replacement': [() => ({ replace: new Uint8Array(0) }), /replacement of 0 bytes; expected 1 to 64500/],
  'a replacement that is too long': [() => ({ replace: new Uint8Array(LONGEST_REPLACEMENT + 1) }), /replacement of 64501 bytes/],
  'a replacement that is far too long': [() => ({ replace: new Uint8Array(2 ** 31) }), /replacement of 2147483648 bytes/],
  'a promise': [() => Promise.resolve('forward'), /answered a promise; it has to answer at once/],
  'a promise that is rejected': [() => Promise.reject(new Error('later')), /answered a promise/],
};

for (const [what, [wrong, message]] of Object.entries(WRONG)) {
  t.test(`${what} costs one packet and is logged`, async (t) => {
    let calls = 0;
    const sometimes = <T>(bad: () => T, good: T) => (): T => (++calls === 2 ? bad() : good);
    const service = typeof wrong === 'function' ? { onPacket: sometimes(wrong, 'forward') as () => Verdict } : { newStream: sometimes(wrong.newStream as () => unknown, null) };
    const test = start(service);
    const { lines } = test;
    t.strictSame(shown(test.handle(packets(1, 2, 3))), ['forward', 'error', 'forward']);
    await new Promise(setImmediate); // an unhandled rejection would end the process
    t.equal(lines.length, 1);
    t.equal(lines[0]?.level, 50);
    t.match(lines[0]?.msg, /^function under-test: /);
    t.match(lines[0]?.msg, message);
  });
}

t.test('each kind is logged at once, further ones once a minute with their number', async (t) => {
  const test = start({
    onPacket: (packet) => {
      if (packet.code === 1) throw new TypeError(`packet ${Math.random()}`);
      if (packet.code === 2) throw new RangeError('too far');
      return packet.code === 3 ? ('pass' as Verdict) : 'forward';
    },
  });
  const { lines, waits } = test;
  const handle = (list: TestPacket[]): unknown => test.handle(list);
  const minute = (): void => test.minute();
  handle(packets(1, 0, 1, 1));
  t.equal(lines.length, 1, 'a message that differs is no other kind');
  t.match(lines[0]?.stack, /service-node\.test\.ts/);
  handle(packets(2, 3, 0));
  t.strictSame(lines.slice(1).map((line) => line.msg), ['function under-test: onPacket() threw RangeError: too far', `function under-test: onPacket() answered "pass"; expected 'forward', 'drop' or {replace: bytes}`]);
  for (let i = 0; i < 1000; i++) handle(packets(1, 2, 2));
  t.equal(lines.length, 3);
  t.strictSame(waits, [60_000], 'one timer');
  minute();
  t.equal(lines.length, 4);
  t.match(lines[3], { level: 50, msg: /^function under-test: 3002 more faults, the last one: onPacket\(\) threw RangeError: too far$/ });
  t.strictSame(lines[3]?.kinds, { 'onPacket() threw TypeError': 1002, 'onPacket() threw RangeError': 2000 });
  minute();
  t.equal(lines.length, 4, 'nothing more to say');
  handle(packets(3));
  minute();
  t.match(lines[4], { msg: /^function under-test: 1 more fault, the last one: onPacket\(\) answered "pass"/ });
  t.strictSame(waits, [60_000, 60_000]);
});

t.test('names that it makes up are no kinds without end', async (t) => {
  const test = start({ onPacket: (packet) => { throw Object.assign(new Error('odd'), { name: `Odd${packet.code}` }); } });
  test.handle(packets(...Array(1000).keys()));
  t.ok(test.lines.length <= 20, `${test.lines.length} lines`);
});

for (const name of [undefined, 7, 'throws'] as const) {
  t.test(`a function whose name is ${name}`, async (t) => {
    const service = { onPacket: () => { throw new Error('bad'); } };
    Object.defineProperty(service, 'name', name === 'throws' ? { get() { throw new Error('no name'); }, enumerable: true } : { value: name, enumerable: true });
    const whole = Object.create(service, { newStream: { value: () => null } }) as ServiceFunction;
    const test = new FunctionUnderTest(whole);
    t.strictSame(shown(test.handle(packets(1))), ['error']);
    t.match(test.lines, [{ msg: /^function without a name: onPacket\(\) threw Error: bad$/ }]);
  });
}

t.test('streams keep their state, also behind a failure', async (t) => {
  const test = start({
    newStream: () => ({ seen: 0 }),
    onPacket: (_packet, stream) => {
      const state = stream as { seen: number };
      if (++state.seen === 2) throw new Error('second');
      return { replace: Buffer.from(String(state.seen)) };
    },
  });
  t.strictSame(shown(test.handle(packets(5, 5, 5, 6))), ['1', 'error', '3', '1']);
});
