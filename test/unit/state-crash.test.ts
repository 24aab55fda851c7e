/** `kill -9` at random points of apply: what is loaded next is the old state or the new one, whole. */
import { execFileSync, spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { StateStore } from '../../src/state/store.js';

const KILLS = 200;
const AT_ONCE = 4;
/** On a machine that has other things to do, fewer kills are no reason to fail. */
const MOST_MS = 200_000;
const FEWEST = 50;
const top = fileURLToPath(new URL('../..', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'weir-crash-'));
t.teardown(() => rmSync(scratch, { recursive: true, force: true }));

// The sources as they are now, without a compiler in each of the processes.
const compiled = join(scratch, 'weir');
mkdirSync(compiled);
for (const name of ['node_modules', 'build']) symlinkSync(join(top, name), join(compiled, name));
copyFileSync(join(top, 'package.json'), join(compiled, 'package.json'));
const tsc = (...args: string[]): Buffer => execFileSync(process.execPath, [join(top, 'node_modules/typescript/bin/tsc'), ...args], { cwd: top, stdio: ['ignore', 'pipe', 'inherit'] });
tsc('-p', 'tsconfig.json', '--outDir', join(compiled, 'out'), '--declaration', 'false', '--sourceMap', 'false', '--noCheck');
// As dist/ lies beside build/.
const sources = join(compiled, 'dist');
execFileSync('cp', ['-r', join(compiled, 'out/src'), sources]);
const writer = join(compiled, 'out/test/support/state-writer.js');

/** Kills a writer in its work. Returns the last generation that it had acknowledged. */
function crash(directory: string, afterMs: number): Promise<{ acknowledged: number; said: string }> {
  const child = spawn(process.execPath, [writer, directory, sources], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  let wrong = '';
  return new Promise((resolve, reject) => {
    child.stdout.on('data', (chunk: Buffer) => {
      if (said === '') setTimeout(() => child.kill('SIGKILL'), afterMs);
      said += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => (wrong += chunk.toString()));
    child.once('close', (_, signal) => {
      if (signal !== 'SIGKILL') return reject(new Error(`the writer ended by itself: ${wrong}`));
      const acknowledged = Number(said.trimEnd().split('\n').at(-1)?.replace('started ', ''));
      resolve({ acknowledged, said });
    });
  });
}

t.test(`${KILLS} kills`, { timeout: 280_000 }, async (t) => {
  let newer = 0;
  let wrong = 0;
  let kills = 0;
  const end = Date.now() + MOST_MS;
  const seed = Date.now() % 1_000_000;
  const random = (n: number): number => (Math.imul(n + seed, 0x9e3779b1) >>> 0) / 2 ** 32;
  const worker = async (number: number): Promise<void> => {
    const directory = join(scratch, `state-${number}`);
    mkdirSync(directory);
    writeFileSync(join(directory, 'weir.json'), '');
    for (let i = number; i < KILLS && Date.now() < end; i += AT_ONCE) {
      const { acknowledged } = await crash(directory, random(i) * 25);
      const { generation, document } = new StateStore(directory).load();
      kills++;
      if (generation === acknowledged + 1) newer++;
      const policies = document['policies'] as readonly { name: string }[];
      const whole = policies.length === 300 && policies.every(({ name }, at) => name === `g${generation}-${at}`);
      if (!whole || generation < acknowledged || generation > acknowledged + 1) {
        wrong++;
        t.fail(`kill ${i} (seed ${seed}): acknowledged ${acknowledged}, loaded ${generation}, ${whole ? 'whole' : 'mixed'}`);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, (_, number) => worker(number)));
  t.ok(kills >= FEWEST, `${kills} kills`);
  t.equal(wrong, 0, `${newer} of ${kills} came after the rename and before the answer`);
});
