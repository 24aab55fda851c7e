/** Checks one instance over a socket again and again: one at a time, at fixed instants that a slow answer does not shift. */
import type { HealthCheck } from '../config/configuration.js';
import { nameOf, runCheck, type Outcome } from './check.js';
import type { Slots } from './slots.js';
import type { Observation } from './state.js';

export type SocketCheck = Exclude<HealthCheck, { kind: 'probe' }>;

export interface Timing {
  readonly intervalMs: number;
  readonly timeoutMs: number;
}

export class ActiveCheck {
  #timer: NodeJS.Timeout;
  #dueMs: number;
  #stopped = false;
  #answered = 0;
  #missed = 0;

  /** `offset`: 0 to 1, where in its interval the first one lies. */
  constructor(
    private readonly check: SocketCheck,
    private readonly address: string,
    private readonly timing: Timing,
    private readonly slots: Slots,
    private readonly seen: (observation: Observation) => void,
    offset: number,
  ) {
    this.#dueMs = performance.now() + timing.intervalMs * offset;
    this.#timer = this.#arm();
  }

  /** Answers from before something that speaks against them count no more. */
  forget(): void {
    this.#answered = 0;
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #arm(): NodeJS.Timeout {
    return setTimeout(() => void this.#round(), Math.max(0, this.#dueMs - performance.now())).unref();
  }

  async #round(): Promise<void> {
    const outcome = await this.slots.run(async () => (this.#stopped ? null : runCheck(this.check, this.address, this.timing.timeoutMs)));
    if (this.#stopped || outcome === null) return;
    this.#count(outcome);
    // A due instant that has passed is left out, not caught up with.
    this.#dueMs = Math.max(this.#dueMs + this.timing.intervalMs, performance.now());
    this.#timer = this.#arm();
  }

  #count(outcome: Outcome): void {
    this.#answered = outcome.ok ? this.#answered + 1 : 0;
    this.#missed = outcome.ok ? 0 : this.#missed + 1;
    this.seen({
      answered: this.#answered,
      missed: this.#missed,
      cause: outcome.ok ? '' : `${nameOf(this.check)}: ${outcome.cause}`,
      latencyMs: outcome.ok ? outcome.latencyMs : null,
    });
  }
}
