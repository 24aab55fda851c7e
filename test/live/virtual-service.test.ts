/**
 * A virtual address in front of three servers: real HTTP through a firewall to the one that the stream's affinity says, which answers by
 * itself, past weir in one test and back through weir's capture in the other.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { virtualMac } from '../../src/config/virtual-services.js';
import { Lab, ROOT, SERVICES, must, until, type ServiceHost } from '../support/lab.js';
import { prove, type PathInfo } from '../support/proof.js';
import { arrivals } from '../support/stamped-capture.js';

const FIREWALLS: readonly ServiceHost[] = ['fw1', 'fw2'];
const SERVERS: readonly ServiceHost[] = ['ids1', 'add1', 'add2'];
/** In the workload's segment, where nobody has them, and routed. */
const ADDRESSES = ['10.1.0.100', '203.0.113.10', 'fd01::100', '2001:db8:1::80'];
const PORTS = [8080, 8085];
const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];

const lab = await Lab.up();
t.teardown(() => lab.down());
const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
const file = join(lab.directory, 'download');
const content = randomBytes(3_000_000);
writeFileSync(file, content);
const url = (address: string, port: number, path: string): string => `http://${address.includes(':') ? `[${address}]` : address}:${port}/${path}`;

/** A veth pair between two hosts of the lab, up. */
async function wire(a: string, deviceA: string, b: string, deviceB: string): Promise<void> {
  await must(['ip', 'link', 'add', deviceA, 'netns', `${lab.prefix}-${a}`, 'type', 'veth', 'peer', 'name', deviceB, 'netns', `${lab.prefix}-${b}`]);
  for (const [host, device] of [[a, deviceA], [b, deviceB]] as const) await lab.must(host, 'ip', 'link', 'set', device, 'up');
}

/**
 * A second network behind the servers: 10.9.1.0/24 with the routers ur (10.9.1.254), which has a way to the workload past weir, and rtr
 * (10.9.1.1), whose way is the captured one.
 */
async function build(): Promise<void> {
  await lab.must('sw', 'ip', 'link', 'add', 'br1', 'type', 'bridge', 'mcast_snooping', '0');
  await lab.must('sw', 'ip', 'link', 'set', 'br1', 'up');
  const join1 = async (host: string, last: number): Promise<void> => {
    await wire(host, 'back1', 'sw', `b${last}`);
    await lab.must('sw', 'ip', 'link', 'set', `b${last}`, 'master', 'br1');
    await lab.must(host, 'ip', 'addr', 'add', `10.9.1.${last}/24`, 'dev', 'back1');
    await lab.must(host, 'ip', 'addr', 'add', `fd09:1::${last}/64`, 'dev', 'back1', 'nodad');
  };
  await join1('ur', 254);
  await join1('rtr', 1);
  await wire('ur', 'back0', 'wl', 'back0');
  for (const [host, last] of [['ur', 254], ['wl', 2]] as const) {
    await lab.must(host, 'ip', 'addr', 'add', `10.9.0.${last}/24`, 'dev', 'back0');
    await lab.must(host, 'ip', 'addr', 'add', `fd09::${last}/64`, 'dev', 'back0', 'nodad');
  }
  await lab.must('ur', 'ip', 'route', 'add', '10.1.0.0/24', 'via', '10.9.0.2');
  await lab.must('ur', 'ip', '-6', 'route', 'add', 'fd01::/64', 'via', 'fd09::2');
  for (const host of ['wl', 'ur', 'rtr', ...SERVERS]) for (const name of ['all', 'default', 'lo']) await lab.must(host, 'sysctl', '-qw', `net.ipv4.conf.${name}.rp_filter=0`);
  for (const [i, host] of SERVERS.entries()) {
    await join1(host, 21 + i);
    for (const address of ADDRESSES) await lab.must(host, 'ip', 'addr', 'add', `${address}/${address.includes(':') ? 128 : 32}`, 'dev', 'lo');
    for (const port of PORTS) await lab.start(host, ['python3', join(ROOT, 'test/support/digest_server.py'), host, String(port), file], /serving/);
  }
  // One of the servers gets its packets out of a veth pair, the others on the loopback.
  await lab.must('add2', 'ip', 'link', 'add', 'vip0', 'type', 'veth', 'peer', 'name', 'vip1');
  for (const device of ['vip0', 'vip1']) {
    await lab.must('add2', 'ip', 'link', 'set', device, 'up');
    await lab.must('add2', 'sysctl', '-qw', `net.ipv4.conf.${device}.rp_filter=0`);
  }
}

