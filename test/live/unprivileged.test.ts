/** All of weir as an unprivileged user with CAP_NET_RAW and nothing else: dataplane, nodes, capture, control socket. */
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, chownSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test as Tap } from 'tap';
import { Lab, ROOT, SERVICES, run, type Running, type ServiceHost } from '../support/lab.js';
import { arrivals } from '../support/stamped-capture.js';
import { STRANGER, UID, withNetRaw, withNothing } from '../support/unprivileged.js';

const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
const CAP_NET_RAW = '0000000000002000';

const lab = await Lab.up();
t.teardown(() => lab.down());
chownSync(lab.directory, UID, UID); // its state directory and control socket stand there
chmodSync(lab.directory, 0o755);
const content = randomBytes(12_000_000);
writeFileSync(join(lab.directory, 'download'), content);
await lab.start('net', ['python3', '-u', '-m', 'http.server', '8080', '--bind', '::', '--directory', lab.directory], /Serving HTTP/);
const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

/** What the kernel says of the process that was started, through setpriv, in the place of that one. */
function isConfined(t: Tap, { child }: Running, what: string): void {
  const status = readFileSync(`/proc/${child.pid ?? 0}/status`, 'utf8');
  const line = (name: string): string => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1] ?? '';
  t.strictSame(line('Uid').split(/\s+/), Array(4).fill(String(UID)), `${what}: user`);
  t.equal(line('Groups').trim(), '', `${what}: no groups`);
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) t.equal(line(set), CAP_NET_RAW, `${what}: ${set} is CAP_NET_RAW alone`);
  t.equal(line('NoNewPrivs'), '1');
}

const start = (firewall: string): Promise<Running[]> =>
  Promise.all(
    (['fw1', 'fw2', 'ids1', 'ids2'] as ServiceHost[]).map((host) => {
      const { service, name, address } = SERVICES[host];
      return lab.start(host, [...withNetRaw(), ...WEIR, 'node', '--service', service, '--name', name, '--listen', address, '--function', host.startsWith('fw') ? firewall : 'pass'], /"msg":"ready"/);
    }),
  );
let nodes: Running[] = [];

for (const [port, firewall] of [['ring', 'mark'], ['pcap', 'pass']] as const) {
  await t.test(`a download through two services, ${port} port, functions in ${firewall === 'mark' ? 'JavaScript' : 'native code'}`, async (t) => {
    for (const node of nodes) t.equal((await node.stop()).code, 0);
    nodes = await start(firewall);
    nodes.forEach((node, i) => isConfined(t, node, `node ${i}`));
    const weir = await lab.weir({ port, prefix: withNetRaw(), extra: 'workers: 2' });
    isConfined(t, weir, 'weir');
    const captures = await Promise.all((['fw1', 'fw2'] as const).map(async (host) => ({ host, ...(await lab.capture(host)) })));
    t.match(await lab.ping('wl', '10.2.0.2'), / 0% packet loss/);
    const got = join(lab.directory, 'got');
    for (const server of ['10.2.0.2', '[fd02::2]']) {
      const curl = await lab.exec('wl', 'curl', '-sS', '--max-time', '60', '-o', got, `http://${server}:8080/download`);
      t.equal(curl.code, 0, curl.stderr);
      t.equal(sha256(readFileSync(got)), sha256(content), `${server}: it arrived whole`);
    }
    const seen = (await Promise.all(captures.map(async ({ host, stop }) => arrivals(await stop(), host, SERVICES[host].address)))).flat();
    t.ok(seen.length > 1000, `${seen.length} stamped packets arrived at firewalls`);
    const { ports } = await lab.ask<{ ports: { interface: string; txErrors: number; cuts: boolean }[] }>('stats');
    t.ok(ports.every(({ txErrors, cuts }) => txErrors === 0 && !cuts), 'nothing is refused, and super-frames go whole');

    const mode = statSync(lab.socket);
    t.strictSame([mode.uid, mode.gid, (mode.mode & 0o777).toString(8)], [UID, UID, '660'], 'the control socket is its own');
    const { code, stderr } = await weir.stop();
    t.equal(code, 0, stderr);
    const warnings = stderr.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as { level: number; msg: string }).filter(({ level }) => level >= 40);
    t.strictSame(warnings.map(({ msg }) => msg), [], 'nothing to warn of');
  });
}

await t.test('who may use the control socket', async (t) => {
  const weir = await lab.weir({ prefix: withNetRaw() });
  const words = [...WEIR, 'instance', 'drain', 'firewall/fw-2', '--json', '--socket', lab.socket];
  const own = await run([...withNothing(), ...words]);
  t.equal(own.code, 0, own.stderr);
  t.match((JSON.parse(own.stdout) as { who: string }).who, new RegExp(`^uid ${UID}, pid [0-9]+$`), 'its own user, without any capability');
  const member = await run([...withNothing(STRANGER, UID), ...WEIR, 'status', '--socket', lab.socket]);
  t.equal(member.code, 0, 'a member of the group');
  const stranger = await run([...withNothing(STRANGER, STRANGER), ...WEIR, 'status', '--socket', lab.socket]);
  t.equal(stranger.code, 1);
  t.match(stranger.stderr, /does not admit you/, 'nobody else');
  const tail = weir.output();
  t.match(tail, new RegExp(`is now draining \\(uid ${UID}, pid [0-9]+\\)`), 'the log says who');
  await weir.stop();
});

await t.test('weir capture, too', async (t) => {
  const weir = await lab.weir({ prefix: withNetRaw() });
  const file = join(lab.directory, 'capture.pcap');
  const words = [...WEIR, 'capture', '--instance', 'firewall', '--write', file, '--socket', lab.socket];
  const refused = await lab.exec('fwd', ...withNothing(), ...words);
  t.equal(refused.code, 1);
  t.match(refused.stderr, /CAP_NET_RAW is missing/);
  const capture = await lab.start('fwd', [...withNetRaw(), ...words], /capturing firewall\/fw-1/);
  isConfined(t, capture, 'capture');
  t.match(await lab.ping('wl', '-c', '10', '10.2.0.2'), / 0% packet loss/);
  const { code, stderr } = await capture.stop('SIGINT');
  t.equal(code, 0, stderr);
  t.match(stderr, /^40 packets written .* 0 dropped by the kernel$/m, 'ten requests and ten answers, each to a firewall and back');
  await weir.stop();
});

await t.test('without CAP_NET_RAW it says what is missing', async (t) => {
  const { code, stderr } = await lab.exec('fwd', ...withNothing(), ...WEIR, 'run', '--config', lab.config());
  t.equal(code, 1);
  t.match(stderr, /CAP_NET_RAW is missing.*AmbientCapabilities=CAP_NET_RAW/);
  const doctor = await lab.exec('fwd', ...withNothing(), ...WEIR, 'doctor', '--config', lab.config());
  t.equal(doctor.code, 1);
  t.match(doctor.stdout, /FAIL {2}privileges: CAP_NET_RAW is missing/);
  const fine = await lab.exec('fwd', ...withNetRaw(), ...WEIR, 'doctor', '--config', lab.config());
  t.equal(fine.code, 0, fine.stdout);
  t.match(fine.stdout, /^ok {4}privileges: CAP_NET_RAW is there$/m);
});

await t.test('a node stops as cleanly', async (t) => {
  for (const node of nodes) t.equal((await node.stop()).code, 0);
});
