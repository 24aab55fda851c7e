/** ids: patterns in streams whatever way they are cut, ordered and repeated; bounded; and what it can't search is said. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { compile, type IdsSettings } from '../../src/service/functions/ids-settings.js';
import { ids } from '../../src/service/functions/ids.js';
import { Literals } from '../../src/service/functions/literals.js';
import { HeldBytes, TcpAssembly } from '../../src/service/functions/tcp-assembly.js';
import type { ServiceFunction } from '../../src/service/service-function.js';
import { until } from '../support/lab.js';
import { FunctionUnderTest, type Answer } from '../support/service-function.js';
import { ACK, PSH, SYN, echo, extended, extension, fragmentHeader, fragments, tcp, udp, type Built, type Flow } from '../support/segments.js';

const FLOW: Flow = { a: '10.1.0.2', b: '10.2.0.2', aPort: 40_000, bPort: 80 };
const ids6: Flow = { a: 'fd01::2', b: 'fd02::2', aPort: 40_000, bPort: 80 };

const start = (settings: IdsSettings): FunctionUnderTest => new FunctionUnderTest(ids() as ServiceFunction, settings);
const open = (flow = FLOW): Built[] => [tcp(flow, true, { flags: SYN, sequence: 99 }), tcp(flow, false, { flags: SYN | ACK, sequence: 499, acknowledgement: 100 })];
/** Bytes of a stream from `at` on; the stream begins at 0. */
const data = (at: number, payload: string, fromA = true, flow = FLOW): Built => tcp(flow, fromA, { flags: ACK | PSH, sequence: (fromA ? 100 : 500) + at, payload });
const found = (test: FunctionUnderTest): unknown[] => test.lines.filter(({ level }) => level === 40).map(({ rule, offset, direction }) => [rule, offset, direction]);

t.test('literals: what a plain search finds, in one piece or many', async (t) => {
  const word = fc.string({ unit: fc.constantFrom('a', 'b', 'A', 'c'), minLength: 1, maxLength: 5 });
  fc.assert(fc.property(fc.array(word, { minLength: 1, maxLength: 8 }), fc.string({ unit: fc.constantFrom('a', 'b', 'A', 'c', 'd'), maxLength: 60 }), fc.array(fc.nat(60), { maxLength: 5 }), fc.boolean(), (words, text, cuts, fold) => {
    const literals = new Literals(words.map((w) => Buffer.from(w)), fold);
    const hits: string[] = [];
    const ends = [...cuts.map((cut) => Math.min(cut, text.length)), 0, text.length].sort((a, b) => a - b);
    let state = 0;
    for (let i = 1; i < ends.length; i++) state = literals.scan(state, Buffer.from(text), ends[i - 1] ?? 0, ends[i] ?? 0, (pattern, end) => void hits.push(`${pattern}:${end}`));
    const same = (s: string): string => (fold ? s.toLowerCase() : s);
    const expected = words.flatMap((w, p) => Array.from({ length: text.length + 1 }, (_, end) => end).filter((end) => end >= w.length && same(text.slice(end - w.length, end)) === same(w)).map((end) => `${p}:${end}`));
    return hits.sort().join() === expected.sort().join();
  }), { numRuns: 3000 });
  t.pass('3,000 sets');
});

t.test('assembly: segments of any cut, order and overlap give the stream, and nothing stays held', async (t) => {
  const limits = { streamBytes: 100_000, tailBytes: 64 };
  fc.assert(fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.array(fc.tuple(fc.nat(299), fc.integer({ min: 1, max: 60 })), { maxLength: 30 }), fc.integer(), (stream, extra, first) => {
    const held = new HeldBytes(1e9);
    const assembly = new TcpAssembly(held);
    const begin = first >>> 0;
    // Every byte at least once, and other pieces that overlap, in any order.
    const pieces = [...extra.map(([at, n]) => [at % stream.length, n] as const), ...Array.from({ length: Math.ceil(stream.length / 20) }, (_, i) => [i * 20, 20] as const)]
      .map(([at, n], i) => [at, n, (Math.imul(i + 1, 2_654_435_761) ^ first) >>> 0] as const)
      .sort((a, b) => a[2] - b[2]);
    const got: number[] = [];
    assembly.take(begin, SYN, new Uint8Array(0), limits, false, () => undefined, () => undefined);
    for (const [at, n] of pieces) {
      const taken = assembly.take((begin + 1 + at) >>> 0, ACK, stream.subarray(at, at + n), limits, false, (piece) => void got.push(...piece), () => undefined);
      if (taken !== 'taken') return false;
    }
    if (Buffer.compare(Buffer.from(got), Buffer.from(stream)) !== 0 || assembly.offset !== stream.length) return false;
    if (Buffer.compare(assembly.tail, stream.subarray(-64)) !== 0) return false;
    assembly.end();
    return held.used === 0;
  }), { numRuns: 2000 });
  t.pass('2,000 streams');
});