async function routeAnswers(via4: string, via6: string): Promise<void> {
  for (const host of SERVERS) {
    await lab.must(host, 'ip', 'route', 'replace', '10.1.0.0/24', 'via', via4);
    await lab.must(host, 'ip', '-6', 'route', 'replace', 'fd01::/64', 'via', via6);
  }
}

function configuration(encapsulation: string): string {
  const instances = (hosts: readonly ServiceHost[]): string => hosts.map((host) => `{name: ${host}, address: ${SERVICES[host].address}}`).join(', ');
  const path = join(lab.directory, `virtual-${encapsulation}.yaml`);
  writeFileSync(
    path,
    `underlay: {interface: und0}
captures: [{name: web, in: in0, out: out0}]
services:
  fw: {instances: [${instances(FIREWALLS)}]}
  slb: {instances: [${instances(SERVERS)}]}
chains:
  vip-web: {services: [fw, slb], deliver: true, virtual_addresses: [10.1.0.100, "fd01::100"]}
policies:
  - {name: vip, match: {protocol: tcp, destination: [${ADDRESSES.map((address) => `"${address}"`).join(', ')}], destination_port: 8080-8089}, chain: vip-web}
  - {name: ping, match: {protocol: [icmp, icmpv6], destination: [10.1.0.100, "fd01::100"]}, chain: vip-web}
encapsulation: ${encapsulation}
control: {socket: ${lab.socket}}
state_dir: ${join(lab.directory, `virtual-state-${encapsulation}`)}
`,
  );
  return path;
}

interface Stats {
  readonly delivered: { readonly packets: number };
  readonly deliveredToInstances: { readonly packets: number };
  readonly neighbourAnswers: number;
  readonly dropped: Readonly<Record<string, number>>;
  readonly crossedBy: Readonly<Record<string, number>>;
}

await build();
for (const host of FIREWALLS) await lab.node(host);
const delivering = await Promise.all(
  SERVERS.map((host) =>
    lab.start(host, [...WEIR, 'node', '--service', 'slb', '--name', host, '--listen', SERVICES[host].address, '--function', 'deliver', ...(host === 'add2' ? ['--to', 'vip0'] : [])], /"msg":"ready"/),
  ),
);

