/** `weir run` under a service manager: ready, watchdog, reload, metrics. */
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Lab, ROOT, must, until, type Running } from '../support/lab.js';

const lab = await Lab.up();
t.teardown(() => lab.down());
await lab.nodes('pass', ['fw1', 'fw2', 'ids1', 'ids2']);
const hang = join(lab.directory, 'hang');
const shim = join(lab.directory, 'hang-sending.so');
await must(['cc', '-shared', '-fPIC', '-O1', '-o', shim, join(ROOT, 'test/support/hang-sending.c')]);
const notify = join(lab.directory, 'notify');
const manager = await lab.start('fwd', ['python3', join(ROOT, 'test/support/service-manager.py'), notify], /ready/);
const heard = (): { pid: number; text: string }[] =>
  manager
    .output()
    .split('\n')
    .filter((line) => line.startsWith('['))
    .map((line) => JSON.parse(line) as [number, string])
    .map(([pid, text]) => ({ pid, text }));
const heardAfter = (from: number, pattern: RegExp): boolean => heard().slice(from).some(({ text }) => pattern.test(text));

const weir = await lab.weir({ prefix: ['env', `NOTIFY_SOCKET=${notify}`, 'WATCHDOG_USEC=900000', `LD_PRELOAD=${shim}`, `WEIR_HANG=${hang}`], extra: 'workers: 2\nmetrics: {listen: 127.0.0.1:9477}' });
const config = lab.config({ extra: 'workers: 2\nmetrics: {listen: 127.0.0.1:9477}' });

await t.test('it says when it is ready, and goes on saying that it lives', async (t) => {
  await until('READY', () => heardAfter(0, /^READY=1\nMAINPID=[0-9]+\nSTATUS=generation 1, /));
  t.ok(heard().every(({ pid }) => pid === weir.child.pid), 'from the process that the manager started');
  const before = heard().length;
  await until('three more', () => heard().slice(before).filter(({ text }) => text.startsWith('WATCHDOG=1\n')).length >= 3);
});

await t.test('a worker that hangs in the kernel stops that, though JavaScript goes on', async (t) => {
  t.match(await lab.ping('wl', '10.2.0.2'), / 0% packet loss/);
  writeFileSync(hang, '');
  await lab.exec('wl', 'ping', '-c', '1', '-W', '1', '10.2.0.2');
  await until('weir to notice', () => /worker [01]( and [01])? does not move/.test(weir.output()));
  const silentFrom = heard().filter(({ text }) => text.startsWith('WATCHDOG')).length;
  const generations: number[] = [];
  for (let i = 0; i < 4; i++) generations.push((await lab.ask<{ generation: number }>('status')).generation); // takes longer than the watchdog's time
  t.equal(generations.length, 4, 'the control socket still answers');
  t.equal(heard().filter(({ text }) => text.startsWith('WATCHDOG')).length, silentFrom, 'and no ping left meanwhile');
  rmSync(hang);
  await until('pings again', () => heard().filter(({ text }) => text.startsWith('WATCHDOG')).length > silentFrom + 1);
  t.match(weir.output(), /every worker moves again/);
  t.match(await lab.ping('wl', '10.2.0.2'), / 0% packet loss/, 'and traffic goes on');
});

await t.test('SIGHUP applies the file; one that is not good changes nothing', async (t) => {
  const policies = async (): Promise<string[]> => (await lab.ask<{ document: { policies: { name: string }[] } }>('config.get')).document.policies.map(({ name }) => name);
  const hup = async (text: string): Promise<{ said: string[] }> => {
    const from = heard().length;
    writeFileSync(config, text);
    weir.child.kill('SIGHUP');
    await until('it to have reloaded', () => heardAfter(from, /^READY=1/));
    return { said: heard().slice(from).map(({ text: message }) => message).filter((message) => !message.startsWith('WATCHDOG')) };
  };
  const text = readFileSync(config, 'utf8');
  const good = await hup(text.replace('policies: [', 'policies: [{name: telnet, match: {protocol: tcp, destination_port: 23}, action: drop}, '));
  t.match(good.said[0], /^RELOADING=1\nMONOTONIC_USEC=[0-9]+$/);
  t.match(good.said[1], /^READY=1\nMAINPID=[0-9]+\nSTATUS=generation 2: /);
  t.strictSame(await policies(), ['telnet', 'all']);
  t.match(weir.output(), /"who":"SIGHUP"/);
  const bad = await hup(text.replace('chain: inspect', 'chain: nope'));
  t.match(bad.said[1], /was not loaded/);
  t.match(weir.output(), /was not loaded, and nothing changed: .*there is no chain .*nope/);
  t.strictSame(await policies(), ['telnet', 'all']);
  const fixed = await hup(text.replace('workers: 2', 'workers: 1'));
  t.match(fixed.said[1], /was not loaded/, 'what needs a restart is refused');
  writeFileSync(config, text);
  t.match(await lab.ping('wl', '10.2.0.2'), / 0% packet loss/);
  t.equal(weir.child.exitCode, null);
});

