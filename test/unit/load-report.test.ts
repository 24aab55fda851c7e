/** Load reports on the wire, and who is believed. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { loadReportKey } from '../../src/load/key.js';
import { LoadLedger } from '../../src/load/ledger.js';
import { absurdity, decodeReport, encodeReport, type LoadReport } from '../../src/load/report.js';
import { LoadMeter } from '../../src/service/load-report.js';
import { steerAll, valid } from '../support/configuration.js';

const KEY = Buffer.from('0123456789abcdef');
const NOW = Date.UTC(2026, 10, 21);
const REPORT: LoadReport = { service: 'firewall', name: 'fw-1', session: 7n, atMs: NOW, sequence: 1, intervalMs: 1000, packetsPerSecond: 1234.5, bytesPerSecond: 1e6, cpu: 42, streams: 17, queue: 3 };

t.test('what is written is read again', async (t) => {
  t.strictSame(decodeReport(encodeReport(REPORT, KEY), KEY), REPORT);
  const unknown = { ...REPORT, cpu: null, streams: null, queue: null };
  t.strictSame(decodeReport(encodeReport(unknown, KEY), KEY), unknown);
  const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/);
  const amount = fc.double({ min: 0, max: 1e9, noNaN: true });
  fc.assert(
    fc.property(name, name, amount, amount, fc.option(fc.double({ min: 0, max: 100_000, noNaN: true })), fc.option(fc.integer({ min: 0, max: 1e9 })), (service, own, packetsPerSecond, bytesPerSecond, cpu, streams) => {
      const report = { ...REPORT, service, name: own, packetsPerSecond, bytesPerSecond, cpu, streams };
      t.strictSame(decodeReport(encodeReport(report, KEY), KEY), report);
    }),
  );
});

t.test('a changed bit anywhere, another key, a cut: refused', async (t) => {
  const good = encodeReport(REPORT, KEY);
  for (let bit = 0; bit < good.length * 8; bit++) {
    const bad = Buffer.from(good);
    bad[bit >> 3] = (bad[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    const read = decodeReport(bad, KEY);
    if (!('refused' in read)) t.fail(`bit ${bit} went unnoticed`);
  }
  t.match(decodeReport(good, Buffer.from('0123456789abcdeF')), { refused: 'forged' });
  for (let n = 0; n < good.length; n++) t.match(decodeReport(good.subarray(0, n), KEY), { refused: /malformed|forged/ }, `cut to ${n}`);
});

t.test('no datagram makes it throw', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      t.ok('refused' in decodeReport(bytes, KEY));
    }),
    { numRuns: 2000 },
  );
  // The same with a beginning that looks right.
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 100, maxLength: 224 }), (bytes) => {
      const b = Buffer.from(bytes);
      b.writeUInt32BE(0x574c5231, 0);
      b.writeUInt16BE(b.length, 4);
      t.ok('refused' in decodeReport(b, KEY));
    }),
    { numRuns: 2000 },
  );
});

t.test('authentic nonsense is refused with what is wrong', async (t) => {
  const cases: readonly (readonly [Partial<LoadReport>, RegExp])[] = [
    [{ packetsPerSecond: NaN }, /packetsPerSecond is no number/],
    [{ bytesPerSecond: Infinity }, /bytesPerSecond is no number/],
    [{ packetsPerSecond: -1 }, /less than 0/],
    [{ packetsPerSecond: 1e12 }, /more than anything can do/],
    [{ cpu: 1e9 }, /cpu is 1000000000/],
    [{ intervalMs: 1 }, /its interval is 1 ms/],
    [{ intervalMs: 4_000_000_000 }, /its interval/],
  ];
  for (const [change, why] of cases) t.match(decodeReport(encodeReport({ ...REPORT, ...change }, KEY), KEY), { refused: 'absurd', why });
  t.equal(absurdity({ packetsPerSecond: null, bytesPerSecond: null, cpu: null, streams: null, queue: null }), null);
});

function ledger() {
  const told: string[] = [];
  const clock = { ms: NOW, now: () => clock.ms };
  const it = new LoadLedger(clock, (text) => told.push(text));
  it.configure(valid(steerAll()).services);
  const receive = (report: Partial<LoadReport>, from = '10.20.0.11', key = KEY): void => it.receive(encodeReport({ ...REPORT, atMs: clock.ms, ...report }, key), from, KEY);
  return { it, told, clock, receive };
}

t.test('a report counts until three intervals are over', async (t) => {
  const { it, clock, receive } = ledger();
  receive({});
  t.match(it.of('firewall/fw-1'), { cpu: 42, streams: 17, source: 'report', ageMs: 0 });
  clock.ms += 3000;
  t.match(it.of('firewall/fw-1'), { ageMs: 3000 });
  clock.ms += 1;
  t.equal(it.of('firewall/fw-1'), null);
  t.match(it.view('firewall/fw-1'), { load: null, stale: true, accepted: 1, refused: {} });
  t.equal(it.of('firewall/fw-2'), null);
  t.match(it.view('firewall/fw-2'), { stale: false });
});

t.test('forged, stale, replayed, of another, absurd: refused, counted, told once each', async (t) => {
  const { it, told, clock, receive } = ledger();
  receive({ sequence: 5 });
  const before = it.of('firewall/fw-1');
  for (let i = 0; i < 3; i++) {
    receive({ sequence: 9 }, '10.20.0.11', randomBytes(16));
    receive({ sequence: 5 });
    receive({ atMs: clock.ms - 31_000 });
    receive({ atMs: clock.ms + 31_000 });
    receive({ sequence: 9, name: 'fw-2' });
    receive({ sequence: 9, cpu: NaN });
    it.receive(randomBytes(120), '10.20.0.11', KEY);
    receive({}, '10.99.0.1');
  }
  t.strictSame(it.of('firewall/fw-1'), before);
  t.match(it.view('firewall/fw-1'), { accepted: 1, refused: { forged: 3, replayed: 3, stale: 6, wrong_instance: 3, absurd: 3, malformed: 3 }, lastRefused: /malformed: / });
  t.equal(it.strangers, 3);
  t.equal(told.length, 7, told.join('\n'));
  t.match(told.join('\n'), /fw-1 from 10\.20\.0\.11 was refused \(wrong_instance\): it says that it is firewall\/fw-2, but that address is firewall\/fw-1's/);
  t.match(told.join('\n'), /is the clock of 10\.20\.0\.11 right\?/);
  t.notMatch(told.join('\n'), /0123456789abcdef/);
  clock.ms += 61_000;
  receive({ sequence: 9 }, '10.20.0.11', randomBytes(16));
  t.equal(told.length, 8, 'again after a minute');
});

t.test('a recorded report is no use, neither at once nor later nor from another place', async (t) => {
  const { it, clock } = ledger();
  const recorded = encodeReport({ ...REPORT, atMs: clock.ms }, KEY);
  it.receive(recorded, '10.20.0.11', KEY);
  clock.ms += 1000;
  it.receive(encodeReport({ ...REPORT, atMs: clock.ms, sequence: 2, cpu: 80 }, KEY), '10.20.0.11', KEY);
  for (const afterMs of [0, 1000, 40_000]) {
    clock.ms += afterMs;
    it.receive(recorded, '10.20.0.11', KEY);
    it.receive(recorded, '10.20.0.12', KEY);
  }
  t.match(it.view('firewall/fw-1'), { accepted: 2, refused: { replayed: 2, stale: 1 } });
  t.equal(it.view('firewall/fw-2').accepted, 0);
});

t.test('a process that begins anew is believed at once; two at a time are not, until one is gone', async (t) => {
  const { it, clock, receive } = ledger();
  receive({ session: 1n, sequence: 100 });
  clock.ms += 100;
  receive({ session: 2n, sequence: 0, cpu: 5 });
  t.match(it.of('firewall/fw-1'), { cpu: 5 }, 'begun anew');
  for (let i = 1; i < 10; i++) {
    clock.ms += 500;
    receive({ session: BigInt(1 + (i % 2) ), sequence: 100 + i });
  }
  t.equal(it.of('firewall/fw-1'), null, 'nobody knows whose figures they would be');
  t.match(it.view('firewall/fw-1').lastRefused, /two processes at 10\.20\.0\.11 report as firewall\/fw-1: end one of them/);
  for (let i = 0; i < 10; i++) {
    clock.ms += 1000;
    receive({ session: 1n, sequence: 200 + i, cpu: 9 });
  }
  t.match(it.of('firewall/fw-1'), { cpu: 9 });
});

t.test('a flood is cut off, at little cost, and is over when it is over', async (t) => {
  const { it, clock, receive } = ledger();
  for (let i = 0; i < 1000; i++) receive({ sequence: i + 1 });
  const { accepted, refused } = it.view('firewall/fw-1');
  t.equal(accepted, 30);
  t.equal(refused.too_many, 970);
  clock.ms += 1000;
  receive({ sequence: 5000, cpu: 11 });
  t.match(it.of('firewall/fw-1'), { cpu: 11 });
});

t.test('what a controller collected', async (t) => {
  const { it, clock } = ledger();
  const values = { packetsPerSecond: 5, bytesPerSecond: null, cpu: 12, streams: null, queue: null };
  t.equal(it.set('firewall/fw-1', values, 5000), null);
  t.match(it.of('firewall/fw-1'), { cpu: 12, source: 'set' });
  t.match(it.set('firewall/fw-9', values), /there is no instance/);
  t.match(it.set('firewall/fw-1', { ...values, cpu: -3 }), /cpu is -3/);
  clock.ms += 5001;
  t.equal(it.of('firewall/fw-1'), null);
});

t.test('an instance that moves to another address begins anew', async (t) => {
  const { it, receive } = ledger();
  receive({});
  it.configure(valid(steerAll().replace('10.20.0.11', '10.20.0.19')).services);
  t.equal(it.of('firewall/fw-1'), null);
  receive({ sequence: 2 }, '10.20.0.11');
  t.equal(it.strangers, 1);
});

t.test('keys come from files', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weir-key-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = (content: string | Buffer): string => {
    writeFileSync(join(directory, 'key'), content);
    return join(directory, 'key');
  };
  t.strictSame(Buffer.from(loadReportKey(file('0123456789abcdef\n'), 'x')), KEY);
  const raw = Buffer.concat([Buffer.alloc(31, 200), Buffer.from('\n')]);
  t.strictSame(loadReportKey(file(raw), 'x'), raw, 'random bytes stay what they are');
  t.throws(() => loadReportKey(file('short'), '--report-key'), /--report-key: expected 16 to 4096 bytes in .*, found 5\. Make one with/);
  t.throws(() => loadReportKey(join(directory, 'none'), 'load.key.file'), /load\.key\.file: can't read .* \(ENOENT\)/);
});

t.test('a node measures rates between two readings', async (t) => {
  let [packets, bytes, cpu, ms] = [0, 0, 0, 0];
  const meter = new LoadMeter({ received: () => ({ packets, bytes }), queue: () => 4 }, () => ms, () => cpu);
  [packets, bytes, cpu, ms] = [5000, 400_000, 250_000, 500];
  t.strictSame(meter.read(), { packetsPerSecond: 10_000, bytesPerSecond: 800_000, cpu: 50, streams: null, queue: 4 });
  ms = 1500;
  t.match(meter.read(), { packetsPerSecond: 0, cpu: 0 });
});
