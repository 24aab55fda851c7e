/** `npm run bench`: every benchmark, one after another, and the plot beside the results. Options are handed on. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BARE, parseOptions } from './harness.js';

const options = process.argv.slice(2);
if (options.some((option) => option.startsWith('--out') || option.startsWith('--only'))) {
  console.error('--out and --only belong to one benchmark: npm run bench:engine, bench:replay, bench:live, bench:node, bench:control, bench:takeover or bench:mesh');
  process.exit(2);
}
parseOptions('engine', options); // complains before an hour has passed, not after
let failed = false;
for (const name of ['engine', 'replay', 'live', 'node', 'control', 'takeover', 'mesh']) {
  const { status, signal } = spawnSync(process.execPath, [...process.execArgv, fileURLToPath(new URL(`${name}.ts`, import.meta.url)), ...options], { stdio: 'inherit' });
  if (signal !== null || (status ?? 1) >= 128) process.exit(status ?? 1);
  failed ||= status !== 0;
  console.log('');
}
const { status } = spawnSync(process.execPath, [...process.execArgv, fileURLToPath(new URL('plot.ts', import.meta.url)), '--out', join(BARE, 'results/performance.svg')], { stdio: 'inherit' });
process.exitCode = failed || status !== 0 ? 1 : 0;
