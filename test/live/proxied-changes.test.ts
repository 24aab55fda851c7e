/** What changes under instances that are attached: a cable is pulled, an interface made anew, a link narrowed, a router gets another MAC; and a bump that answers itself. */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Box } from '../support/boxes.js';
import { Lab, ROOT, until, type Running } from '../support/lab.js';

const lab = await Lab.up();
t.teardown(() => lab.down());
const content = randomBytes(10_000_000);
writeFileSync(join(lab.directory, 'download'), content);
await lab.start('net', ['python3', '-u', '-m', 'http.server', '8080', '--directory', lab.directory], /Serving HTTP/);

/** A bridging box between p0 and p1 of the forwarder, which counts, and lets no connection to port 8082 through. */
async function bump(name: string, p0: string, p1: string): Promise<Box> {
  const box = await Box.add(lab, name);
  await box.wire(p0, 'b0');
  await box.wire(p1, 'b1');
  await box.bridge('b0', 'b1');
  await box.nft(`
table bridge f {
  counter seen {}
  counter refused {}
  chain c {
    type filter hook forward priority 0;
    counter name seen
    tcp dport 8082 counter name refused drop
  }
}`);
  return box;
}
const CONNECTIONS = join(ROOT, 'test/support/held_connections.py');
await lab.start('net', ['python3', CONNECTIONS, 'serve', '7000'], /ready/);
const HELD = 20;
const one = await bump('ips1', 'p0', 'p1');
const two = await bump('ips2', 'p2', 'p3');
const router = await Box.add(lab, 'rfw');
await router.router(1, 'r0');

let count = 0;
async function weir(chain: readonly string[]): Promise<Running> {
  const file = join(lab.directory, `changes-${count++}.yaml`);
  const services = ['ips: {instances: [{name: ips-1, attach: {in: p0, out: p1}}, {name: ips-2, attach: {in: p2, out: p3}}]}', 'rfw: {instances: [{name: rfw-1, attach: {via: 10.9.1.2}}]}'];
  writeFileSync(file, `underlay: {interface: und0}\ncaptures: [{name: web, in: in0, out: out0}]\nservices:\n  ${services.join('\n  ')}\nchains: {inspect: [${chain.join(', ')}]}\npolicies: [{name: all, match: {}, chain: inspect}]\nstate_dir: ${lab.directory}/state-${count}\n`);
  const running = await lab.start('fwd', [process.execPath, join(ROOT, 'dist/cli/main.js'), 'run', '--config', file, '--socket', lab.socket], /"msg":"ready"/);
  t.teardown(() => running.stop());
  return running;
}

const pings = (): Promise<string[]> => Promise.all(Array.from({ length: 8 }, () => lab.ping('wl', '-c', '1', '-W', '1', '10.2.0.2')));
const works = (what: string): Promise<unknown> => until(what, async () => (await pings()).every((said) => / 0% packet loss/.test(said)), 30_000);
const seenBy = async (box: Box): Promise<number> => (await box.counted())['seen'] ?? 0;
const usable = async (name: string): Promise<boolean | undefined> => (await lab.ask<{ instances: { name: string; reachable: boolean }[] }[]>('services')).flatMap(({ instances }) => instances).find((instance) => instance.name === name)?.reachable;

/** New streams go through both boxes. */
async function shared(what: string): Promise<void> {
  const before = [await seenBy(one), await seenBy(two)];
  await until(what, async () => (await pings()).every((said) => / 0% packet loss/.test(said)) && (await seenBy(one)) > (before[0] ?? 0) && (await seenBy(two)) > (before[1] ?? 0), 30_000);
}

/** All that there is goes through `box`, and arrives. */
async function alone(t: Test, box: Box, other: Box, what: string): Promise<void> {
  await works(what);
  const before = [await seenBy(box), await seenBy(other)];
  await works(what);
  t.ok((await seenBy(box)) > (before[0] ?? 0), `${what}: through ${box.name}`);
  t.equal(await seenBy(other), before[1], `${what}: not through ${other.name}`);
}

