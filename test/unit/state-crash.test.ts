/** `kill -9` at random points of apply: what is loaded next is the old state or the new one, whole. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import ts from 'typescript';
import { StateStore } from '../../src/state/store.js';
import { placeOf, tally, type Place } from '../support/crash-place.js';

const KILLS = 200;
const AT_ONCE = 4;
/** On a machine that has other things to do, fewer kills are no reason to fail. `WEIR_CRASH_SECONDS` gives them more time. */
const MOST_MS = Number(process.env['WEIR_CRASH_SECONDS'] ?? 60) * 1000;
const FEWEST = 50;
const scratch = mkdtempSync(join(tmpdir(), 'weir-crash-'));
t.teardown(() => rmSync(scratch, { recursive: true, force: true }));

// Without a compiler in each of the processes, and with weir as it was built, as all tests that run it.
const top = fileURLToPath(new URL('../..', import.meta.url));
const sources = join(top, 'dist');
symlinkSync(join(top, 'node_modules'), join(scratch, 'node_modules'));
const writer = join(scratch, 'state-writer.mjs');
const { outputText } = ts.transpileModule(readFileSync(join(top, 'test/support/state-writer.ts'), 'utf8'), { compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 } });
writeFileSync(writer, outputText);

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

t.test(`${KILLS} kills`, { timeout: MOST_MS + 80_000 }, async (t) => {
  const places: Place[] = [];
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
      const { acknowledged } = await crash(directory, random(i) * (i % 3 === 0 ? 200 : 40));
      const { generation, document } = new StateStore(directory).load();
      kills++;
      places.push(placeOf(directory, generation === acknowledged + 1));
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
  t.equal(wrong, 0, `${kills} kills: ${tally(places)}`);
  t.comment(`${kills} kills: ${tally(places)}`);
  // The writer does nothing but apply; where the kills fell shows that they fell into all of it.
  const writing = places.filter((place) => place !== 'before it was written').length;
  t.ok(writing > 0, `${writing} of ${kills} fell between the first byte of a draft and the answer`);
});
