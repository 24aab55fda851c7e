/** Short HTTP connections through the lab at a steady rate: test/support/http-load.c, compiled and run. */
import { join } from 'node:path';
import { ROOT, must, until, type Lab, type Running } from './lab.js';

export interface LoadReport {
  readonly opened: number;
  /** Answered whole, each byte as asked for. */
  readonly completed: number;
  readonly failed: Readonly<Record<'refused' | 'reset' | 'timeout' | 'wrong' | 'short' | 'other', number>>;
  /** From the first connection to the last one. */
  readonly seconds: number;
  /** From when a connection was due to the end of its answer. */
  readonly ms: { readonly median: number; readonly p99: number; readonly max: number };
  readonly over200ms: number;
  /** A lost SYN costs a second. */
  readonly over1s: number;
}

export const HTTP_PORT = 8080;
export const HTTP_PORTS = 8;

export class HttpLoad {
  private constructor(
    private readonly lab: Lab,
    private readonly binary: string,
  ) {}

  /** Compiles it and serves in `net`. */
  static async serve(lab: Lab): Promise<HttpLoad> {
    const binary = join(lab.directory, 'http-load');
    await must(['cc', '-O2', '-Wall', '-Wextra', '-Werror', '-o', binary, join(ROOT, 'test/support/http-load.c')]);
    await lab.start('net', [binary, 'serve', String(HTTP_PORT), String(HTTP_PORTS)], /serving/);
    return new HttpLoad(lab, binary);
  }

  /** Opens connections from `wl` until stop() is called. */
  async start(rate: number, seed: number): Promise<{ running: Running; completed: () => number; opened: () => number; stop: () => Promise<LoadReport> }> {
    const running = await this.lab.start('wl', [this.binary, 'get', '10.2.0.2', String(HTTP_PORT), String(HTTP_PORTS), String(rate), '0', String(seed)], /started/);
    const soFar = (): readonly string[] => /so far (\d+) of (\d+)\n(?!.*so far)/s.exec(running.output()) ?? [];
    const completed = (): number => Number(soFar()[1] ?? 0);
    const opened = (): number => Number(soFar()[2] ?? 0);
    await until('the first connections to be answered', () => completed() > 0);
    const stop = async (): Promise<LoadReport> => {
      const { code, stdout, stderr } = await running.stop();
      if (code !== 0) throw new Error(`http-load: exit ${code}\n${stderr}`);
      return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as LoadReport;
    };
    return { running, completed, opened, stop };
  }
}

export const failures = ({ failed }: LoadReport): number => Object.values(failed).reduce((sum, n) => sum + n, 0);