await t.test('a bump whose cable is pulled, or whose interface is made anew: its streams go to the other one, and it comes back', async (t) => {
  const running = await weir(['ips']);
  await shared('both boxes');
  const [command = '', ...words] = lab.inside('wl', ['python3', CONNECTIONS, 'hold', '10.2.0.2', '7000', String(HELD)]);
  const held = spawn(command, words, { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => held.kill('SIGKILL'));
  let said = '';
  held.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await until('the connections', () => said.includes(`open ${HELD}`));
  let asked = 0;
  const goOn = async (what: string): Promise<void> => {
    asked++;
    held.stdin.write(`${what}\n`);
    await until(`connections ${what}`, () => said.split('answered').length > asked, 60_000);
    t.equal(/answered (\d+)\n$/.exec(said)?.[1], String(HELD), `all connections go on ${what}`);
  };
  for (const [box, other, name, device] of [[one, two, 'ips-1', 'b1'], [two, one, 'ips-2', 'b0']] as const) {
    await box.must('ip', 'link', 'set', device, 'down');
    await until(`${name} to be out of use`, async () => (await usable(name)) === false);
    await alone(t, other, box, `${name} without carrier`);
    await goOn(`without ${name}`);
    await box.must('ip', 'link', 'set', device, 'up');
    await until(`${name} to be back`, async () => (await usable(name)) === true);
    await shared(`both boxes after ${name} came back`);
  }

  await lab.must('fwd', 'ip', 'link', 'del', 'p0');
  await until('ips-1 to be out of use', async () => (await usable('ips-1')) === false);
  await alone(t, two, one, 'ips-1 without an interface');
  await one.wire('p0', 'b0');
  await one.must('ip', 'link', 'set', 'b0', 'master', 'br0');
  await until('ips-1 to be back', async () => (await usable('ips-1')) === true);
  await shared('both boxes with a new interface');
  await goOn('after all that');
  t.equal((await running.stop()).code, 0);
});

await t.test('a bump on a narrower link: senders are told what it carries, as soon as it does', async (t) => {
  const running = await weir(['ips']);
  await shared('both boxes');
  const full = (): Promise<string> => lab.ping('wl', '-s', '1472', '-M', 'do', '-c', '1', '-W', '1', '10.2.0.2');
  t.match(await lab.ping('wl', '-s', '1472', '-M', 'do', '10.2.0.2'), / 0% packet loss/);
  for (const device of ['p0', 'p1', 'p2', 'p3']) await lab.must('fwd', 'ip', 'link', 'set', device, 'mtu', '1400');
  for (const box of [one, two]) for (const device of ['b0', 'b1']) await box.must('ip', 'link', 'set', device, 'mtu', '1400');
  await until('senders to be told', async () => /mtu ?= ?1400/.test(await full()));
  const got = join(lab.directory, 'got');
  t.equal((await lab.exec('wl', 'curl', '-sS', '--max-time', '60', '-o', got, 'http://10.2.0.2:8080/download')).code, 0);
  t.equal(createHash('sha256').update(readFileSync(got)).digest('hex'), createHash('sha256').update(content).digest('hex'), 'byte for byte');
  for (const device of ['p0', 'p1', 'p2', 'p3']) await lab.must('fwd', 'ip', 'link', 'set', device, 'mtu', '1500');
  for (const box of [one, two]) for (const device of ['b0', 'b1']) await box.must('ip', 'link', 'set', device, 'mtu', '1500');
  await until('full packets to go through again', async () => {
    await lab.must('wl', 'ip', 'route', 'flush', 'cache'); // it was told, and remembers for ten minutes
    return / 0% packet loss/.test(await full());
  });
  t.equal((await running.stop()).code, 0);
});

await t.test('a bump that refuses a connection by itself: its reset arrives, and nothing of the connection elsewhere', async (t) => {
  const running = await weir(['ips']);
  for (const box of [one, two]) await box.start(['python3', join(ROOT, 'test/support/resetting_bump.py'), 'b0', '8082'], /ready/);
  await works('traffic');
  const beyond = await lab.capture('net', 'eth0', 'tcp port 8082');
  for (let i = 0; i < 4; i++) t.equal((await lab.exec('wl', 'curl', '-sS', '--max-time', '4', 'http://10.2.0.2:8082/')).code, 7, 'connection refused at once');
  t.equal(readFileSync(await beyond.stop()).length, 24, 'the server saw nothing');
  t.ok(((await one.counted())['refused'] ?? 0) + ((await two.counted())['refused'] ?? 0) >= 4);
  t.equal((await running.stop()).code, 0);
});

await t.test('a router that gets another MAC address, and says so', async (t) => {
  const running = await weir(['rfw']);
  await works('traffic');
  const before = await lab.must('fwd', 'ip', 'neigh', 'show', '10.9.1.2');
  // The kernel says so itself where arp_notify is set.
  await router.must('sysctl', '-qw', 'net.ipv4.conf.eth0.arp_notify=1');
  await lab.must('fwd', 'sysctl', '-qw', 'net.ipv4.conf.r0.arp_accept=1');
  await router.must('ip', 'link', 'set', 'eth0', 'address', '02:00:00:00:99:99');
  await works('traffic by the new address');
  t.notMatch(before, '02:00:00:00:99:99');
  t.match(await lab.must('fwd', 'ip', 'neigh', 'show', '10.9.1.2'), '02:00:00:00:99:99');
  t.equal((await running.stop()).code, 0);
});
