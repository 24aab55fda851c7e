/** Starting programs, the bare ones of native/bench above all, and what they cost while they run. */
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { atEnd } from './cleanup.js';
import { BARE, until } from './harness.js';

export class Running {
  readonly #child: ChildProcess;
  readonly #line: string;
  readonly #forget: () => void;
  #output = '';
  #over = false;
  readonly #ended: Promise<number | null>;

  constructor(argv: readonly string[], environment: NodeJS.ProcessEnv = process.env) {
    this.#line = argv.join(' ');
    this.#child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], env: environment });
    const take = (chunk: Buffer): void => void (this.#output += chunk.toString());
    this.#child.stdout?.on('data', take);
    this.#child.stderr?.on('data', take);
    this.#forget = atEnd(() => this.#child.kill('SIGKILL'));
    this.#ended = new Promise((resolve) => {
      const end = (code: number | null): void => {
        this.#over = true;
        resolve(code);
      };
      this.#child.once('error', (error) => {
        this.#output += error.message;
        end(-1);
      });
      this.#child.once('close', end);
    });
  }

  get output(): string {
    return this.#output;
  }

  async ready(pattern: RegExp, timeoutMs = 20_000): Promise<this> {
    await until(`${this.#line} to print ${pattern}`, () => {
      if (pattern.test(this.#output)) return true;
      if (this.#over) throw new Error(`${this.#line} ended: ${this.#output.trim()}`);
      return false;
    }, timeoutMs);
    return this;
  }

  /** CPU time so far of all its threads, kernel included: what the scheduler counted, in nanoseconds. */
  cpuNs(): number {
    const tasks = `/proc/${this.#child.pid}/task`;
    let sum = 0;
    for (const task of readdirSync(tasks)) {
      try {
        sum += Number(readFileSync(join(tasks, task, 'schedstat'), 'utf8').split(' ')[0]);
      } catch {
        // the thread has just ended
      }
    }
    return sum;
  }

  /** Waits for its own end; throws when that was a failure. */
  async ended(): Promise<string> {
    const code = await this.#ended;
    this.#forget();
    if (code !== 0) throw new Error(`${this.#line}: exit ${code}: ${this.#output.trim().slice(-2000)}`);
    return this.#output;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  async stop(): Promise<string> {
    if (!this.#over) this.#child.kill('SIGTERM');
    const late = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    await this.#ended;
    clearTimeout(late);
    this.#forget();
    return this.#output;
  }
}

/** Runs to the end; gives what it printed. */
export function run(argv: readonly string[]): Promise<string> {
  return new Running(argv).ended();
}

export const bare = (name: string, ...args: (string | number)[]): string[] => [join(BARE, name), ...args.map(String)];

/** The same command on one core. */
export const onCore = (core: number, argv: readonly string[]): string[] => ['taskset', '-c', String(core), ...argv];

/** The line of counts that the bare programs end with. */
export function countsOf(output: string): Record<string, number> {
  const line = output.trim().split('\n').findLast((text) => text.startsWith('{'));
  if (line === undefined) throw new Error(`no counts in: ${output}`);
  return JSON.parse(line) as Record<string, number>;
}
