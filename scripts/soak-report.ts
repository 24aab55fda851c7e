/** What both kinds of soak have in common: rows, claims, the last line. */
import { figure } from './bench/table.js';
import { quantile } from './bench/statistics.js';

export class Claims {
  #passed = 0;
  #failed = 0;

  check(claim: string, holds: boolean, facts: string): void {
    if (holds) this.#passed++;
    else this.#failed++;
    console.log(`${holds ? 'ok' : 'not ok'} - ${claim}: ${facts}`);
  }

  end(): never {
    console.log(`${this.#passed} passed, ${this.#failed} failed, 0 skipped`);
    process.exit(this.#failed > 0 ? 1 : 0);
  }
}

const WARM_UP = 0.25;

/** Medians of the last quarter and of the first one after the warm-up. */
export function ends(samples: readonly number[]): { readonly first: number; readonly last: number } {
  const steady = samples.slice(Math.floor(samples.length * WARM_UP));
  const quarter = Math.max(1, Math.floor(steady.length / 4));
  return { first: quantile(steady.slice(0, quarter), 0.5), last: quantile(steady.slice(-quarter), 0.5) };
}

/** Resident memory in MiB over time; `most`: the share by which it may differ. */
export function checkMemory(claims: Claims, what: string, samples: readonly number[], most = 0.05): void {
  const { first, last } = ends(samples);
  claims.check(`${what}: resident memory stays within ${most * 100} % after the warm-up`, Math.abs(last / first - 1) <= most, `${figure(first)} MiB, at the end ${figure(last)} MiB (${((last / first - 1) * 100).toFixed(1)} %)`);
}
