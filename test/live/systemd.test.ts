/** The unit of examples/systemd as it is, run by a real systemd in the place of the lab's forwarding host. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test as Tap } from 'tap';
import { Lab, ROOT, SERVICES, until, type Finished } from '../support/lab.js';
import { Talkers } from '../support/mesh-lab.js';
import { SystemdHost } from '../support/systemd-host.js';

const CAP_NET_RAW = '0000000000002000';
const EXAMPLES = '/usr/local/lib/weir/examples/systemd';
const unit = readFileSync(join(ROOT, 'examples/systemd/weir.service'), 'utf8');
const WATCHDOG_S = 2;
const [PORT, LINES_PER_S] = [8080, 20];

const lab = await Lab.up();
t.teardown(() => lab.down());
await lab.nodes('pass', ['fw1', 'fw2', 'ids1', 'ids2']);

const host = await SystemdHost.boot(lab, 'fwd');
t.teardown(() => host.down());
const instances = (service: string): string => Object.values(SERVICES).filter((one) => one.service === service).map(({ name, address }) => `{name: ${name}, address: ${address}}`).join(', ');
const CONFIG = `underlay: {interface: und0}
captures: [{name: web, in: in0, out: out0}]
services:
  firewall: {instances: [${instances('firewall')}]}
  ids: {instances: [${instances('ids')}]}
chains: {inspect: [firewall, ids]}
policies: [{name: all, match: {}, chain: inspect}]
flows: {max: 100000}
control: {read_only_group: weir-read}
`;
const mainPid = async (): Promise<number> => Number(await host.show('weir', 'MainPID'));
const state = async (): Promise<string[]> => Promise.all(['ActiveState', 'SubState', 'Result', 'NRestarts'].map((property) => host.show('weir', property)));
const as = (user: string, ...command: string[]): Promise<Finished> => host.run('setpriv', `--reuid=${user}`, `--regid=${user}`, '--init-groups', ...command);
/** Added to the unit, as `systemctl edit` does. */
async function edit(...lines: string[]): Promise<void> {
  await host.write('/etc/systemd/system/weir.service.d/override.conf', `[Service]\n${lines.join('\n')}\n`);
  await host.must('systemctl', 'daemon-reload');
}
await host.must('groupadd', '--system', 'weir-read');
await host.write('/opt/unit/weir.yaml', CONFIG);
const installing = [...unit.matchAll(/^#   (sudo (?!npm).*)$/gm)].map((match) => (match[1] ?? '').replaceAll('sudo ', ''));
await host.must('sh', '-euc', ['cd /opt/unit', `cp ${EXAMPLES}/* .`, ...installing].join('\n'));
await host.must('sh', '-euc', 'for user in alice:weir bob:weir-read carol:carol; do useradd --no-create-home --user-group "${user%:*}"; usermod -aG "${user#*:}" "${user%:*}"; done');

/** One TCP connection that has a line echoed each 50 ms. */
const talkers = await Talkers.start(lab, 1, LINES_PER_S, PORT);
const goesOn = async (t: Tap, lines = LINES_PER_S): Promise<void> => {
  const { reset, wrong } = await talkers.advance(await talkers.state(), lines);
  t.strictSame([reset, wrong], [[], 0], 'the connection goes on');
};

await t.test('installed as its first lines say, it is active once weir is ready, with one capability and in its sandbox', async (t) => {
  t.strictSame(await state(), ['active', 'running', 'success', '0']);
  t.match(await host.show('weir', 'StatusText'), /^generation 1, \d+ streams$/);
  t.equal((await host.must('find', '/proc', '-maxdepth', '1', '-user', 'weir')).trim(), `/proc/${await mainPid()}`, 'one process');
  const status = await host.must('cat', `/proc/${await mainPid()}/status`);
  const line = (name: string): string => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1] ?? '';
  const uid = (await host.must('id', '-u', 'weir')).trim();
  t.strictSame(line('Uid').split(/\s+/), Array(4).fill(uid), 'its user');
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) t.equal(line(set), CAP_NET_RAW, `${set} is CAP_NET_RAW alone`);
  t.strictSame([line('NoNewPrivs'), line('Seccomp')], ['1', '2'], 'no new privileges, and a filter of system calls');
  const writes = async (path: string): Promise<string> => (await host.run('nsenter', '--target', String(await mainPid()), '--mount', '--root', '--wd', 'sh', '-c', `echo >${path}`)).stderr;
  t.match(await writes('/etc/other'), /Read-only file system/, 'where it is even root writes nothing to /etc');
  t.equal(await writes('/var/lib/weir/other'), '', 'but to its state directory');
  t.match((await as('weir', 'touch', '/etc/weir/weir.yaml')).stderr, /Permission denied/, 'its own configuration is not for it to write');
  t.match(await lab.ping('wl', '10.2.0.2'), / 0% packet loss/);
  await goesOn(t);
  t.equal((await host.must('weir', 'services')).match(/ up /g)?.length, 4);
});

