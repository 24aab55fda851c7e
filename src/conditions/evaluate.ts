/**
 * What a condition is worth at a moment, from what it was before: a pure function, so that the future can be asked with the same
 * code as the present. Values are true, false or unknown (null), joined as in Kleene's logic; only true counts as holding.
 */
import type { Condition, Test } from '../config/conditions.js';
import { CALM, flapsAfter, reuseAt, type Flaps } from './damping.js';
import type { Readings } from './readings.js';
import { spanAt, type Span } from './time-spans.js';

export type Truth = boolean | null;

export interface Moment {
  readonly nowMs: number;
  readonly readings: Readings;
  readonly switchOn: (name: string) => boolean;
  /** Whether flapping is damped. */
  readonly damping: boolean;
}

export interface ConditionState {
  /** Of the test alone. */
  readonly test: Truth;
  /** With `for` and `until`, before damping. */
  readonly settled: Truth;
  /** What counts. */
  readonly holds: Truth;
  readonly sinceMs: number;
  /** Since when the test has held without a break; null while it does not, or while `until` keeps it from beginning. */
  readonly testSinceMs: number | null;
  /** What a threshold is compared with. */
  readonly value: number | null;
  readonly span: Span | null;
  readonly flaps: Flaps;
  readonly of: readonly ConditionState[];
  readonly until: ConditionState | null;
  /** When time alone may change something here or below; Infinity if never. */
  readonly dueMs: number;
}

export function evaluate(condition: Condition, before: ConditionState | null, moment: Moment): ConditionState {
  const { nowMs } = moment;
  const of = 'of' in condition.test ? condition.test.of.map((member, i) => evaluate(member, before?.of[i] ?? null, moment)) : [];
  const until = condition.until === null ? null : evaluate(condition.until, before?.until ?? null, moment);
  const span = spanOf(condition.test, before?.span ?? null, nowMs);
  const value = condition.test.kind === 'threshold' ? moment.readings.valueOf(condition.test.measure) : null;
  const test = testOf(condition.test, of, span, value, moment);

  const ended = until?.holds === true;
  // A clock that was set back must not make it wait for the time that it lost.
  const testSinceMs = test !== true || ended ? null : Math.min(before?.testSinceMs ?? nowMs, nowMs);
  const waits = testSinceMs !== null && nowMs - testSinceMs < condition.forMs;
  const latched = until !== null && before?.settled === true;
  const settled: Truth = latched ? !ended : test !== true ? test : !waits && !ended;

  // Time windows and switches change as often as people want them to.
  const damped = moment.damping && condition.test.kind === 'threshold';
  const changed = before !== null && (before.settled === true) !== (settled === true);
  const flaps = damped ? flapsAfter(before?.flaps ?? null, changed, nowMs) : CALM;
  const holds = flaps.suppressed ? null : settled;

  let dueMs = Math.min(span?.untilMs ?? Infinity, until?.dueMs ?? Infinity);
  for (const member of of) dueMs = Math.min(dueMs, member.dueMs);
  if (testSinceMs !== null && waits && !latched) dueMs = Math.min(dueMs, testSinceMs + condition.forMs);
  if (flaps.suppressed) dueMs = Math.min(dueMs, reuseAt(flaps));
  return { test, settled, holds, sinceMs: since(holds, before, span, condition, nowMs), testSinceMs, value, span, flaps, of, until, dueMs };
}

function since(holds: Truth, before: ConditionState | null, span: Span | null, { forMs, until }: Condition, nowMs: number): number {
  // Of a window that is all there is to it, it is known to the millisecond.
  if (span !== null && forMs === 0 && until === null && Number.isFinite(span.fromMs)) return span.fromMs;
  return before !== null && before.holds === holds ? Math.min(before.sinceMs, nowMs) : nowMs;
}

function spanOf(test: Test, before: Span | null, nowMs: number): Span | null {
  if (test.kind !== 'time') return null;
  return before !== null && before.fromMs <= nowMs && nowMs < before.untilMs ? before : spanAt(test.window, nowMs);
}

function testOf(test: Test, of: readonly ConditionState[], span: Span | null, value: number | null, moment: Moment): Truth {
  switch (test.kind) {
    case 'time':
      return span?.inside ?? null;
    case 'threshold':
      if (value === null) return null;
      return test.side === 'above' ? value > test.limit : value < test.limit;
    case 'switch':
      return moment.switchOn(test.name);
    case 'all':
      return of.some((member) => member.holds === false) ? false : of.every((member) => member.holds === true) ? true : null;
    case 'any':
      return of.some((member) => member.holds === true) ? true : of.every((member) => member.holds === false) ? false : null;
    case 'not': {
      const holds = of[0]?.holds ?? null;
      return holds === null ? null : !holds;
    }
  }
}