for (const encapsulation of ['nsh', 'geneve']) {
  for (const way of ['past weir', 'back through weir'] as const) {
    await t.test(`${encapsulation}, answers ${way}: HTTP through a firewall to one of three servers with the virtual address`, async (t) => {
      if (way === 'past weir') await routeAnswers('10.9.1.254', 'fd09:1::254');
      else await routeAnswers('10.9.1.1', 'fd09:1::1');
      const weir = await lab.start('fwd', [...WEIR, 'run', '--config', configuration(encapsulation), '--force-config'], /"msg":"ready"/);
      const captures = await Promise.all([...FIREWALLS, ...SERVERS].map(async (host) => ({ host, ...(await lab.capture(host)) })));
      await lab.must('wl', 'ip', 'neigh', 'flush', 'dev', 'eth0'); // so that it asks anew
      const atClient = await lab.capture('wl', way === 'past weir' ? 'back0' : 'eth0', `src host ${ADDRESSES.slice(0, 2).join(' or src host ')}`, 128);
      for (const address of ['10.1.0.100', 'fd01::100']) t.match(await lab.ping('wl', address), / 0% packet loss/, `ping ${address}`);

      for (const address of ADDRESSES) {
        const names = new Map<string, number>();
        for (let i = 0; i < 24 || (names.size < SERVERS.length && i < 80); i++) {
          const { code, stdout, stderr } = await lab.exec('wl', 'curl', '-sS', '--max-time', '20', url(address, PORTS[i % 2] ?? 0, 'who'));
          if (code !== 0) t.fail(`${address}, request ${i}: ${stderr}`);
          names.set(stdout, (names.get(stdout) ?? 0) + 1);
        }
        t.strictSame([...names.keys()].sort(), [...SERVERS].sort(), `${address}: streams are spread over all servers: ${[...names].join(' ')}`);
        const got = join(lab.directory, 'got');
        const down = await lab.exec('wl', 'curl', '-sS', '--max-time', '60', '-o', got, url(address, 8080, 'download'));
        t.equal(down.code, 0, down.stderr);
        t.equal(sha256(readFileSync(got)), sha256(content), `${address}: a download arrives whole`);
        const up = await lab.exec('wl', 'curl', '-sS', '--max-time', '60', '--data-binary', `@${file}`, url(address, 8085, ''));
        t.match(up, { code: 0, stdout: new RegExp(`^\\w+ ${sha256(content)}$`) }, `${address}: an upload arrives whole`);
      }
      t.match((await lab.must('wl', 'ip', 'neigh', 'show', '10.1.0.100')), virtualMac('10.1.0.100'), 'the link address is the one that weir answers with');
      t.match((await lab.must('wl', 'ip', '-6', 'neigh', 'show', 'fd01::100')), virtualMac('fd01::100'));

      const paths = (await lab.ask<{ paths: PathInfo[] }[]>('chains')).flatMap((chain) => chain.paths);
      await lab.connectionsOver('wl', ...SERVERS); // last acknowledgements would be captured, and not counted any more
      const stats = await lab.ask<Stats>('stats');
      t.strictSame(Object.entries(stats.dropped).filter(([, count]) => count > 0), []);
      t.equal(stats.delivered.packets, 0, 'nothing of it leaves by the capture');
      t.ok(stats.neighbourAnswers >= 2);
      if (way === 'past weir') t.equal(stats.crossedBy['delivered_answer'], 0, 'no answer came by weir');
      else t.ok((stats.crossedBy['delivered_answer'] ?? 0) > 100, `${stats.crossedBy['delivered_answer']} answers crossed`);
      t.match((await lab.ctl('chains')).stdout, /vip-web .*fw > slb \(delivers\)/);
      t.match((await lab.ctl('trace', 'tcp', '10.1.0.2:40000', '203.0.113.10:8080')).stdout, /delivers: answers are left to cross/);
      t.equal((await weir.stop()).code, 0);
      const answers = readFileSync(await atClient.stop()).length;
      t.ok(answers > 20_000, `${answers} bytes of capture of answers at the client`);

      const files = await Promise.all(captures.map(async ({ host, stop }) => ({ host, file: await stop() })));
      const seen = files.flatMap(({ host, file: pcap }) => arrivals(pcap, host, SERVICES[host].address));
      const proof = prove(seen, paths, (host) => (FIREWALLS.includes(host as ServiceHost) ? 'fw' : 'slb'));
      t.strictSame(proof.violations.slice(0, 3), []);
      t.strictSame([...proof.orders.keys()], ['fw > slb']);
      t.equal(proof.lost, 0);
      t.equal(proof.packets, stats.deliveredToInstances.packets, 'as many as weir counted');
      t.ok(proof.streams >= ADDRESSES.length * 26, `${proof.streams} streams`);
    });
  }
}

await t.test('the nodes say what they delivered', async (t) => {
  for (const node of delivering) {
    await until('a node that is running', () => node.child.exitCode === null);
    const { code, stdout, stderr } = await node.stop();
    t.equal(code, 0, stderr);
    const stopping = `${stdout}${stderr}`.split('\n').find((line) => line.includes('stopping'));
    const said = JSON.parse(stopping ?? '{}') as { received?: { packets: number }; delivered?: { packets: number }; dropped?: object };
    t.ok((said.delivered?.packets ?? 0) > 500, `${said.delivered?.packets} packets delivered`);
    t.strictSame(said.dropped, {});
  }
});

await t.test('weir node --function deliver: what can not be is said', async (t) => {
  const node = (...more: string[]): ReturnType<Lab['exec']> => lab.exec('add2', ...WEIR, 'node', '--service', 'slb', '--name', 'x', '--listen', SERVICES.add2.address, ...more);
  t.match(await node('--function', 'deliver', '--to', 'nowhere'), { code: 1, stderr: /--to: there is no interface "nowhere"/ });
  t.match(await node('--function', 'deliver', '--to', 'back1'), { code: 2, stderr: /can't tell who is at the other end of "back1"/ });
  t.match(await node('--function', 'deliver', '--to-mac', 'red'), { code: 2, stderr: /expected a MAC address/ });
  t.match(await node('--to', 'lo'), { code: 2, stderr: /go with --function deliver/ });
});
