/**
 * `fragment: true` on an underlay of the workload's own MTU: what can't be cut reaches its instances whole, in fragments of the outer packet,
 * and comes back so; NSH and Geneve, instances over IPv4 and IPv6, `pass` in native code and a function in JavaScript, two workers.
 */
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { reasons, unaccounted, type Accounts } from '../support/accounts.js';
import { Lab, ROOT, must, until, type Running } from '../support/lab.js';

const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
const MTU = 1500;
const DATAGRAMS = join(ROOT, 'test/support/whole_datagrams.py');
const PORT = '5009';
/** By where its packets go: one host of the network, with four addresses of each family. */
const CHAINS = [
  { chain: 'nsh-4', encapsulation: 'nsh', over: 4, last: 2 },
  { chain: 'geneve-4', encapsulation: 'geneve', over: 4, last: 3 },
  { chain: 'nsh-6', encapsulation: 'nsh', over: 6, last: 4 },
  { chain: 'geneve-6', encapsulation: 'geneve', over: 6, last: 5 },
] as const;

const lab = await Lab.up();
t.teardown(() => lab.down());
const content = randomBytes(200_000);
const sha256 = createHash('sha256').update(content).digest('hex');
writeFileSync(join(lab.directory, 'content'), content);
for (const { last } of CHAINS.slice(1)) {
  await lab.must('net', 'ip', 'address', 'add', `10.2.0.${last}/24`, 'dev', 'eth0');
  await lab.must('net', 'ip', 'address', 'add', `fd02::${last}/64`, 'dev', 'eth0', 'nodad');
}
const node = (host: string, service: string, name: string, address: string, how: string): Promise<Running> =>
  lab.start(host, [...WEIR, 'node', '--service', service, '--name', name, '--listen', address, '--function', how], /"msg":"ready"/);
const [counting] = await Promise.all([
  node('ids1', 'count-4', 'ids-1', '10.20.0.21', 'meter'),
  node('ids1', 'count-6', 'ids-1', 'fd20::21', 'meter'),
  node('fw1', 'pass-4', 'fw-1', '10.20.0.11', 'pass'),
  node('fw1', 'pass-6', 'fw-1', 'fd20::11', 'pass'),
  lab.start('net', ['python3', '-u', DATAGRAMS, 'serve', PORT, join(lab.directory, 'content'), ...CHAINS.flatMap(({ last }) => [`10.2.0.${last}`, `fd02::${last}`])], /ready/),
]);

const weir = (underlay: string, more: readonly string[] = []): Promise<Running> => {
  const file = join(lab.directory, 'weir.yaml');
  writeFileSync(file, `underlay: ${underlay}
captures: [{name: web, in: in0, out: out0}]
services:
  pass-4: {instances: [{name: fw-1, address: 10.20.0.11}]}
  count-4: {instances: [{name: ids-1, address: 10.20.0.21}]}
  pass-6: {instances: [{name: fw-1, address: "fd20::11"}]}
  count-6: {instances: [{name: ids-1, address: "fd20::21"}]}
chains:
${CHAINS.map(({ chain, encapsulation, over }) => `  ${chain}: {services: [pass-${over}, count-${over}], encapsulation: ${encapsulation}}`).join('\n')}
policies:
${CHAINS.map(({ chain, last }) => `  - {name: ${chain}, match: {destination: [10.2.0.${last}, "fd02::${last}"]}, chain: ${chain}}`).join('\n')}
${/port: pcap/.test(underlay) ? '' : 'workers: 2'}
flows: {max: 10000}
control: {socket: ${lab.socket}}
state_dir: ${join(lab.directory, 'state')}
`);
  return lab.start('fwd', [...WEIR, 'run', '--config', file, '--force-config', ...more], /"msg":"ready"/);
};
interface Stats extends Accounts {
  readonly fragments: { readonly datagramsSent: number; readonly sent: number; readonly received: number; readonly datagramsReceived: number };
}
const stats = (): Promise<Stats> => lab.ask<Stats>('stats');
/** With one packet it waits for the answer; with more, twice the longest time that an answer took. */
const ping = async (...how: string[]): Promise<string> => {
  const { stdout, stderr } = await lab.exec('wl', 'ping', '-W', '5', '-i', '0.2', ...how);
  return stdout + stderr;
};
const fetched = async (address: string, length: number): Promise<{ sha256: string; datagrams: number }> =>
  JSON.parse(await lab.must('wl', 'python3', DATAGRAMS, 'fetch', address, PORT, String(length))) as { sha256: string; datagrams: number };
