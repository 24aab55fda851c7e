/**
 * Instances behind a router whose far link carries less than weir's interface, over IPv4 and IPv6: what the kernel's route says of that is
 * heeded before a packet is lost, and followed when it changes; what the router says, after the first ones are.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { unaccounted, type Accounts } from '../support/accounts.js';
import { Lab, ROOT, must, until, type Running } from '../support/lab.js';

const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
const NARROW = 1400;
/** One chain each, by where its packets go. `overhead`: what stands before an inner IP packet within the underlay's packet, with NSH. */
const WAYS = [
  { chain: 'four', to: '10.2.0.2', instance: '10.21.0.22', overhead: 20 + 8 + 24 + 14, route: ['10.21.0.0/24', 'via', '10.20.0.254'] },
  { chain: 'six', to: '10.2.0.3', instance: 'fd21::22', overhead: 40 + 8 + 24 + 14, route: ['fd21::/64', 'via', 'fd20::fe'] },
] as const;

const lab = await Lab.up();
t.teardown(() => lab.down());
const content = randomBytes(2_000_000);
const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
writeFileSync(join(lab.directory, 'download'), content);
await lab.must('net', 'ip', 'address', 'add', '10.2.0.3/24', 'dev', 'eth0');
for (const [host, device, address] of [['ur', 'eth0', 'fd20::fe/64'], ['ur', 'eth1', 'fd21::1/64'], ['ids2', 'eth0', 'fd21::22/64']] as const) await lab.must(host, 'ip', 'address', 'add', address, 'dev', device, 'nodad');
await lab.must('ids2', 'ip', 'route', 'add', 'default', 'via', 'fd21::1');
// Packets cross the far link as they would a wire, so that their lengths can be seen there.
for (const [host, device] of [['ur', 'eth1'], ['ids2', 'eth0']] as const) await lab.must(host, 'ethtool', '-K', device, 'tx-udp-segmentation', 'off', 'gso', 'off', 'gro', 'off');
const farLink = async (mtu: number): Promise<void> => {
  for (const [host, device] of [['ur', 'eth1'], ['ids2', 'eth0']] as const) await lab.must(host, 'ip', 'link', 'set', device, 'mtu', String(mtu));
};
const routes = async (mtu: number | null): Promise<void> => {
  for (const { route } of WAYS) await lab.must('fwd', 'ip', 'route', 'replace', ...route, ...(mtu === null ? [] : ['mtu', String(mtu)]));
};
await Promise.all([
  ...WAYS.map(({ chain, instance }) => lab.start('ids2', [...WEIR, 'node', '--service', chain, '--name', `ids-${chain}`, '--listen', instance, '--function', 'pass'], /"msg":"ready"/)),
  lab.start('net', ['python3', '-u', '-m', 'http.server', '8080', '--bind', '::', '--directory', lab.directory], /Serving HTTP/),
]);

const weir = (port: 'ring' | 'pcap' = 'ring'): Promise<Running> => {
  const file = join(lab.directory, 'weir.yaml');
  writeFileSync(file, `underlay: {interface: und0}
captures: [{name: web, in: in0, out: out0}]
services:
${WAYS.map(({ chain, instance }) => `  ${chain}: {instances: [{name: ids-${chain}, address: "${instance}"}]}`).join('\n')}
chains: {${WAYS.map(({ chain }) => `${chain}: [${chain}]`).join(', ')}}
policies:
${WAYS.map(({ chain, to }) => `  - {name: ${chain}, match: {destination: ${to}}, chain: ${chain}}`).join('\n')}
${port === 'ring' ? 'workers: 2' : 'port: pcap'}
flows: {max: 10000}
control: {socket: ${lab.socket}}
state_dir: ${join(lab.directory, 'state')}
`);
  return lab.start('fwd', [...WEIR, 'run', '--fresh-flows', '--force-config', '--config', file], /"msg":"ready"/);
};
const stats = (): Promise<Accounts> => lab.ask<Accounts>('stats');
const mtus = async (): Promise<(number | null)[]> => (await lab.ask<{ instances: { mtu: number | null }[] }[]>('services')).flatMap(({ instances }) => instances.map(({ mtu }) => mtu));
const ping = async (...how: string[]): Promise<string> => {
  const { stdout, stderr } = await lab.exec('wl', 'ping', '-W', '2', '-i', '0.5', ...how);
  return stdout + stderr;
};
const answered = async (to: string): Promise<boolean> => (await ping('-c', '1', to)).includes(' 0% packet loss');
/** The workload's kernel remembers what it was told. */
const forget = (): Promise<string> => lab.must('wl', 'ip', 'route', 'flush', 'cache');
async function download(to: string): Promise<boolean> {
  const got = join(lab.directory, 'got');
  const { code } = await lab.exec('wl', 'curl', '-sS', '--max-time', '60', '-o', got, `http://${to}:8080/download`);
  return code === 0 && sha256(readFileSync(got)) === sha256(content);
}
const TOO_BIG = '(icmp and icmp[0] == 3 and icmp[1] == 4) or (icmp6 and ip6[40] == 2)';
const frames = async (file: string, filter: string): Promise<number> => (await must(['tcpdump', '-n', '-r', file, filter])).split('\n').length - 1;

