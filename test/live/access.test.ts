/** The control socket by user: groups, modes, limits, as the kernel sees who connects. */
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ControlClient } from '../../src/control/client.js';
import { Lab, ROOT, until } from '../support/lab.js';

const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
const lab = await Lab.up();
t.teardown(() => lab.down());
// Of nobody on this host; numbers, so that no group has to be made.
const [USER, OWN_GROUP, READERS] = [64_321, 64_322, 64_323];
const KEY = '8f1d0c2b3a495867768594a3b2c1d0ef';
const LOAD_KEY = 'c0ffee00112233445566778899aabbcc';

/** A program that connects, sends lines and prints what comes, until all is answered or it is cut off. */
const CLIENT = `
import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(30); s.connect(sys.argv[1])
lines = open(sys.argv[2]).read()
try:
    s.sendall(lines.encode())
except BrokenPipeError:
    pass
got = b''
while got.count(b'\\n') < lines.count('\\n'):
    d = s.recv(65536)
    if not d: break
    got += d
sys.stdout.write(got.decode())
`;
/** What a program begins with: from then on it is that user. The interpreter itself may be where only root gets at it. */
const as = (groups: readonly number[]): string => `import os, socket, sys, time, codecs, encodings.idna\nos.setgroups([${groups.join(',')}]); os.setgid(${OWN_GROUP}); os.setuid(${USER})\n`;
interface Answer {
  readonly id: number | null;
  readonly result?: unknown;
  readonly error?: { readonly code: number; readonly message: string };
}
const ask = (groups: readonly number[], ...methods: (readonly [string, object?])[]): Promise<Answer[]> =>
  send(groups, methods.map(([method, params], id) => `${JSON.stringify({ jsonrpc: '2.0', id, method, ...(params === undefined ? {} : { params }) })}\n`).join(''));
async function send<T = Answer>(groups: readonly number[], input: string): Promise<T[]> {
  const file = join(lab.directory, 'requests');
  writeFileSync(file, input);
  const child = await lab.start('fwd', ['python3', '-c', as(groups) + CLIENT, lab.socket, file]);
  const { stdout, stderr, code } = await child.ended;
  if (code !== 0) throw new Error(`the client: ${stderr}`);
  return stdout.trim().split('\n').map((line) => JSON.parse(line) as T);
}

writeFileSync(join(lab.directory, 'affinity.key'), KEY);
writeFileSync(join(lab.directory, 'load.key'), LOAD_KEY);
// The lab's directory is for its owner alone. Others get as far as the unit of examples/ lets them, so a mode there that keeps readers out fails here.
const runtimeMode = /^RuntimeDirectoryMode=(.*)$/m.exec(readFileSync(join(ROOT, 'examples/systemd/weir.service'), 'utf8'))?.[1] ?? '';
await lab.must('fwd', 'chmod', runtimeMode, lab.directory);
const control = (more: string): string => `control: {socket: ${lab.socket}${more}}`;
const secrets = `affinity_key: {file: ${lab.directory}/affinity.key}\nload: {key: {file: ${lab.directory}/load.key}}\nlog: {level: trace}`;

await t.test('a read-only group: its members may ask, others may nothing, and weir itself may all', async (t) => {
  const config = lab.config({ extra: secrets });
  writeFileSync(config, readFileSync(config, 'utf8').replace(`control: {socket: ${lab.socket}}`, control(`, mode: "0600", read_only_group: "${READERS}"`)));
  const weir = await lab.start('fwd', [...WEIR, 'run', '--config', config, '--fresh-flows'], /"msg":"ready"/);
  t.teardown(() => weir.stop());
  const before = await lab.ask<{ generation: number }>('status');

  const [status, flows, change, facts, end, patch] = await ask([READERS], ['status'], ['flows', {}], ['instance.set', { service: 'firewall', instance: 'fw-1', state: 'down' }], ['explain.facts'], ['shutdown'], ['config.patch', { patch: { default: 'drop' }, dry_run: true }]);
  t.match(status, { result: { generation: before.generation } });
  t.match(flows, { result: { flows: [] } });
  for (const refused of [change, facts, end, patch]) t.match(refused, { error: { code: -32003, message: /may ask and change nothing/ } });
  t.match(await ask([], ['status']), [{ id: null, error: { code: -32003, message: /may not use this socket/ } }], 'who is in no group of ours');
  await until('the refusal to be logged', () => /a control connection was refused: uid 64321/.test(weir.output()));
  // Our own client says so too, though weir hangs up while it is about to ask.
  const turnedAway = new Set<string>();
  for (let i = 0; i < 100; i++) {
    process.seteuid?.(USER);
    const client = await ControlClient.connect(lab.socket).finally(() => process.seteuid?.(0));
    if (i % 2 === 1) await client.closed; // it may have hung up before
    turnedAway.add(await client.call('status').then(() => 'it is let in', (error: unknown) => (error as Error).message.replace(/pid \d+/, 'pid N')));
  }
  t.strictSame([...turnedAway], [`uid ${USER}, pid N may not use this socket: ask for access (its group, or control.read_only_group), or use sudo`]);
  t.equal((await lab.ask<{ generation: number }>('status')).generation, before.generation, 'nothing was changed');

  // Limits: a request of a reader is short, and answers beyond the pace wait.
  t.match(await ask([READERS], ['trace', { protocol: 'tcp', source: '10.1.0.2', destination: '10.2.0.2', frame: '00'.repeat(200_000) }]), [{ error: { code: -32001, message: /at most 262144 bytes/ } }]);
  t.equal((await ask([READERS], ...Array.from({ length: 600 }, () => ['steer.list'] as const))).filter(({ result }) => result !== undefined).length, 600, 'nothing is refused for coming fast');

  // What is secret is nowhere to be seen.
  const asked = await Promise.all([lab.ctl('config'), lab.ctl('ctl', 'config.get'), lab.ctl('status', '--json'), lab.ctl('stats', '--json'), lab.ctl('ctl', 'events'), lab.ctl('metrics')]);
  const arguments_ = readFileSync(`/proc/${weir.child.pid}/cmdline`, 'latin1') + readdirSync(`/proc/${weir.child.pid}/task`).map((task) => readFileSync(`/proc/${weir.child.pid}/task/${task}/comm`, 'latin1')).join('');
  for (const key of [KEY, LOAD_KEY]) {
    const forms = [key, key.toUpperCase(), Buffer.from(key, 'hex').toString('base64'), Buffer.from(key, 'hex').toString('base64url'), [...Buffer.from(key, 'hex')].join(',')];
    for (const form of forms) {
      t.notOk(asked.some(({ stdout, stderr }) => (stdout + stderr).includes(form)), 'in no answer');
      t.notOk(weir.output().includes(form), 'in no line of the log');
      t.notOk(arguments_.includes(form), 'in no argument');
    }
  }
  t.ok(asked.every(({ code, stdout }) => code === 0 && stdout.length > 10));
  for (const file of readdirSync(join(lab.directory, 'state'))) t.equal(statSync(join(lab.directory, 'state', file)).mode & 0o077, 0, `${file} is for weir alone`);

  // Where they can't enter its directory they get nothing, and weir says why.
  await lab.must('fwd', 'chmod', '750', lab.directory);
  await t.rejects(ask([READERS], ['status']), /PermissionError/);
  t.match((await lab.ctl('doctor')).stdout, new RegExp(`^warn {2}control socket: members of ${READERS} .*can't enter ${lab.directory}.*\\n +fix: sudo chmod o\\+x ${lab.directory}`, 'm'));
  await lab.must('fwd', 'chmod', runtimeMode, lab.directory);
  t.match(await ask([READERS], ['status']), [{ result: {} }]);
  await weir.stop();
});