const lines = async (file: string, filter: string, ...fields: string[]): Promise<string[][]> =>
  (await must(['tshark', '-n', '-r', file, '-Y', filter, '-T', 'fields', ...fields.flatMap((field) => ['-e', field])])).split('\n').filter((line) => line !== '').map((line) => line.split('\t'));
const FRAGMENTS = '(ip proto 17 and ip[6:2] & 0x3fff != 0) or ip6[6] == 44';

await t.test('packets of full size through both instances, in outer fragments', async (t) => {
  const running = await weir('{interface: und0, fragment: true}');
  t.teardown(() => running.stop());
  await until('traffic', async () => (await ping('-c', '1', '10.2.0.2')).includes(' 0% packet loss'));
  const before = await stats();
  const seen = await Promise.all(['fw1', 'ids1'].map((host) => lab.capture(host, 'eth0', `udp port 4790 or udp port 6081 or ${FRAGMENTS}`)));
  await Promise.all(CHAINS.map(async ({ chain, last }) => {
    t.match(await ping('-c', '1', '-M', 'do', '-s', '1472', `10.2.0.${last}`), / 0% packet loss/, `${chain}: ping -s 1472 -M do`);
    t.match(await ping('-c', '1', '-M', 'do', '-s', '1452', `fd02::${last}`), / 0% packet loss/, `${chain}: ping -s 1452 -M do over IPv6`);
    t.match(await ping('-c', '1', '-s', '4000', `fd02::${last}`), / 0% packet loss/, `${chain}: IPv6 fragments of full size`);
    t.match(await ping('-c', '1', '-M', 'dont', '-s', '1472', `10.2.0.${last}`), / 0% packet loss/, `${chain}: what may be fragmented inside`);
    t.equal((await fetched(`10.2.0.${last}`, 1472)).sha256, sha256, `${chain}: datagrams with DF are what was sent`);
    t.equal((await fetched(`fd02::${last}`, 1452)).sha256, sha256, `${chain}: datagrams over IPv6 are what was sent`);
  }));
  await until('all packets to be accounted for', async () => unaccounted(await stats()) === 0);
  const after = await stats();
  t.equal(reasons(after), reasons(before), 'nothing was dropped');
  t.ok(after.fragments.datagramsReceived > 4 * 250, `${JSON.stringify(after.fragments)}`);

  // tshark puts the outer fragments together, and reads what is in them: the instances' own addresses, the stamp, the packet.
  const FIELDS = ['frame.protocols', 'ip.dst', 'ipv6.dst', 'ipv6.src', 'icmp.type', 'icmp.checksum.status', 'data.len', 'udp.srcport', 'udp.checksum', 'ip.reassembled.length', 'ipv6.reassembled.length', 'ip.flags.mf'] as const;
  type Row = Readonly<Record<(typeof FIELDS)[number], readonly string[]>>;
  await Promise.all(seen.map(async ({ stop }, i) => {
    const host = i === 0 ? 'pass' : 'JavaScript';
    const file = await stop();
    const frames = async (filter: string): Promise<number> => (await must(['tcpdump', '-n', '-r', file, filter])).split('\n').length - 1;
    t.ok((await frames(FRAGMENTS)) > 2000, `${host}: outer fragments`);
    t.equal(await frames(`(${FRAGMENTS}) and greater ${14 + MTU + 1}`), 0, `${host}: none longer than the MTU`);
    const rows = (await lines(file, 'ip.reassembled.length || ipv6.reassembled.length || ip.flags.mf == 1', ...FIELDS)).map((row) => Object.fromEntries(FIELDS.map((field, n) => [field, (row[n] ?? '').split(',')])) as unknown as Row);
    for (const { chain, encapsulation, over, last } of CHAINS) {
      const whole = rows.filter((row) => row[over === 4 ? 'ip.dst' : 'ipv6.dst'][0] === (over === 4 ? `10.20.0.${i === 0 ? 11 : 21}` : `fd20::${i === 0 ? 11 : 21}`) && row[over === 4 ? 'ip.reassembled.length' : 'ipv6.reassembled.length'][0] !== '' && row['frame.protocols'][0]?.includes(encapsulation === 'nsh' ? ':nsh:' : ':geneve:'));
      const echoes = whole.filter((row) => row['icmp.type'][0] === '8' && row['ip.dst'].at(-1) === `10.2.0.${last}`);
      t.equal(echoes.length, 1, `${host}, ${chain}: whole echoes in fragments`);
      t.ok(echoes.every((row) => row['icmp.checksum.status'][0] === '1' && row['udp.checksum'][0] !== '0x0000'), `${host}, ${chain}: what is in them is right, and under a checksum`);
      const six = whole.filter((row) => row['udp.srcport'].at(-1) === PORT && row['ipv6.src'].at(-1) === `fd02::${last}`);
      t.ok(six.length >= content.length / 1452, `${host}, ${chain}: datagrams over IPv6 in fragments`);
    }
    const inside = rows.filter((row) => row['ip.dst'].at(-1) === '10.2.0.2' && row['ip.flags.mf'].at(-1) !== '0' && row['ip.reassembled.length'][0] === '' && row['frame.protocols'][0]?.includes(':nsh:'));
    t.ok(inside.length >= 1, `${host}: IPv4 that may be fragmented is so inside`);
  }));
  t.equal((await running.stop()).code, 0);
});

