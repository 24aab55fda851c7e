/** Conditions as the control socket answers them. */
import type { Condition } from '../config/conditions.js';
import type { VariantConfig } from '../config/variants.js';
import type { Conditions, Decided } from './conditions.js';
import { reuseAt } from './damping.js';
import { headText, tailText, unitOf } from './describe.js';
import type { ConditionState, Truth } from './evaluate.js';

export interface ConditionRow {
  /** Where it stands: `when.all[0]`. */
  readonly path: string;
  /** 0 for the whole of `when`. */
  readonly level: number;
  readonly condition: string;
  /** What a threshold is compared with; null elsewhere and while it is unknown. */
  readonly value: number | null;
  readonly unit: string | null;
  /** Null: unknown. */
  readonly holds: Truth;
  /** It flaps and is not believed. */
  readonly damped: boolean;
  readonly since: string;
  readonly next: { readonly at: string | null; readonly what: string };
}

export interface VariantView {
  readonly name: string;
  readonly priority: number;
  readonly policies: number;
  readonly holds: Truth;
  readonly since: string;
  readonly inForce: boolean;
  readonly conditions: readonly ConditionRow[];
}

export interface ConditionsView {
  /** Null: the policies at the top level. */
  readonly inForce: string | null;
  readonly since: string;
  readonly cause: string;
  /** What time alone will put in force, if all that is measured stays as it is. */
  readonly next: { readonly at: string; readonly inForce: string | null } | null;
  readonly switches: readonly { readonly name: string; readonly on: boolean; readonly since: string | null }[];
  readonly configurations: readonly VariantView[];
}

const iso = (ms: number): string => new Date(ms).toISOString();

export function conditionsView(conditions: Conditions, configuration: Decided): ConditionsView {
  conditions.look(configuration);
  const { variant: current, sinceMs, cause } = conditions.inForce;
  const forecast = conditions.forecast();
  return {
    inForce: current?.name ?? null,
    since: iso(sinceMs),
    cause,
    next: forecast === null ? null : { at: iso(forecast.atMs), inForce: forecast.variant?.name ?? null },
    switches: configuration.switches.map(({ name, on }) => {
      const turned = conditions.switches.get(name);
      return { name, on: turned?.on ?? on, since: turned === undefined ? null : iso(turned.sinceMs) };
    }),
    configurations: configuration.configurations.map((variant) => variantView(variant, conditions.stateOf(variant), current?.name === variant.name)),
  };
}

function variantView({ name, priority, policies, when }: VariantConfig, state: ConditionState | undefined, inForce: boolean): VariantView {
  return {
    name,
    priority,
    policies: policies.length,
    holds: state?.holds ?? null,
    since: iso(state?.sinceMs ?? 0),
    inForce,
    conditions: state === undefined ? [] : [...rows(when, state, 'when', 0)],
  };
}

function* rows(condition: Condition, state: ConditionState, path: string, level: number): Generator<ConditionRow> {
  const { test } = condition;
  yield {
    path,
    level,
    condition: `${headText(test)}${tailText(condition)}`,
    value: state.value,
    unit: test.kind === 'threshold' ? unitOf(test.measure) : null,
    holds: state.holds,
    damped: state.flaps.suppressed,
    since: iso(state.sinceMs),
    next: nextOf(condition, state),
  };
  if (!('of' in test)) return;
  for (const [i, member] of test.of.entries()) {
    const below = state.of[i];
    if (below !== undefined) yield* rows(member, below, test.kind === 'not' ? `${path}.not` : `${path}.${test.kind}[${i}]`, level + 1);
  }
}

/** What would change it, and when if that is known. */
function nextOf(condition: Condition, state: ConditionState): ConditionRow['next'] {
  const { test, forMs, until } = condition;
  if (state.flaps.suppressed) return { at: iso(reuseAt(state.flaps)), what: 'flaps; counts again when calm' };
  if (state.holds === true && until !== null) return { at: null, what: tailText({ ...condition, forMs: 0 }).trim() };
  if (state.holds === false && state.testSinceMs !== null) return { at: iso(state.testSinceMs + forMs), what: 'holds if it stays so' };
  if (state.span !== null) return Number.isFinite(state.span.untilMs) ? { at: iso(state.span.untilMs), what: state.span.inside ? 'window ends' : 'window begins' } : { at: null, what: 'always' };
  if (test.kind === 'switch') return { at: null, what: `weir condition switch ${test.name} ${state.test === true ? 'off' : 'on'}` };
  if (test.kind === 'threshold') {
    if (state.value === null) return { at: null, what: test.measure.kind === 'load' && test.measure.of === 'cpu' ? 'nothing reports it' : 'not measured yet' };
    const over = test.side === 'above' ? `above ${test.limit}` : `below ${test.limit}`;
    return { at: null, what: state.test === true ? `ends when no longer ${over}` : `holds when ${over}` };
  }
  return { at: Number.isFinite(state.dueMs) ? iso(state.dueMs) : null, what: Number.isFinite(state.dueMs) ? 'a part of it changes' : 'depends on its parts' };
}