await t.test('metrics on the loopback of its host, with what workers measure', async (t) => {
  await lab.exec('wl', 'ping', '-c', '20', '-i', '0.1', '10.2.0.2'); // one by one: batches are counted
  const scrape = async (): Promise<string> => lab.must('fwd', 'curl', '-sS', '--fail', 'http://127.0.0.1:9477/metrics');
  const text = await scrape();
  const checked = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
  t.strictSame([checked.status, checked.stdout + checked.stderr], [0, '']);
  const value = (pattern: RegExp): number => [...text.matchAll(pattern)].reduce((sum, match) => sum + Number(match[1]), 0);
  const { captured } = await lab.ask<{ captured: { packets: number } }>('stats');
  t.ok(captured.packets >= value(/^weir_pipeline_packets_total\{stage="captured"\} (\d+)$/gm) && captured.packets > 40);
  t.ok(value(/^weir_transit_seconds_count (\d+)$/gm) > 40, 'every batch is timed');
  t.ok(value(/^weir_pipeline_group_seconds_count (\d+)$/gm) > 2, 'every 16th group is');
  t.equal(value(/^weir_transit_seconds_bucket\{le="\+Inf"\} (\d+)$/gm), value(/^weir_transit_seconds_count (\d+)$/gm));
  t.equal(value(/^weir_transit_seconds_bucket\{le="2\.56e-7"\} (\d+)$/gm), 0, 'none takes no time');
  const second = value(/^weir_transit_seconds_bucket\{le="0\.536870912"\} (\d+)$/gm) / value(/^weir_transit_seconds_count (\d+)$/gm);
  t.ok(second > 0.8 && second < 1, `${second} of the batches took less than half a second: not those of the worker that hung`);
  const workers = [...text.matchAll(/^weir_worker_received_packets_total\{worker="(\d)"\} (\d+)$/gm)];
  t.equal(workers.length, 2);
  const all = value(/^weir_pipeline_packets_total\{stage="(?:captured|returned)"\} (\d+)$/gm);
  t.equal(workers.reduce((sum, match) => sum + Number(match[2]), 0), all, 'workers add up');
  t.ok(value(/^weir_worker_cpu_seconds_total\{worker="\d"\} ([0-9.e-]+)$/gm) > 0);
  const hops = [1, 2].map((hop) => value(new RegExp(`^weir_hop_packets_total\\{chain="inspect",hop="${hop}"\\} (\\d+)$`, 'gm')));
  t.ok((hops[0] ?? 0) > 40 && hops[0] === hops[1], `hops: ${hops.join(', ')}`);
  const { code, stdout } = await lab.ctl('metrics');
  t.equal(code, 0);
  t.match(stdout, /^weir_pipeline_packets_total\{stage="captured"\}/m, 'and over the control socket');
  t.not((await lab.exec('fwd', 'curl', '-sS', '--max-time', '2', 'http://10.20.0.1:9477/metrics')).code, 0, 'not on other addresses');
});

let running: Running = weir;
await t.test('after a takeover the new process is the main one, has the metrics, and goes on telling the watchdog as often as before', async (t) => {
  const from = heard().length;
  const command = ['env', `NOTIFY_SOCKET=${notify}`, process.execPath, join(ROOT, 'dist/cli/main.js'), 'run', '--takeover', '--config', config];
  const next = await lab.start('fwd', command, /"msg":"ready"/);
  t.equal((await weir.ended).code, 0, 'the one before ended');
  await until('READY', () => heardAfter(from, new RegExp(`^READY=1\\nMAINPID=${next.child.pid ?? 0}\\n`)));
  t.match(await lab.must('fwd', 'curl', '-sS', '--fail', 'http://127.0.0.1:9477/metrics'), /^weir_build_info/m);
  t.match(await lab.ping('wl', '10.2.0.2'), / 0% packet loss/);
  // Each 300 ms, as the weir before was told. Each second, as after one that hands nothing on, would be ten.
  await until('14 pings', () => heard().slice(from).filter(({ pid, text }) => pid === next.child.pid && text.startsWith('WATCHDOG=1\n')).length >= 14, 10_000);
  running = next;
});

await t.test('it says that it stops', async (t) => {
  const from = heard().length;
  t.equal((await running.stop()).code, 0);
  await until('STOPPING', () => heardAfter(from, /^STOPPING=1\nSTATUS=SIGTERM$/));
});

await t.test('a metrics port that is taken ends the start with its reason', async (t) => {
  const holder: Running = await lab.start('fwd', ['python3', '-u', '-m', 'http.server', '9477', '--bind', '127.0.0.1'], /Serving HTTP/);
  const { code, stderr } = await lab.exec('fwd', process.execPath, join(ROOT, 'dist/cli/main.js'), 'run', '--force-config', '--config', lab.config({ extra: 'metrics: {listen: 127.0.0.1:9477}' }));
  t.equal(code, 1);
  t.match(stderr, /metrics\.listen: can't listen on 127\.0\.0\.1:9477: another program listens there/);
  await holder.stop('SIGKILL');
});
