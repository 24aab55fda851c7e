/** Conditions of named configurations: the document's form and the one that the rest of weir sees. */
import { many, durationMs, type OneOrMany } from './forms.js';
import { parseDays, parseHours, type TimeWindow } from './time-window.js';

/** What can be measured and compared with a limit. */
export type Measure =
  | { readonly kind: 'load'; readonly service: string; readonly of: 'packets_per_second' | 'streams' | 'cpu' }
  | { readonly kind: 'healthy'; readonly service: string }
  | { readonly kind: 'streams' }
  | { readonly kind: 'rate'; readonly capture: string; readonly of: 'bits_per_second' | 'packets_per_second' };

export type Test =
  | { readonly kind: 'time'; readonly window: TimeWindow }
  | { readonly kind: 'threshold'; readonly measure: Measure; readonly side: 'above' | 'below'; readonly limit: number }
  | { readonly kind: 'switch'; readonly name: string }
  | { readonly kind: 'all' | 'any'; readonly of: readonly Condition[] }
  | { readonly kind: 'not'; readonly of: readonly [Condition] };

export interface Condition {
  readonly test: Test;
  /** How long the test must hold without a break before the condition does. */
  readonly forMs: number;
  /** Once the condition holds, it does until this one holds. */
  readonly until: Condition | null;
}

export interface SwitchConfig {
  readonly name: string;
  /** Before anybody turns it. */
  readonly on: boolean;
}

export interface RawThreshold {
  above?: number;
  below?: number;
}

export interface RawCondition {
  time?: { days?: OneOrMany<string>; hours?: OneOrMany<string>; zone?: string };
  load?: { service: string; packets_per_second?: RawThreshold; streams?: RawThreshold; cpu?: RawThreshold };
  healthy?: { service: string } & RawThreshold;
  streams?: RawThreshold;
  rate?: { capture: string; bits_per_second?: RawThreshold; packets_per_second?: RawThreshold };
  switch?: string;
  all?: readonly RawCondition[];
  any?: readonly RawCondition[];
  not?: RawCondition;
  for?: string;
  until?: RawCondition & RawThreshold;
}

export const KINDS = ['time', 'load', 'healthy', 'streams', 'rate', 'switch', 'all', 'any', 'not'] as const;
export const LOADS = ['packets_per_second', 'streams', 'cpu'] as const;
export const RATES = ['bits_per_second', 'packets_per_second'] as const;

const ALL_DAYS = [0, 1, 2, 3, 4, 5, 6];
const WHOLE_DAY = { begin: 0, end: 1440 };

export function timeWindow(raw: NonNullable<RawCondition['time']>): TimeWindow {
  const days = many(raw.days).flatMap((text) => parsedOr(parseDays(text)));
  const hours = many(raw.hours).map((text) => parsedOr(parseHours(text)));
  return { days: raw.days === undefined ? ALL_DAYS : [...new Set(days)].sort((a, b) => a - b), hours: raw.hours === undefined ? [WHOLE_DAY] : hours, zone: raw.zone ?? 'UTC' };
}

function parsedOr<T>(parsed: T | string): T {
  if (typeof parsed === 'string') throw new TypeError(parsed);
  return parsed;
}

function threshold(measure: Measure, raw: RawThreshold | undefined): Test {
  return raw?.above !== undefined ? { kind: 'threshold', measure, side: 'above', limit: raw.above } : { kind: 'threshold', measure, side: 'below', limit: raw?.below ?? 0 };
}

function test(raw: RawCondition): Test {
  const { time, load, healthy, streams, rate, all, any, not } = raw;
  if (time !== undefined) return { kind: 'time', window: timeWindow(time) };
  if (load !== undefined) {
    const of = LOADS.find((key) => load[key] !== undefined) ?? 'streams';
    return threshold({ kind: 'load', service: load.service, of }, load[of]);
  }
  if (healthy !== undefined) return threshold({ kind: 'healthy', service: healthy.service }, healthy);
  if (streams !== undefined) return threshold({ kind: 'streams' }, streams);
  if (rate !== undefined) {
    const of = RATES.find((key) => rate[key] !== undefined) ?? 'bits_per_second';
    return threshold({ kind: 'rate', capture: rate.capture, of }, rate[of]);
  }
  if (all !== undefined) return { kind: 'all', of: all.map(condition) };
  if (any !== undefined) return { kind: 'any', of: any.map(condition) };
  if (not !== undefined) return { kind: 'not', of: [condition(not)] };
  return { kind: 'switch', name: raw.switch ?? '' };
}

/** Of a condition that is known to be valid. */
export function condition(raw: RawCondition): Condition {
  const tested = test(raw);
  return { test: tested, forMs: forMs(raw), until: raw.until === undefined ? null : end(raw.until, tested) };
}

const forMs = (raw: RawCondition): number => (raw.for === undefined ? 0 : durationMs(raw.for));

/** `until: {below: 5}` is about what the condition itself measures. */
function end(raw: RawCondition & RawThreshold, begun: Test): Condition {
  if (begun.kind !== 'threshold' || (raw.above === undefined && raw.below === undefined)) return condition(raw);
  return { test: threshold(begun.measure, raw), forMs: forMs(raw), until: null };
}
