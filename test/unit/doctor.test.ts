/** What `weir doctor` says of features, where what it finds does not depend on the machine; test/live/doctor.test.ts has the rest. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { effectiveCapabilities } from '../../src/dataplane/capabilities.js';
import { native, type KernelProbe } from '../../src/dataplane/native.js';
import { showFindings } from '../../src/cli/doctor.js';
import { worst } from '../../src/doctor/doctor.js';
import { fail, ok, warn } from '../../src/doctor/finding.js';
import { kernel } from '../../src/doctor/kernel.js';
import { files } from '../../src/doctor/resources.js';
import { steerAll, valid } from '../support/configuration.js';
import { ROOT } from '../support/lab.js';

t.test('features that this kernel has, asked of the kernel', async (t) => {
  const probe = native.probeKernel();
  if (effectiveCapabilities().includes('net_raw')) {
    for (const feature of ['packet_socket', 'tpacket_v2', 'vnet_hdr', 'ignore_outgoing', 'socket_filter', 'receive_ring', 'fanout', 'qdisc_bypass'] as const) t.equal(probe[feature], null, feature);
  } else {
    t.match(probe.packet_socket, /not permitted/);
  }
  for (const feature of ['udp_segment', 'udp_gro', 'memfd'] as const) t.equal(probe[feature], null, feature);
});

t.test('each lack has its own words, level and fix', async (t) => {
  const all: KernelProbe = { packet_socket: null, tpacket_v2: null, vnet_hdr: null, ignore_outgoing: null, socket_filter: null, receive_ring: null, fanout: null, qdisc_bypass: null, udp_super_frames: null, udp_segment: null, udp_gro: null, memfd: null, huge_pages: null };
  t.strictSame(kernel(all).map(({ level }) => level), ['ok']);
  for (const feature of Object.keys(all) as (keyof KernelProbe)[]) {
    const [finding, ...others] = kernel({ ...all, [feature]: 'Invalid argument' });
    t.strictSame(others, [], feature);
    const needed = ['tpacket_v2', 'vnet_hdr', 'ignore_outgoing', 'socket_filter', 'receive_ring', 'fanout'].includes(feature);
    t.equal(finding?.level, needed ? 'fail' : 'warn', feature);
    t.match(finding?.text, /Invalid argument/, feature);
    t.ok((finding?.fix ?? '').length > 5, feature);
  }
});

t.test("a read-only group that can't get to the socket: which directory keeps it out, and what lets it in", async (t) => {
  const top = mkdtempSync(join(tmpdir(), 'weir-doctor-'));
  t.teardown(() => rmSync(top, { recursive: true }));
  const directory = join(top, 'run');
  mkdirSync(directory);
  const own = statSync(directory).gid;
  const found = (group: number | null, running: string | null, at = directory): readonly string[][] =>
    files(valid(steerAll('nsh', `control: {socket: ${at}/weir.sock${group === null ? '' : `, read_only_group: "${group}"`}}`)), running)
      .filter(({ level, text }) => level !== 'ok' && /group/.test(text))
      .map(({ level, text, fix }) => [level, text, fix ?? '']);
  const others = own + 4_000_000;
  const kept = (mend: string, at = directory): string[][] => [['warn', `members of ${mend.startsWith('g') ? own : others} (control.read_only_group) can't enter ${at}, so they can't get to the socket`, `sudo chmod ${mend} ${at}; systemd: RuntimeDirectoryMode=0755`]];
  const rows: readonly (readonly [mode: number, group: number, expected: string[][], claim: string])[] = [
    [0o755, others, [], 'everybody may enter'],
    [0o750, others, kept('o+x'), 'a group that is not that of the directory'],
    [0o750, own, [], 'its own group'],
    [0o701, others, [], 'entering is enough'],
    [0o701, own, kept('g+x'), 'to members of its group a directory says what it says to its group'],
  ];
  chmodSync(top, 0o755);
  for (const [mode, group, expected, claim] of rows) {
    chmodSync(directory, mode);
    t.strictSame(found(group, null), expected, claim);
    writeFileSync(join(directory, 'weir.sock'), '');
    t.strictSame(found(group, join(directory, 'weir.sock')), expected, `${claim}, of the weir that runs`);
    rmSync(join(directory, 'weir.sock'));
  }
  chmodSync(directory, 0o755);
  chmodSync(top, 0o700);
  t.strictSame(found(others, null), kept('o+x', top), 'one above it');
  t.strictSame(found(null, null), [], 'without a group of readers it concerns nobody');
  chmodSync(top, 0o755);
  const missing = files(valid(steerAll('nsh', `control: {socket: ${top}/none/weir.sock, read_only_group: "${others}"}`)), null);
  t.strictSame(missing.filter(({ subject, text }) => subject === 'control socket' && /group/.test(text)), [], 'what is not there yet keeps nobody out');
});

t.test('key files: missing, of a wrong length, open to others', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weir-doctor-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const subjects = ['affinity key', 'mesh key', 'load key'];
  const configuration = valid(steerAll('nsh', `affinity_key: {file: ${directory}/affinity}\nmesh: {key: {file: ${directory}/mesh}}\nload: {key: {file: ${directory}/load}}`));
  const found = (): (readonly [string, string, string])[] => files(configuration, null).filter(({ subject }) => subjects.includes(subject)).map(({ subject, level, text, fix }) => [`${subject}: ${level}`, text, fix ?? ''] as const);
  t.strictSame(found().map(([level, text]) => [level, text]), [['affinity key: fail', `${directory}/affinity is not there`], ['mesh key: fail', `${directory}/mesh is not there`], ['load key: fail', `${directory}/load is not there`]]);
  for (const [, , fix] of found()) spawnSync('sh', ['-c', fix]);
  t.strictSame(found().map(([level]) => level), subjects.map((subject) => `${subject}: ok`), 'the fix mends it');
  for (const name of ['affinity', 'mesh', 'load']) chmodSync(join(directory, name), 0o644);
  t.strictSame(found().map(([level]) => level), subjects.map((subject) => `${subject}: warn`));
  t.match(found().map(([, text]) => text).join(), /steer streams.*speak for a node.*report load/);
  for (const name of ['affinity', 'mesh', 'load']) writeFileSync(join(directory, name), 'short');
  t.strictSame(found().map(([level]) => level), subjects.map((subject) => `${subject}: fail`));
  t.match(found().map(([, text]) => text).join(), /found 5 bytes.*found 5.*found 5/);
});

t.test('no fix is missing, and the end counts', async (t) => {
  const findings = [ok('a', 'fine'), warn('b', 'slow', 'do this'), fail('c', 'broken', 'do that')];
  t.equal(showFindings(findings), 'ok    a: fine\nwarn  b: slow\n      fix: do this\nFAIL  c: broken\n      fix: do that\n\n1 failures, 1 warnings, 1 fine');
  t.equal(worst(findings), 'fail');
  t.equal(worst(findings.slice(0, 2)), 'warn');
  t.equal(worst(findings.slice(0, 1)), 'ok');
});

t.test('capabilities by name, from the bits of /proc', async (t) => {
  t.strictSame(effectiveCapabilities('CapEff:\t0000000000002000\n'), ['net_raw']);
  t.strictSame(effectiveCapabilities('CapEff:\t0000000000003001\n'), ['chown', 'net_admin', 'net_raw']);
  t.strictSame(effectiveCapabilities(''), []);
});

t.test('the command, without configuration: JSON, and an exit status that says whether weir could start', async (t) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(ROOT, 'dist/cli/main.js'), 'doctor', '--json', '--socket', '/nowhere/weir.sock'], { encoding: 'utf8', cwd: ROOT });
  const answer = JSON.parse(stdout) as { worst: string; findings: { level: string; fix: string | null }[] };
  t.equal(status, answer.worst === 'fail' ? 1 : 0, stderr);
  t.ok(answer.findings.every(({ level, fix }) => (level === 'ok') === (fix === null)), 'each that is not fine has a fix');
});

t.test('a configuration that is not good ends it with its errors', async (t) => {
  const { status, stderr } = spawnSync(process.execPath, [join(ROOT, 'dist/cli/main.js'), 'doctor', '--config', '/nowhere.yaml'], { encoding: 'utf8', cwd: ROOT });
  t.equal(status, 2);
  t.match(stderr, /there is no such file/);
});
