/** firewall and meter on packets in memory, mark, and settings. What the firewall makes of TCP is compared with nftables in test/live. */
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { compile, type FirewallSettings } from '../../src/service/functions/firewall-settings.js';
import { firewall } from '../../src/service/functions/firewall.js';
import { mark } from '../../src/service/functions/mark.js';
import { meter } from '../../src/service/functions/meter.js';
import { schema as meterSchema } from '../../src/service/functions/meter-settings.js';
import type { ServiceFunction } from '../../src/service/service-function.js';
import { SettingsFile } from '../../src/service/settings.js';
import { FunctionUnderTest, type Answer } from '../support/service-function.js';
import { ACK, FIN, SYN, extended, extension, fragmentHeader, fragments, tcp, udp, type Flow } from '../support/segments.js';

const FLOW: Flow = { a: '10.1.0.2', b: '10.2.0.2', aPort: 40_000, bPort: 80 };
const at = (aPort: number, bPort = 80): Flow => ({ ...FLOW, aPort, bPort });
const wall = (settings: FirewallSettings, options: { maxStreams?: number } = {}): FunctionUnderTest => new FunctionUnderTest(firewall() as ServiceFunction, settings, options);

t.test('firewall: rules changed while it runs count for what opens; what is established goes on', async (t) => {
  const test = wall({ rules: [{ name: 'web', action: 'accept', protocol: 'tcp', destination_port: 80 }] });
  const live = [tcp(FLOW, true, { flags: SYN }), tcp(FLOW, false, { flags: SYN | ACK, acknowledgement: 1 }), tcp(FLOW, true, { sequence: 1, acknowledgement: 1 })];
  t.strictSame(test.handle([...live, tcp(at(2), true, { flags: SYN }), tcp(at(3, 22), true, { flags: SYN })]), ['forward', 'forward', 'forward', 'forward', 'drop']);
  t.equal(test.metric('firewall_rule_web'), 2);
  test.handler.configure({ rules: [{ action: 'accept', protocol: 'tcp', destination_port: 22 }] });
  t.strictSame(test.handle([tcp(FLOW, true, { sequence: 1, acknowledgement: 1, payload: 'on' }), tcp(at(2), true, { flags: SYN }), tcp(at(3, 22), true, { flags: SYN })]), ['forward', 'drop', 'forward']);
  t.throws(() => test.handler.configure({ rules: [{ action: 'accept', source: '10.1.0.1/8' }] }), { message: /rules\[0\]\.source: "10\.1\.0\.1\/8" has bits set behind its length/ });
  t.strictSame(test.handle([tcp(at(4, 22), true, { flags: SYN })]), ['forward'], 'those before are still in force');
});

t.test('firewall: fragments follow their first one', async (t) => {
  const test = wall({ rules: [{ action: 'accept', protocol: 'udp', destination_port: 53 }] });
  t.strictSame(test.handle([...fragments(at(1, 53), true, 1), ...fragments(at(2, 54), true, 2)]), ['forward', 'forward', 'drop', 'drop']);
});

t.test('firewall: extension headers of IPv6 hide nothing, and what can not be read never passes', async (t) => {
  const flow = (bPort: number): Flow => ({ a: 'fd01::2', b: 'fd02::2', aPort: 40_000, bPort });
  const test = wall({ default: 'accept', rules: [{ action: 'drop', protocol: 'tcp', destination_port: 23 }] });
  const behind = (n: number, kind: number, bPort: number) => extended(tcp(flow(bPort), true, { flags: SYN }), Array.from({ length: n }, () => extension(kind)));
  for (const [n, kind] of [[9, 60], [11, 60], [1, 135], [1, 139], [1, 140], [11, 51]] as const) t.strictSame(test.handle([behind(n, kind, 23), behind(n, kind, 80)]), ['drop', 'forward'], `${n} of type ${kind}`);
  t.strictSame(test.handle([behind(12, 60, 80)]), ['drop']);
  t.equal(test.metric('firewall_invalid'), 1);
});

