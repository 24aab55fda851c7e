/** Which of the named configurations is in force, now and next. */
import type { VariantConfig } from '../config/variants.js';
import { evaluate, type ConditionState, type Moment } from './evaluate.js';

export type States = ReadonlyMap<VariantConfig, ConditionState>;

/** The highest priority that holds; among equals, the first written; null: the policies at the top level. */
export function choose(variants: readonly VariantConfig[], states: States): VariantConfig | null {
  let best: VariantConfig | null = null;
  for (const variant of variants) {
    if (states.get(variant)?.holds === true && (best === null || variant.priority > best.priority)) best = variant;
  }
  return best;
}

export function evaluateAll(variants: readonly VariantConfig[], before: States, moment: Omit<Moment, 'damping'>): States {
  const moments = { damped: { ...moment, damping: true }, raw: { ...moment, damping: false } };
  const states = new Map<VariantConfig, ConditionState>();
  for (const variant of variants) states.set(variant, evaluate(variant.when, before.get(variant) ?? null, variant.damping ? moments.damped : moments.raw));
  return states;
}

/** The next instant at which time alone may change anything; Infinity if never. */
export function dueAt(states: States): number {
  let dueMs = Infinity;
  for (const state of states.values()) dueMs = Math.min(dueMs, state.dueMs);
  return dueMs;
}

const FORECAST_MS = 8 * 86_400_000;
const MOST_STEPS = 100;

export interface Forecast {
  readonly atMs: number;
  readonly variant: VariantConfig | null;
}

/** What time alone will put in force next, if everything that is measured stays as it is; null: nothing within eight days. */
export function forecast(variants: readonly VariantConfig[], states: States, moment: Omit<Moment, 'damping'>): Forecast | null {
  const current = choose(variants, states);
  let [later, at] = [states, dueAt(states)];
  for (let step = 0; step < MOST_STEPS && at <= moment.nowMs + FORECAST_MS; step++) {
    later = evaluateAll(variants, later, { ...moment, nowMs: at });
    const variant = choose(variants, later);
    if (variant !== current) return { atMs: at, variant };
    at = Math.max(at + 1, dueAt(later));
  }
  return null;
}
