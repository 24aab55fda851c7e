/** weir as the benchmarks start it: its own command line, as a user would. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { flowFilePrefix } from '../../src/dataplane/flow-table.js';
import { atEnd } from './cleanup.js';
import { Running } from './yardsticks.js';

const directory = mkdtempSync(join(tmpdir(), 'weir-bench-'));
atEnd(() => {
  // The flow tables of what was killed.
  const flows = readdirSync(directory).map((name) => flowFilePrefix(scratch(name)));
  for (const file of readdirSync('/dev/shm')) if (flows.some((prefix) => file.startsWith(prefix))) rmSync(join('/dev/shm', file), { force: true });
  rmSync(directory, { recursive: true, force: true });
});

/** A file that is gone when the benchmark ends. */
export const scratch = (name: string): string => join(directory, name);

export interface WeirSetup {
  /** One service with one instance for each address. */
  readonly instances: readonly string[];
  readonly encapsulation?: 'nsh' | 'geneve';
  readonly workers?: number;
  readonly flows?: number;
  /** Lines for `policies:`; default: everything into the chain. */
  readonly policies?: readonly string[];
}

let files = 0;

export function weirConfig({ instances, encapsulation = 'nsh', workers = 1, flows = 1_000_000, policies = ['{name: all, match: {}, chain: bench}'] }: WeirSetup): { file: string; socket: string } {
  const [file, socket] = [scratch(`weir-${++files}.yaml`), scratch(`weir-${files}.sock`)];
  writeFileSync(file, [
    'underlay: {interface: und0}',
    'captures: [{name: bench, in: in0, out: out0}]',
    'services:',
    ...instances.map((address, i) => `  s${i + 1}: {instances: [{name: i${i + 1}, address: ${address}}]}`),
    `chains: {bench: [${instances.map((_, i) => `s${i + 1}`).join(', ')}]}`,
    'policies:',
    ...policies.map((policy) => `  - ${policy}`),
    `encapsulation: ${encapsulation}`,
    `workers: ${workers}`,
    `flows: {max: ${flows}}`,
    `control: {socket: ${socket}}`,
    `state_dir: ${scratch(`state-${files}`)}`,
    '',
  ].join('\n'));
  return { file, socket };
}

export const weirCommand = (checkout: string, ...args: string[]): string[] => [process.execPath, join(checkout, 'dist/cli/main.js'), ...args];

export const READY = /"msg":"ready"/;

/** `prefix`: what puts it into its host, and on its core. */
export function startWeir(checkout: string, prefix: (argv: readonly string[]) => string[], setup: WeirSetup, timeoutMs = 60_000): Promise<Running> {
  return new Running(prefix(weirCommand(checkout, 'run', '--config', weirConfig(setup).file))).ready(READY, timeoutMs);
}

export function startNode(checkout: string, prefix: (argv: readonly string[]) => string[], position: number, address: string): Promise<Running> {
  return new Running(prefix(weirCommand(checkout, 'node', '--service', `s${position}`, '--name', `i${position}`, '--listen', address, '--function', 'pass'))).ready(READY);
}