t.test('firewall: a later fragment over IPv6 belongs to its stream, whatever it says that it is', async (t) => {
  const test = wall({ rules: [{ action: 'accept', protocol: 'udp', destination_port: 53 }, { action: 'accept', protocol: 60 }] });
  const flow = (bPort: number): Flow => ({ a: 'fd01::2', b: 'fd02::2', aPort: 40_000, bPort });
  const part = (bPort: number, more: boolean, claimed = 17) => extended(udp(flow(bPort), true, 'x'.repeat(40)), [fragmentHeader(more ? 0 : 48, more, bPort)], claimed);
  for (const claimed of [17, 60, 6, 58, 0]) t.strictSame(test.handle([part(53, true), part(53, false, claimed), part(54, true), part(54, false, claimed)]), ['forward', 'forward', 'drop', 'drop'], `${claimed}`);
});

t.test('firewall: what is refused leaves nothing, and a flood does not drive out what is in use', async (t) => {
  const test = wall({ rules: [{ action: 'accept', protocol: 'tcp', destination_port: 80 }] }, { maxStreams: 100 });
  test.handle(Array.from({ length: 500 }, (_, n) => tcp(at(1000 + n, 22), true, { flags: SYN })));
  t.equal(test.handler.streams.size, 0);
  test.handle([tcp(FLOW, true, { flags: SYN }), tcp(FLOW, false, { flags: SYN | ACK, acknowledgement: 1 }), tcp(FLOW, true, { sequence: 1, acknowledgement: 1 })]);
  test.handle(Array.from({ length: 5000 }, (_, n) => tcp(at(1000 + n), true, { flags: SYN })));
  t.strictSame(test.handle([tcp(FLOW, true, { sequence: 1, acknowledgement: 1, payload: 'x' })]), ['forward']);
});

t.test('firewall: connections are forgotten after their idle time', async (t) => {
  const test = wall({ idle: { established: '10m', opening: '20s', closed: '2s', udp: '30s' }, rules: [{ action: 'accept', protocol: ['tcp', 'udp'] }] });
  const opened = (flow: Flow) => [tcp(flow, true, { flags: SYN }), tcp(flow, false, { flags: SYN | ACK, acknowledgement: 1 }), tcp(flow, true, { sequence: 1, acknowledgement: 1 })];
  const end = (flow: Flow) => [tcp(flow, true, { flags: FIN | ACK, sequence: 1, acknowledgement: 1 }), tcp(flow, false, { flags: FIN | ACK, sequence: 1, acknowledgement: 2 }), tcp(flow, true, { sequence: 2, acknowledgement: 2 })];
  test.handle([...opened(at(1)), ...opened(at(2)), ...end(at(2)), tcp(at(3), true, { flags: SYN }), udp(at(4), true)]);
  const left = (afterMs: number): number => {
    test.nowMs += afterMs;
    test.handler.sweep();
    return test.handler.streams.size;
  };
  t.strictSame([left(1_900), left(200), left(18_000), left(10_000), left(569_000), left(2_000)], [4, 3, 2, 1, 1, 0]);
});

for (const [settings, message] of [
  [{ rules: [{ action: 'accept', direction: 'in' }] }, /rules\[0\]\.direction: needs the key "inside"/],
  [{ rules: [{ action: 'accept', destination_port: 80 }] }, /rules\[0\]: ports need "protocol: tcp" or "udp"/],
  [{ rules: [{ action: 'accept', protocol: 'tcp', destination_port: '90-80' }] }, /expected a port or a range of ports, found "90-80"/],
  [{ inside: '10.0.0.0/33' }, /inside: expected a prefix length from 0 to 32/],
] as const) {
  t.test(`firewall: settings that are refused: ${JSON.stringify(settings)}`, async (t) => t.throws(() => compile(settings as FirewallSettings), { message }));
}