const ATTACK: IdsSettings = { rules: [{ id: 'attack', content: '/etc/passwd' }, { id: 'agent', content: 'EvilBot', nocase: true }, { id: 'sql', regex: "union\\s+select", nocase: true }, { id: 'nop', hex: '90 90 90 90' }] };

t.test('a pattern over two segments, in order, out of order, repeated and overlapping, over IPv4 and IPv6', async (t) => {
  const orders: Record<string, (flow: Flow) => Built[]> = {
    'in order': (flow) => [data(0, 'GET /etc/pa', true, flow), data(11, 'sswd', true, flow)],
    'out of order': (flow) => [data(11, 'sswd', true, flow), data(0, 'GET /etc/pa', true, flow)],
    'overlapping': (flow) => [data(6, 'tc/passwd', true, flow), data(0, 'GET /etc/pa', true, flow)],
    'byte by byte, backwards': (flow) => [...'GET /etc/passwd'].map((byte, i) => data(i, byte, true, flow)).reverse(),
    'with copies': (flow) => [data(0, 'GET /e', true, flow), data(0, 'GET /e', true, flow), data(11, 'sswd', true, flow), data(11, 'sswd', true, flow), data(4, '/etc/pa', true, flow), data(0, 'GET /etc/pa', true, flow)],
  };
  for (const flow of [FLOW, ids6]) {
    for (const [order, packets] of Object.entries(orders)) {
      const test = start(ATTACK);
      t.ok(test.handle([...open(flow), ...packets(flow)]).every((answer) => answer === 'forward'));
      t.strictSame(found(test), [['attack', 4, 'forward']], order);
    }
  }
});

t.test('regular expressions over borders, in answers, without letter case, and bytes that are no text', async (t) => {
  const test = start(ATTACK);
  test.handle([...open(), data(0, 'x=1 UNI', false), data(7, 'on  ', false), data(11, '\n seLECT', false), data(0, 'user-agent: eVILbOT'), data(19, '\x90'.repeat(2)), udp(FLOW, true, Buffer.from('a90909090b'.replace('a', '00').replace('b', '00'), 'hex'))]);
  t.strictSame(found(test), [['sql', 4, 'answer'], ['agent', 12, 'forward'], ['nop', 1, 'forward']]);
  test.handle([data(19, 'union select', false), data(31, 'union select', false)]);
  t.equal(found(test).length, 3, 'once a stream and direction');

  const anchored = start({ rules: [{ id: 'begin', regex: '^GET' }, { id: 'guarded', content: 'token', regex: 'token=[0-9]+', window: 64 }] });
  anchored.handle([...open(), data(0, 'GET / token'), data(11, ' GET '), data(16, 'token=77')]);
  t.strictSame(found(anchored), [['begin', 0, 'forward'], ['guarded', 16, 'forward']]);
  const later = start({ rules: [{ id: 'begin', regex: '^GET' }] });
  later.handle([...open(), data(0, 'x'), data(1, 'GET '), data(5, 'GET ')]);
  t.strictSame(found(later), [], 'the middle of a stream is not its beginning');
});

t.test('where: ports, protocol, direction', async (t) => {
  const test = start({ rules: [
    { id: 'port', content: 'X1', port: [80, '8000-8010'] }, { id: 'other port', content: 'X1', port: 81 }, { id: 'udp', content: 'X1', protocol: 'udp' },
    { id: 'answer', content: 'X1', direction: 'answer' }, { id: 'forward', content: 'X1', direction: 'forward' },
  ] });
  test.handle([...open(), data(0, 'X1'), udp({ ...FLOW, bPort: 8005 }, true, 'X1')]);
  t.strictSame(test.lines.map(({ rule }) => rule).sort(), ['forward', 'forward', 'port', 'port', 'udp']);
});

