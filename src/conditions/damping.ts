/**
 * Flap damping as routers do it (RFC 2439): each change adds to a penalty that halves with time; over one limit the value is
 * taken as unknown, under another it is believed again.
 */

const HALF_LIFE_MS = 60_000;
/** Over it after four changes within 20 s, or by one each half minute for some minutes. */
const SUPPRESS_OVER = 3;
const REUSE_UNDER = 1.5;
/** However long it flapped, some two and a half minutes of calm are enough. */
const MOST = 8;

export interface Flaps {
  readonly penalty: number;
  readonly atMs: number;
  readonly suppressed: boolean;
}

export const CALM: Flaps = { penalty: 0, atMs: 0, suppressed: false };

export function flapsAfter(before: Flaps | null, changed: boolean, nowMs: number): Flaps {
  const decayed = before === null ? 0 : before.penalty * 2 ** -(Math.max(0, nowMs - before.atMs) / HALF_LIFE_MS);
  const penalty = Math.min(MOST, decayed + (changed ? 1 : 0));
  // A hair's breadth over the limit, so that the instant of reuse is not missed by a rounding error.
  const suppressed = before?.suppressed === true ? penalty > REUSE_UNDER + 1e-9 : penalty > SUPPRESS_OVER;
  return { penalty, atMs: nowMs, suppressed };
}

/** When a suppressed value is believed again if it does not change. */
export function reuseAt({ penalty, atMs }: Flaps): number {
  return Math.ceil(atMs + HALF_LIFE_MS * Math.log2(penalty / REUSE_UNDER));
}
