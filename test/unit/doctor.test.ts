/** What `weir doctor` says of features, where what it finds does not depend on the machine; test/live/doctor.test.ts has the rest. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { effectiveCapabilities } from '../../src/dataplane/capabilities.js';
import { native, type KernelProbe } from '../../src/dataplane/native.js';
import { showFindings } from '../../src/cli/doctor.js';
import { worst } from '../../src/doctor/doctor.js';
import { fail, ok, warn } from '../../src/doctor/finding.js';
import { kernel } from '../../src/doctor/kernel.js';
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
