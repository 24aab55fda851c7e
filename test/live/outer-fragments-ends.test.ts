/**
 * Fragments of outer packets beyond `weir node`'s own functions (outer-fragments.test.ts): what is handed over at the end of a chain, and units of an
 * appliance that pass on to each other what came to them in fragments.
 */
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { reasons, unaccounted, type Accounts } from '../support/accounts.js';
import { ApplianceLab, SERVER, unitAddress } from '../support/appliance-lab.js';
import { Lab, ROOT, must, until } from '../support/lab.js';

const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
const DATAGRAMS = join(ROOT, 'test/support/whole_datagrams.py');
const PORT = '5009';
/** Of what fills an Ethernet frame. */
const PAYLOAD = { 4: '1472', 6: '1452' } as const;

const lab = await Lab.up();
t.teardown(() => lab.down());
const content = randomBytes(200_000);
const sha256 = createHash('sha256').update(content).digest('hex');
const file = join(lab.directory, 'content');
writeFileSync(file, content);

for (const encapsulation of ['nsh', 'geneve'] as const) {
  await t.test(`${encapsulation}: datagrams of full size end at a virtual address behind a firewall's instance`, async (t) => {
    const VIRTUAL = ['203.0.113.10', '2001:db8:1::80'];
    const config = join(lab.directory, `ends-${encapsulation}.yaml`);
    writeFileSync(config, `underlay: {interface: und0, fragment: true}
captures: [{name: web, in: in0, out: out0}]
services:
  fw: {instances: [{name: fw-1, address: 10.20.0.11}]}
  host: {instances: [{name: host-1, address: 10.20.0.21}]}
chains: {ends: {services: [fw, host], deliver: true, encapsulation: ${encapsulation}}}
policies: [{name: virtual, match: {protocol: udp, destination: [${VIRTUAL.map((address) => `"${address}"`).join(', ')}]}, chain: ends}]
flows: {max: 10000}
control: {socket: ${lab.socket}}
state_dir: ${join(lab.directory, `state-${encapsulation}`)}
`);
    const node = (host: string, service: string, name: string, address: string, how: string): ReturnType<Lab['start']> =>
      lab.start(host, [...WEIR, 'node', '--service', service, '--name', name, '--listen', address, '--function', how], /"msg":"ready"/);
    const [weir, ...nodes] = await Promise.all([lab.start('fwd', [...WEIR, 'run', '--config', config], /"msg":"ready"/), node('fw1', 'fw', 'fw-1', '10.20.0.11', 'pass'), node('ids1', 'host', 'host-1', '10.20.0.21', 'deliver')]);
    for (const name of ['all', 'default', 'lo']) await lab.must('ids1', 'sysctl', '-qw', `net.ipv4.conf.${name}.rp_filter=0`);
    for (const address of VIRTUAL) {
      const family = address.includes(':') ? 6 : 4;
      await lab.must('ids1', 'ip', 'address', 'replace', `${address}/${family === 6 ? 128 : 32}`, 'dev', 'lo');
      const taking = await lab.start('ids1', ['python3', '-u', DATAGRAMS, 'take', PORT, address], /ready/);
      const sending = await lab.start('wl', ['python3', '-u', DATAGRAMS, 'send', address, PORT, PAYLOAD[family], file]);
      const heard = await Promise.race([taking.ended, new Promise<null>((resolve) => setTimeout(resolve, 30_000, null).unref())]);
      await sending.stop();
      t.match(heard?.stdout ?? 'not everything came in 30 s', sha256, `${address}: what arrives is what was sent`);
      await taking.stop();
    }
    await until('all packets to be accounted for', async () => unaccounted(await lab.ask<Accounts>('stats')) === 0);
    const said = await lab.ask<Accounts & { readonly fragments: { readonly sent: number } }>('stats');
    t.equal(reasons(said), 'none', 'nothing was dropped');
    // Each came to weir once and left it for either instance.
    t.ok(said.fragments.sent >= 2 * 2 * 2 * 135, `${said.fragments.sent} fragments`);
    for (const end of nodes) {
      const { stdout, stderr } = await end.stop();
      t.match(`${stdout}${stderr}`, /"fragments":\{[^}]*"datagramsReceived":\d{3,}/, 'the node put them together');
    }
    t.equal((await weir.stop()).code, 0);
  });
}

await t.test('units of an appliance pass on what came in fragments to the unit that has the stream', async (t) => {
  const STREAMS = 24;
  const appliance = new ApplianceLab(lab, { units: 4, function: 'meter', layout: { min: 2, max: 4, start: 2, lease: '20s' }, probeMs: 100, underlay: 'fragment: true' });
  const passedOn = async (): Promise<number> => (await appliance.status()).units.reduce((sum, { passed_on }) => sum + passed_on, 0);
  await appliance.start(2);
  const server = await lab.start('sv', ['python3', '-u', DATAGRAMS, 'serve', PORT, file, SERVER], /ready/);
  // Questions of full size, too: after the first packet of a stream that came to another unit a dispatcher knows where it belongs.
  const client = await lab.start('cl', ['python3', '-u', DATAGRAMS, 'fetch', SERVER, PORT, PAYLOAD[4], String(STREAMS)], /sha256/);
  const rounds = (): number => client.output().split('\n').filter((line) => line.includes('sha256')).length;
  const another = async (): Promise<void> => {
    const before = rounds();
    await until('each stream to bring the file again', () => rounds() >= before + 2 * STREAMS, 60_000);
  };
  await another();
  await appliance.startUnits(3, 4);
  await appliance.tool('scale', '4');
  await appliance.settled(4);
  const before = await passedOn();
  // Fragments that units send each other: their outer source is the dispatcher's, but their link address a unit's. At the receivers, since frames
  // that leave past the queues are not seen where they leave.
  const macs = await Promise.all([1, 2, 3, 4].map(async (i) => (await lab.must(`n${i}`, 'cat', '/sys/class/net/eth0/address')).trim()));
  const handedOn = await Promise.all([1, 2].map((i) => lab.longCapture(`n${i}`, 'eth0', `ip[6:2] & 0x3fff != 0 and dst host ${unitAddress(i)} and (${macs.map((mac) => `ether src ${mac}`).join(' or ')})`, 128)));
  await appliance.kill('dispatchers', 3);
  await appliance.startDispatcher(3, '--fresh-flows');
  await another();
  await until('units to say what they passed on', async () => (await passedOn()) > before);
  await another();
  const seen = await Promise.all(handedOn.map(async ({ stop }) => (await must(['tcpdump', '-n', '-r', (await stop()).file])).split('\n').length - 1));
  t.ok(seen.reduce((sum, frames) => sum + frames, 0) > 0, `${seen.join(' and ')} fragments from units to the first two`);
  const said = client.output().split('\n').filter((line) => line.includes('sha256'));
  t.equal(said.filter((line) => !line.includes(sha256)).length, 0, `${said.length} times the file, whole`);
  t.equal(client.child.exitCode, null, 'none waited for ever');

  const served = new Map<string, number[]>();
  for (const i of appliance.units.keys()) for (const stream of await appliance.metered(i)) served.set(stream, [...(served.get(stream) ?? []), i]);
  t.equal(served.size, STREAMS, 'the meters know each stream');
  t.strictSame([...served].filter(([, units]) => units.length !== 1), [], 'each at one unit');
  await Promise.all([client.stop(), server.stop()]);
  await appliance.down();
});
