/**
 * What traffic itself says of an instance: errors about packets that were for it, or nothing returned. Either counts only since the
 * last packet that it sent back, so nobody can talk an instance down that works by forging errors about it. To who sends none back,
 * because it hands on, delivers, or sends straight out, errors are forgiven by time.
 */
import type { PassiveConfig } from '../config/configuration.js';

/** Totals since the start. */
export interface Signals {
  readonly sent: number;
  readonly received: number;
  readonly unreachable: number;
}

/** Packets under way are no silence yet. */
const LEAST_SILENCE_MS = 500;
/** A dead host's errors come faster than this, one after the other. */
const FORGIVEN_MS = 10_000;

export class PassiveWatch {
  /** As it was when the instance last returned something. */
  #base: Signals | null = null;
  #baseMs = 0;
  #unreachable = 0;
  #unreachableMs = 0;

  /** Why the instance fails, or null. */
  look(now: Signals, { unreachable, silent }: PassiveConfig, nowMs: number): string | null {
    if (this.#base === null || now.received !== this.#base.received || now.sent < this.#base.sent) {
      this.#base = now;
      this.#baseMs = nowMs;
      return null;
    }
    if (now.unreachable !== this.#unreachable) {
      this.#unreachable = now.unreachable;
      this.#unreachableMs = nowMs;
    } else if (silent === null && now.unreachable > this.#base.unreachable && nowMs - this.#unreachableMs > FORGIVEN_MS) {
      this.#base = now;
    }
    const errors = now.unreachable - this.#base.unreachable;
    const sent = now.sent - this.#base.sent;
    if (sent === 0 && errors === 0) this.#baseMs = nowMs;
    if (unreachable !== null && errors >= unreachable) return `its host or a router says "unreachable" (${errors} times, nothing returned)`;
    if (silent !== null && sent >= silent && nowMs - this.#baseMs >= LEAST_SILENCE_MS) return `nothing returned for ${sent} packets`;
    return null;
  }

  /** Begins anew: it is trusted again. */
  forget(): void {
    this.#base = null;
  }
}