t.test('drop: the packet that completes it, and all that follow, both directions; other streams go on', async (t) => {
  const test = start({ rules: [{ id: 'attack', content: '/etc/passwd', action: 'drop' }] });
  const other: Flow = { ...FLOW, aPort: 40_001 };
  const answers = test.handle([...open(), data(11, 'sswd HTTP'), data(0, 'GET /etc/pa'), data(20, 'more'), data(0, 'answer', false), ...open(other), data(0, 'GET /etc/hosts', true, other)]);
  t.strictSame(answers, ['forward', 'forward', 'forward', 'drop', 'drop', 'drop', 'forward', 'forward', 'forward'] satisfies Answer[]);
  t.equal(test.metric('ids_streams_blocked'), 1);
  t.strictSame(test.handle(fragments(FLOW, true, 1)), ['forward', 'forward'], 'UDP may be in fragments');
});

t.test('drop: extension headers of IPv6 hide nothing', async (t) => {
  for (const [kind, most] of [[60, 11], [0, 11], [43, 11], [51, 11], [135, 1], [139, 2], [140, 11]] as const) {
    const test = start({ rules: [{ id: 'attack', content: '/etc/passwd', action: 'drop' }] });
    const behind = Array.from({ length: most }, () => extension(kind));
    t.strictSame(test.handle([...open(ids6), extended(data(0, 'GET /etc/passwd', true, ids6), behind)]), ['forward', 'forward', 'drop'], `${most} of type ${kind}`);
  }
});

t.test('what can not be read is dropped where a rule drops, and passes where all of them only alert', async (t) => {
  const long = extended(data(0, 'GET /etc/passwd', true, ids6), Array.from({ length: 12 }, () => extension(60)));
  const cut = { ...data(0, 'GET /etc/passwd'), bytes: data(0, 'GET /etc/passwd').bytes.subarray(0, 40) };
  const ping = echo(ids6, true);
  for (const [action, verdict] of [['drop', 'drop'], ['alert', 'forward']] as const) {
    const test = start({ rules: [{ id: 'attack', content: '/etc/passwd', action }] });
    t.strictSame(test.handle([long, cut, ping, extended(ping, [extension(60)]), extended(ping, [], 50)]), [verdict, verdict, 'forward', 'forward', 'forward'], `${action}; ICMP and ESP can be read`);
    t.equal(test.metric('ids_unreadable'), 2);
  }
});

t.test('drop: a later fragment over IPv6 is what its stream is, whatever it says', async (t) => {
  const part = (built: Built, more: boolean, claimed: number): Built => extended(built, [fragmentHeader(more ? 0 : 48, more, 9)], claimed);
  const claims = [6, 17, 58, 60, 50, 0];
  const [web, dns] = [data(0, 'GET /etc/passwd', true, ids6), udp(ids6, true, 'x'.repeat(40))];
  const dropping = start({ rules: [{ id: 'attack', content: '/etc/passwd', action: 'drop' }] });
  t.strictSame(dropping.handle([part(web, true, 6), ...claims.map((claimed) => part(web, false, claimed))]), Array<Answer>(7).fill('drop'), 'of TCP');
  t.strictSame(dropping.handle([part(dns, true, 17), ...claims.map((claimed) => part(dns, false, claimed))]), Array<Answer>(7).fill('forward'), 'of UDP');
  const unknown = (n: number): Flow => ({ ...ids6, aPort: n });
  const strays = claims.map((claimed, n) => part(data(0, 'GET /etc/passwd', true, unknown(n)), false, claimed));
  t.strictSame(dropping.handle(strays), Array<Answer>(6).fill('drop'), 'whose first one nobody has seen');
  const passing = start({ tcp_fragments: 'pass', rules: [{ id: 'attack', content: '/etc/passwd', action: 'drop' }] });
  t.strictSame(passing.handle([part(web, true, 6), part(web, false, 60), ...strays]), Array<Answer>(8).fill('forward'));
});

t.test('other bytes for the same place: an alert, and with drop the copy goes', async (t) => {
  for (const [action, verdict] of [['alert', 'forward'], ['drop', 'drop']] as const) {
    const test = start({ rules: [{ id: 'x', content: 'never', action }] });
    t.strictSame(test.handle([...open(), data(0, 'GET /etc'), data(4, '/usr'), data(20, 'later'), data(20, 'LATER'), data(7, 'c', true)]), ['forward', 'forward', 'forward', verdict, 'forward', verdict, 'forward']);
    t.match(test.lines.filter(({ level }) => level === 40), [{ rule: 'conflict', action }]);
    t.equal(test.metric('ids_conflicts'), 2);
  }
});