t.test('meter: streams and hosts, both directions, as CSV and JSON; ended streams once; hosts bounded', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weir-meter-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const test = new FunctionUnderTest(meter() as ServiceFunction, { export: { directory, format: 'json' }, max_hosts: 3 });
  test.handle([udp(FLOW, true, 'x'.repeat(100)), udp(FLOW, false, 'y'.repeat(10)), udp(FLOW, true, ''), udp({ ...FLOW, a: '10.1.0.3' }, true), udp({ ...FLOW, a: '10.1.0.4' }, true), udp({ ...FLOW, a: '10.1.0.5' }, true)]);
  await test.handler.flush();
  const read = (): { streams: Record<string, unknown>[]; hosts: Record<string, unknown>[] } => JSON.parse(readFileSync(join(directory, 'meter.json'), 'utf8')) as never;
  t.match(read().streams[0], { protocol: 17, source: '10.1.0.2', source_port: 40_000, destination: '10.2.0.2', destination_port: 80, packets: 2, bytes: 156, answer_packets: 1, answer_bytes: 38, end: '' });
  t.equal(read().streams.length, 4);
  t.strictSame(read().hosts, [
    { address: '10.1.0.2', streams: 1, sent_packets: 2, sent_bytes: 156, received_packets: 1, received_bytes: 38 },
    { address: '10.2.0.2', streams: 4, sent_packets: 1, sent_bytes: 38, received_packets: 5, received_bytes: 243 },
    { address: '10.1.0.3', streams: 1, sent_packets: 1, sent_bytes: 29, received_packets: 0, received_bytes: 0 },
    { address: 'others', streams: 2, sent_packets: 2, sent_bytes: 58, received_packets: 0, received_bytes: 0 },
  ]);
  test.nowMs += 200_000;
  test.handler.sweep();
  test.handle([udp(at(5), true)]);
  test.handler.configure({ export: { directory, format: 'csv' } });
  await test.handler.flush();
  const lines = readFileSync(join(directory, 'streams.csv'), 'utf8').trim().split('\n');
  t.equal(lines[0], 'code,protocol,source,source_port,destination,destination_port,first_seen,last_seen,packets,bytes,answer_packets,answer_bytes,end');
  t.strictSame(lines.slice(1).map((line) => line.split(',').at(-1)), ['idle', 'idle', 'idle', 'idle', '']);
  await test.handler.flush();
  t.equal(readFileSync(join(directory, 'streams.csv'), 'utf8').trim().split('\n').length, 2, 'an ended stream is written once');
  t.match(readFileSync(join(directory, 'hosts.csv'), 'utf8'), /^address,streams,sent_packets,sent_bytes,received_packets,received_bytes\n10\.1\.0\.2,2,/);
  t.strictSame(readdirSync(directory).sort(), ['hosts.csv', 'meter.json', 'streams.csv'], 'no half files');
  test.handler.configure({});
  await test.handler.stop();
});

t.test('mark: its name behind the payload of test packets', async (t) => {
  const test = new FunctionUnderTest(mark() as ServiceFunction);
  const [marked, other] = test.handle([udp(FLOW, true, 'weir-test 1'), udp(FLOW, true, 'weir')]);
  t.strictSame(Buffer.from(marked as Uint8Array), Buffer.from(udp(FLOW, true, 'weir-test 1|n').bytes));
  t.equal(other, 'forward' satisfies Answer);
});

t.test('settings: everything that is wrong, with its place', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weir-settings-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'meter.yaml');
  const settings = new SettingsFile(file, meterSchema, 'meter');
  t.throws(() => settings.read(), { message: /can't read the settings .*meter\.yaml: there is no such file/ });
  writeFileSync(file, 'max_hosts: many\nexport: {directory: /tmp, formt: csv}\n');
  t.throws(() => settings.read(), { message: /meter\.yaml:1:12: max_hosts: expected a whole number from 1 to 10000000, found "many"\n.*meter\.yaml:2:27: export\.formt: unknown key; did you mean "format"\?/ });
  writeFileSync(file, 'max_hosts: [\n');
  t.throws(() => settings.read(), { message: /meter\.yaml:2:1/ });
  writeFileSync(file, '');
  t.strictSame(settings.read(), {});
  t.throws(() => new SettingsFile(file, undefined, 'mark'), { message: /the function mark takes no settings/ });
  t.throws(() => new SettingsFile(null, { type: 'nonsense' }, 'own'), { message: /function own: its schema is no JSON Schema/ });
  const changed = new Promise<void>((resolve) => {
    const end = settings.watch(() => {
      end();
      resolve();
    });
  });
  // Again and again: the first look may come after the first change.
  const writing = setInterval(() => writeFileSync(file, `max_hosts: ${Math.ceil(Math.random() * 1e6)}\n`), 20);
  await changed;
  clearInterval(writing);
});