await t.test('`ip route … mtu` on the way: senders are told of it, nothing is lost on the way, a change is followed', async (t) => {
  await farLink(NARROW);
  await routes(NARROW);
  const running = await weir();
  t.teardown(() => running.stop());
  t.strictSame(await mtus(), [NARROW, NARROW]);
  const refused = await lab.capture('ur', 'eth0', TOO_BIG);
  const crossing = await lab.capture('ur', 'eth1', 'udp port 4790', 200);
  for (const { chain, to, overhead } of WAYS) {
    await until('traffic', () => answered(to));
    const limit = NARROW - overhead;
    t.match(await ping('-c', '2', '-M', 'do', '-s', '1472', to), new RegExp(`Frag needed and DF set \\(mtu = ${limit}\\)|message too long, mtu=${limit}`), `${chain}: ping -s 1472 -M do is told ${limit}`);
    t.match(await lab.ping('wl', '-M', 'do', '-s', String(limit - 28), to), / 0% packet loss/, `${chain}: what fits goes through`);
    await forget();
    t.ok(await download(to), `${chain}: TCP`);
    t.match(await lab.ping('wl', '-M', 'dont', '-s', '4000', to), / 0% packet loss/, `${chain}: what may be fragmented is`);
  }
  t.equal(await frames(await refused.stop(), ''), 0, 'the router has nothing to refuse, there or back');
  const file = await crossing.stop();
  for (const { instance: address } of WAYS) {
    for (const way of ['src', 'dst']) t.ok((await frames(file, `${way} host ${address} and greater ${14 + NARROW - 100}`)) > 0, `${way} ${address}: packets of full size`);
  }
  t.equal(await frames(file, `greater ${14 + NARROW + 1}`), 0, 'none longer than the link: what comes back is no longer than what went');
  await until('all packets to be accounted for', async () => unaccounted(await stats()) === 0);

  await routes(1300);
  await until('the new MTU', async () => (await mtus()).every((mtu) => mtu === 1300));
  await forget();
  for (const { chain, to, overhead } of WAYS) t.match(await ping('-c', '2', '-M', 'do', '-s', '1472', to), new RegExp(`mtu ?= ?${1300 - overhead}`), `${chain}: the next sender is told`);
  await routes(null);
  await until('that of the interface', async () => (await mtus()).every((mtu) => mtu === 1500));
  await forget();
  await farLink(1500);
  for (const { chain, to, overhead } of WAYS) t.match(await lab.ping('wl', '-M', 'do', '-s', String(1500 - overhead - 28), to), / 0% packet loss/, `${chain}: the whole MTU can be used`);
  t.equal((await running.stop()).code, 0);
});

for (const port of ['ring', 'pcap'] as const) {
  await t.test(`${port}: nobody but the router knows: a few packets are lost, then senders are told`, async (t) => {
    await forget();
    await farLink(NARROW);
    const running = await weir(port);
    t.teardown(() => running.stop());
    t.strictSame(await mtus(), [1500, 1500]);
    // The pcap port sends IPv4 by a raw socket, for which the kernel learns what the router says: then it is the route that says it.
    const heard = port === 'ring' ? ['four', 'six'] : ['six'];
    for (const [i, { chain, to, overhead }] of WAYS.entries()) {
      await until('traffic', () => answered(to));
      const limit = NARROW - overhead;
      // Of the longest that weir's own interface has room for: the router alone can refuse them.
      if (i === 0) t.match(await ping('-c', '10', '-M', 'do', '-s', String(1500 - overhead - 28), to), new RegExp(`mtu ?= ?${limit}`), `${chain}: ping is told ${limit}`);
      t.ok(await download(to), `${chain}: TCP`);
      await until('the MTU', async () => (await mtus())[i] === NARROW);
      await forget();
      t.match(await lab.ping('wl', '-M', 'do', '-s', String(limit - 28), to), / 0% packet loss/, `${chain}: what fits goes through`);
      t.match(await ping('-c', '2', '-M', 'do', '-s', String(limit - 27), to), new RegExp(`mtu ?= ?${limit}`), `${chain}: of what does not, its sender is told`);
      if (heard.includes(chain)) t.match(running.output(), new RegExp(`instance ${chain}/ids-${chain}: path MTU: a router says ${NARROW}`), 'a line in the log');
    }
    t.strictSame((await lab.ask<{ events: { kind: string; cause: string; instance?: string }[] }>('events')).events.filter(({ cause }) => cause.startsWith('path MTU')).map(({ instance }) => instance).filter((instance) => instance !== 'four/ids-four' || port === 'ring'), heard.map((chain) => `${chain}/ids-${chain}`), 'an event each');
    const { stdout } = await lab.ctl('metrics');
    for (const { chain } of WAYS) t.match(stdout, `weir_instance_mtu_bytes{service="${chain}",name="ids-${chain}"} ${NARROW}\n`);
    await until('all packets to be accounted for', async () => unaccounted(await stats()) === 0);
    t.equal((await running.stop()).code, 0);
  });
}
