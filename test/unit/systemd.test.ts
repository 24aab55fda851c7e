/** The systemd unit in examples/, judged by systemd itself, which need not run for that. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ROOT } from '../support/lab.js';

const unit = join(ROOT, 'examples/systemd/weir.service');
/** In tenths of systemd's exposure, 0 to 100: weir needs the host's network, packet sockets and a compiler that writes code. */
const MOST_EXPOSED = 20;

function analyze(...args: string[]): { status: number | null; said: string } {
  const { status, stdout, stderr, error } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
  if (error !== undefined) throw error;
  return { status, said: stdout + stderr };
}

t.test('it is a unit that systemd takes', async (t) => {
  const { status, said } = analyze('verify', '--man=no', '--recursive-errors=no', unit);
  t.equal(status, 0, said);
  t.equal(said.split('\n').filter((line) => line.includes('weir.service')).join('\n'), '');
});

t.test('its exposure is low, and would not be without the sandbox', async (t) => {
  const { status, said } = analyze('security', '--offline=yes', '--no-pager', `--threshold=${MOST_EXPOSED}`, unit);
  t.equal(status, 0, said);
  const directory = mkdtempSync(join(tmpdir(), 'weir-unit-'));
  copyFileSync(unit, join(directory, 'weir.service'));
  const bare = join(directory, 'bare.service');
  spawnSync('sh', ['-c', `grep -vE '^(Protect|Private|Restrict|SystemCall|Capability|NoNew)' ${unit} > ${bare}`]);
  t.not(analyze('security', '--offline=yes', '--no-pager', `--threshold=${MOST_EXPOSED}`, bare).status, 0);
  rmSync(directory, { recursive: true });
});

const text = readFileSync(unit, 'utf8');
const value = (key: string): string[] => [...text.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map((match) => match[1] ?? '');

t.test('live streams outlive a restart: systemd removes neither of the places where the flow table may be', async (t) => {
  t.strictSame(value('RemoveIPC'), ['no'], '/dev/shm');
  t.strictSame(value('RuntimeDirectoryPreserve'), ['yes'], "the control socket's directory");
});

t.test('readers of the control socket get to it, and to nothing else', async (t) => {
  t.strictSame(value('RuntimeDirectoryMode'), ['0755'], 'control.read_only_group');
  t.strictSame([value('StateDirectoryMode'), value('ConfigurationDirectoryMode'), value('UMask')], [['0700'], ['0750'], ['0077']]);
});

t.test('one capability, a user of its own', async (t) => {
  t.strictSame(value('AmbientCapabilities'), ['CAP_NET_RAW']);
  t.strictSame(value('CapabilityBoundingSet'), ['CAP_NET_RAW']);
  t.strictSame(value('User'), ['weir']);
  t.strictSame(value('Type'), ['notify']);
  t.match(readFileSync(join(ROOT, 'examples/systemd/weir.sysusers'), 'utf8'), /^u weir - /m);
});