await t.test('without one the mode decides, before anybody is asked', async (t) => {
  const weir = await lab.weir();
  t.teardown(() => weir.stop());
  t.equal(statSync(lab.socket).mode & 0o777, 0o660);
  await t.rejects(ask([READERS], ['status']), /PermissionError/);
  t.match(await ask([0], ['status']), [{ result: {} }], "who is in weir's group");
  await weir.stop();
});

await t.test('one user can not take all connections', async (t) => {
  const config = lab.config();
  writeFileSync(config, readFileSync(config, 'utf8').replace(`control: {socket: ${lab.socket}}`, control(`, read_only_group: "${READERS}"`)));
  const weir = await lab.start('fwd', [...WEIR, 'run', '--config', config, '--fresh-flows'], /"msg":"ready"/);
  t.teardown(() => weir.stop());
  const hoard = `import socket,sys\nheld=[]\nrefused=0\nfor i in range(300):\n s=socket.socket(socket.AF_UNIX); s.settimeout(30)\n try:\n  s.connect(sys.argv[1]); s.sendall(b'{"jsonrpc":"2.0","id":1,"method":"status"}\\n'); d=s.recv(100000)\n except OSError: d=b''\n ok=b'"result"' in d\n refused+=not ok\n if ok: held.append(s)\nprint('held',len(held),'refused',refused,flush=True)\nheld[0].settimeout(None)\nheld[0].recv(1)`;
  const hoarder = await lab.start('fwd', ['python3', '-c', as([READERS]) + hoard, lab.socket], /held/);
  t.match(hoarder.output(), /held 64 refused 236/);
  await until('the refusals to be logged', () => /a control connection was refused: .* has 64 connections/.test(weir.output()));
  t.ok(weir.output().split('\n').filter((line) => /was refused/.test(line)).length < 100, 'nor fill the log');
  t.equal((await lab.ctl('status')).code, 0, 'others are served');
  await hoarder.stop('SIGKILL');
  await weir.stop();
});

await t.test('nor can a reader end weir, or keep it from others, by what it asks for at once', async (t) => {
  const policies = Array.from({ length: 5000 }, (_, i) => `{name: tenant-${i}, match: {protocol: tcp, source: 10.${i >> 8}.${i & 255}.0/24, destination_port: [80, 443, 8000-8100]}, chain: inspect}`);
  const config = lab.config({ policies: `policies: [${policies.join(', ')}]` });
  writeFileSync(config, readFileSync(config, 'utf8').replace(`control: {socket: ${lab.socket}}`, control(`, read_only_group: "${READERS}"`)));
  const weir = await lab.start('fwd', [...WEIR, 'run', '--config', config, '--fresh-flows'], /"msg":"ready"/);
  t.teardown(() => weir.stop());
  const batch = (length: number): string => `${JSON.stringify(Array.from({ length }, (_, id) => ({ jsonrpc: '2.0', id, method: 'config.get' })))}\n`;
  const asked = send<Answer | Answer[]>([READERS], batch(1300) + batch(100).repeat(3));
  t.equal((await lab.ctl('status')).code, 0, 'others are served meanwhile');
  const [refused, ...answers] = await asked;
  t.match(refused, { error: { code: -32600, message: /at most 100 requests/ } });
  t.strictSame(answers.map((batch) => (batch as Answer[]).length), [100, 100, 100]);
  t.equal((await lab.ctl('status')).code, 0);
  t.equal((await weir.stop()).code, 0, 'it goes on until it is told to end');
});
