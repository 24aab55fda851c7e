/** How many instances a service should have, by its load: a pure function of (settings, history, what there is, time). */
import type { ScaleConfig } from '../config/scale.js';

/** Load is smoothed, so that one second of it starts nothing. */
const SMOOTHING_MS = 3000;
/** Instances go only if the rest would stay this far below the target, or they would come back at once. */
const ROOM = 0.9;

export interface Demand {
  /** Of all instances that serve, in sum and smoothed; null: unknown. */
  readonly load: number | null;
  readonly atMs: number;
  /** When the number last changed. */
  readonly changedMs: number;
  /** Since when fewer instances than there are would have been enough; null: they would not. */
  readonly fewerSinceMs: number | null;
  /** The most of them that would have been needed since then. */
  readonly mostNeeded: number;
}

export const AT_FIRST: Demand = { load: null, atMs: 0, changedMs: -Infinity, fewerSinceMs: null, mostNeeded: 0 };

export interface Present {
  /** Instances that get new streams, or are to. */
  readonly count: number;
  /** Of them: those that don't yet. */
  readonly coming: number;
  /** Of those that do, in sum; null: unknown. */
  readonly load: number | null;
}

type Bounds = Pick<ScaleConfig, 'min' | 'max' | 'target' | 'step' | 'cooldownMs'>;

export interface Verdict {
  readonly demand: Demand;
  /** Over 0: that many should come; below 0: that many should go. */
  readonly change: number;
}

export function decide(before: Demand, { count, coming, load }: Present, { min, max, target, step, cooldownMs }: Bounds, nowMs: number): Verdict {
  const smooth = blend(before, load, nowMs);
  const demand = { ...before, load: smooth, atMs: nowMs };
  const bounded = (wanted: number): number => Math.min(max, Math.max(min, wanted));
  if (count < min || count > max) return { demand: { ...demand, fewerSinceMs: null }, change: bounded(count) - count };
  if (smooth === null) return { demand: { ...demand, fewerSinceMs: null }, change: 0 };

  const needed = bounded(Math.ceil(smooth / target));
  if (needed > count) {
    const calm = nowMs - before.changedMs >= cooldownMs.up;
    return { demand: { ...demand, fewerSinceMs: null }, change: calm ? Math.min(step.up, needed - count) : 0 };
  }
  const enough = bounded(Math.ceil(smooth / (target * ROOM)));
  if (enough >= count || coming > 0) return { demand: { ...demand, fewerSinceMs: null }, change: 0 };
  const sinceMs = before.fewerSinceMs ?? nowMs;
  const mostNeeded = before.fewerSinceMs === null ? enough : Math.max(before.mostNeeded, enough);
  const calm = nowMs - Math.max(sinceMs, before.changedMs) >= cooldownMs.down;
  return { demand: { ...demand, fewerSinceMs: sinceMs, mostNeeded }, change: calm ? -Math.min(step.down, count - mostNeeded) : 0 };
}

/** After the number was changed. */
export const changed = (demand: Demand, nowMs: number): Demand => ({ ...demand, changedMs: nowMs, fewerSinceMs: null });

function blend({ load: was, atMs }: Demand, load: number | null, nowMs: number): number | null {
  if (load === null || was === null) return load;
  const keep = Math.exp(-Math.max(0, nowMs - atMs) / SMOOTHING_MS);
  return was * keep + load * (1 - keep);
}