await t.test('users of the host: its group may change it, the reading group may ask, others may nothing', async (t) => {
  t.strictSame([(await as('bob', 'weir', 'status')).code, (await as('alice', 'weir', 'status')).code], [0, 0]);
  const change = ['weir', 'chain', 'remove', 'inspect', 'ids', '--dry-run'];
  t.equal((await as('alice', ...change)).code, 0);
  const refused = await as('bob', ...change);
  t.not(refused.code, 0);
  t.match(refused.stderr, /may ask and change nothing/);
  const kept = await as('carol', 'weir', 'status');
  t.not(kept.code, 0);
  t.match(kept.stderr, /may not use this socket/);
});

await t.test('reload applies the file; one that is not good leaves everything as it was', async (t) => {
  const pid = await mainPid();
  await host.write('/etc/weir/weir.yaml', CONFIG.replace('policies: [', 'policies: [{name: telnet, match: {protocol: tcp, destination_port: 23}, action: drop}, '));
  await host.must('systemctl', 'reload', 'weir');
  await until('generation 2', async () => /^generation 2/.test(await host.show('weir', 'StatusText')));
  await host.write('/etc/weir/weir.yaml', 'chains: {');
  await host.must('systemctl', 'reload', 'weir');
  await until('the refusal in the journal', async () => /was not loaded, and nothing changed/.test(await host.journal('weir')));
  await host.write('/etc/weir/weir.yaml', CONFIG);
  await host.must('systemctl', 'reload', 'weir');
  t.equal(await mainPid(), pid);
  await goesOn(t);
});

await t.test('restart: the live stream goes on, on its path', async (t) => {
  const path = async (): Promise<unknown> => (JSON.parse(await host.must('weir', 'flows', '--json', '--port', String(PORT))) as { flows: { path: unknown; instances: unknown }[] }).flows.map(({ path, instances }) => ({ path, instances }));
  const before = await path();
  await host.must('systemctl', 'restart', 'weir');
  t.strictSame(await state(), ['active', 'running', 'success', '0']);
  t.match(await host.journal('weir'), /[1-9]\d* live streams go on/);
  t.strictSame(await path(), before);
  await goesOn(t);
});

await t.test('a weir that stands still is ended by the watchdog and started anew', async (t) => {
  await edit(`WatchdogSec=${WATCHDOG_S}`, 'TimeoutAbortSec=1');
  await host.must('systemctl', 'restart', 'weir');
  const pid = await mainPid();
  await goesOn(t, 2 * WATCHDOG_S * LINES_PER_S);
  t.equal(await mainPid(), pid, 'one that moves lives longer than that');
  await host.must('kill', '-STOP', String(pid));
  await until('another process', async () => (await host.show('weir', 'NRestarts')) === '1' && (await host.show('weir', 'ActiveState')) === 'active');
  t.match(await host.journal('weir'), /[Ww]atchdog timeout/);
  t.not(await mainPid(), pid);
  await goesOn(t);
});

await t.test('a takeover as docs/restart.md has it: the new process is the main one, and the watchdog hears of it', async (t) => {
  const example = /```ini\n\[Service\]\n([^]*?)```/.exec(readFileSync(join(ROOT, 'docs/restart.md'), 'utf8'))?.[1] ?? '';
  await edit(...example.replaceAll('/usr/bin/weir', '/usr/local/bin/weir').split('\n').filter((line) => !/^(ExecStart|Type|WatchdogSec)=/.test(line)).map((line) => line.replace(/^ExecReload=/, 'ExecReload=\nExecReload=')), `WatchdogSec=${WATCHDOG_S}`);
  await host.must('systemctl', 'restart', 'weir');
  const [pid, restarts] = [await mainPid(), await host.show('weir', 'NRestarts')];
  await host.must('systemctl', 'reload', 'weir');
  await until('another main process', async () => ![0, pid].includes(await mainPid()));
  const next = await mainPid();
  t.match(await host.journal('weir'), new RegExp(`handed over to process ${next}`));
  await goesOn(t, 2 * WATCHDOG_S * LINES_PER_S);
  t.strictSame([await mainPid(), await host.show('weir', 'NRestarts'), await host.show('weir', 'ActiveState')], [next, restarts, 'active'], 'twice the watchdog\'s time later');
  await goesOn(t);
});

await t.test('stop: it ends in order, and nothing of it is left running', async (t) => {
  await host.must('systemctl', 'stop', 'weir');
  t.strictSame((await state()).slice(0, 3), ['inactive', 'dead', 'success']);
  t.equal(await host.must('find', '/proc', '-maxdepth', '1', '-user', 'weir'), '');
});