await t.test('the next weir takes the rings over, and fragments with them', async (t) => {
  const first = await weir(`{interface: und0, mtu: ${MTU}}`);
  const second = await weir('{interface: und0, fragment: true}', ['--takeover']);
  t.teardown(() => second.stop());
  t.equal((await first.ended).code, 0);
  t.match(await ping('-c', '1', '-M', 'do', '-s', '1472', '10.2.0.2'), / 0% packet loss/, 'what the one before did not take from the kernel comes');
});

await t.test('on the pcap port, too', async (t) => {
  const running = await weir('{interface: und0, fragment: true}\nport: pcap', ['--fresh-flows']);
  t.teardown(() => running.stop());
  // The first frame of each interface is lost there (docs/status.md), so an instance's link address may be known a second later.
  for (const { chain, last } of CHAINS.slice(1, 3)) {
    await until(`traffic of ${chain}`, async () => (await ping('-c', '2', '-W', '1', `10.2.0.${last}`)).includes(' 0% packet loss'));
    t.match(await ping('-c', '5', '-M', 'do', '-s', '1472', `10.2.0.${last}`), / 0% packet loss/, `${chain}: packets of full size`);
  }
  const { fragments, ...rest } = await stats();
  t.equal(reasons(rest), 'none', 'nothing was dropped');
  t.ok(fragments.sent > 0 && fragments.received > 0, `${JSON.stringify(fragments)}`);
  t.equal((await running.stop()).code, 0);
});

await t.test('without the option its sender is told, as ever', async (t) => {
  const running = await weir('{interface: und0}', ['--fresh-flows']);
  t.teardown(() => running.stop());
  await until('traffic', async () => (await ping('-c', '1', '10.2.0.2')).includes(' 0% packet loss'));
  const seen = await lab.capture('fw1', 'eth0', FRAGMENTS);
  t.match(await ping('-c', '2', '-M', 'do', '-s', '1472', '10.2.0.2'), /Frag needed and DF set \(mtu = 1434\)|message too long, mtu=1434/);
  t.match(await ping('-c', '2', '-M', 'do', '-s', '1452', 'fd02::2'), /Packet too big: mtu=1434|message too long, mtu: ?1434/);
  t.strictSame(await lines(await seen.stop(), 'frame', 'frame.len'), [], 'and no outer packet is fragmented');
  t.equal((await stats()).fragments.sent, 0);
  t.equal((await running.stop()).code, 0);
});

await t.test('the node says how much came in fragments', async () => {
  counting.child.kill('SIGUSR2');
  await until('its counts', () => /"fragments":\{"datagramsSent":\d{3,},"sent":\d{3,},"received":\d{3,},"datagramsReceived":\d{3,}\}/.test(counting.output()));
});