t.test('what can not be held: skipped and said, or dropped so that it comes again; memory is given back', async (t) => {
  const settings = { stream_bytes: 1000, total_bytes: 65_536, rules: [{ id: 'attack', content: 'attack' }] };
  const test = start(settings);
  const early = Array.from({ length: 20 }, (_, n) => data(10 + n * 100, n === 19 ? 'an attack'.padEnd(100) : 'x'.repeat(100)));
  t.ok(test.handle([...open(), ...early]).every((answer) => answer === 'forward'));
  t.strictSame(found(test), [['attack', 1913, 'forward']], 'what follows a gap is searched');
  t.ok(test.metric('ids_gaps') > 0);
  const dropping = start({ ...settings, when_full: 'drop' });
  const answers = dropping.handle([...open(), ...early]);
  t.equal(answers.filter((answer) => answer === 'drop').length, 10);
  t.strictSame(dropping.handle([data(0, 'x'.repeat(10)), ...early.slice(10)]), Array<Answer>(11).fill('forward'), 'and it passes when it comes again');
  t.strictSame(found(dropping), [['attack', 1913, 'forward']]);

  const many = start({ stream_bytes: 100_000, total_bytes: 65_536, rules: [{ id: 'attack', content: 'attack' }] });
  many.handle(Array.from({ length: 2000 }, (_, n): Built[] => [...open({ ...FLOW, aPort: n }), data(50, 'y'.repeat(200), true, { ...FLOW, aPort: n })]).flat());
  await until('its gauge to be set', () => many.metric('ids_held_bytes') > 0);
  t.ok(many.metric('ids_held_bytes') > 0 && many.metric('ids_held_bytes') <= 65_536, `${many.metric('ids_held_bytes')} bytes held`);
  await many.handler.stop();
});

t.test('an expression that ruins backtracking matchers takes linear time', async (t) => {
  const test = start({ rules: [{ id: 'redos', regex: '(a+)+b' }, { id: 'redos2', regex: '(x|xx)+y' }] });
  const began = process.cpuUsage();
  test.handle([...open(), ...Array.from({ length: 40 }, (_, n) => data(n * 1000, 'a'.repeat(500) + 'x'.repeat(500)))]);
  const { user } = process.cpuUsage(began);
  t.strictSame(found(test), []);
  t.ok(user < 20e6, `${Math.round(user / 1000)} ms of CPU for 40,000 bytes; backtracking would take longer than the universe is old`);
});

t.test('alerts go to a file, a JSON object a line', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weir-ids-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const alerts = join(directory, 'alerts.jsonl');
  const test = start({ ...ATTACK, alerts });
  test.handle([...open(), data(0, 'GET /etc/passwd EVILBOT')]);
  await test.handler.flush();
  const lines = readFileSync(alerts, 'utf8').trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
  t.match(lines, [{ rule: 'attack', offset: 4, service: 's', instance: 'n', action: 'alert', direction: 'forward', time: /^20/, stream: { protocol: 'tcp', source: '10.1.0.2', source_port: 40_000, destination: '10.2.0.2', destination_port: 80, code: /^0x[0-9a-f]{8}$/ } }, { rule: 'agent', offset: 16 }]);
  const lost = start({ ...ATTACK, alerts: join(directory, 'none', 'alerts.jsonl') });
  lost.handle([...open(), data(0, 'GET /etc/passwd')]);
  await lost.handler.flush();
  t.match(lost.lines, [{ msg: /can't write alerts: ENOENT/ }]);
});

for (const [rules, message] of [
  [[{ id: 'a', content: 'x' }, { id: 'a', content: 'y' }], /rules\[1\]\.id: "a" is there twice/],
  [[{ id: 'a' }], /rules\[0\]: expected content, hex or regex/],
  [[{ id: 'a', content: 'x', hex: '00' }], /either content or hex/],
  [[{ id: 'a', regex: '(' }], /rules\[0\]\.regex: .*missing/],
  [[{ id: 'a', regex: 'x*' }], /it matches nothing at all/],
  [[{ id: 'a', regex: 'x$' }], /"\$" and "\\z" mean the end/],
  [[{ id: 'a', content: 'x', port: '9-1' }], /expected a port or a range/],
] as const) {
  t.test(`settings that are refused: ${JSON.stringify(rules)}`, async (t) => t.throws(() => compile({ rules }), { message }));
}
t.test('a "$" that is only a character is taken', async (t) => t.equal(compile({ rules: [{ id: 'a', regex: '[$]x\\$y' }] }).regexes.length, 1));
