/**
 * What is believed of one instance, from what its checks say: rise answers in a row make it up, fall misses in a row make it down. A
 * pure function of (state, observation, settings, time). An instance that keeps going down is held down for a while (RFC 2439).
 */
import { CALM, flapsAfter, reuseAt, type Flaps } from '../conditions/damping.js';

export interface HealthSettings {
  readonly rise: number;
  readonly fall: number;
}

/** The last checks, counted: of each pair of counts one is 0. */
export interface Observation {
  readonly answered: number;
  readonly missed: number;
  /** Why the last one was missed. */
  readonly cause: string;
  /** Of the last answer. */
  readonly latencyMs: number | null;
}

export interface HealthState {
  readonly up: boolean;
  /** When it became so, in ms of the epoch. */
  readonly sinceMs: number;
  /** Why: `not checked yet`, `answers`, `tcp 8080: connection refused (3 in a row)` … */
  readonly cause: string;
  /** Whether a check has ever come to an end. */
  readonly checked: boolean;
  readonly latencyMs: number | null;
  readonly flaps: Flaps;
  /** It answers, and is held down because it went down too often. */
  readonly held: boolean;
}

/** Before the first check. What was there at the start is believed to work; what comes later has to answer once. */
export function unchecked(up: boolean, nowMs: number): HealthState {
  return { up, sinceMs: nowMs, cause: 'not checked yet', checked: false, latencyMs: null, flaps: CALM, held: false };
}

export function observe(before: HealthState, seen: Observation, { rise, fall }: HealthSettings, nowMs: number): HealthState {
  const latencyMs = seen.latencyMs ?? before.latencyMs;
  const checked = before.checked || seen.answered > 0 || seen.missed > 0;
  const state = { ...before, latencyMs, checked };
  if (seen.missed >= fall) return before.up ? down(state, `${seen.cause} (${seen.missed} in a row)`, nowMs) : refreshed(state, `${seen.cause} (${fall} in a row)`);
  if (before.up) return seen.answered > 0 && before.cause === 'not checked yet' ? { ...state, cause: 'answers' } : state;
  // The first answer of all is enough for one that was never up.
  if (seen.answered < (before.checked ? rise : 1)) return seen.missed > 0 ? { ...state, held: false } : state;
  const flaps = flapsAfter(before.flaps, false, nowMs);
  if (flaps.suppressed) return { ...state, flaps, held: true, cause: `went down too often: held down until ${new Date(reuseAt(flaps)).toISOString()}` };
  return up(state, 'answers', nowMs);
}

/** It fails in use, whatever its checks say. */
export function failed(before: HealthState, cause: string, nowMs: number): HealthState {
  return before.up ? down(before, cause, nowMs) : { ...before, held: false, cause };
}

/** It is believed again without an answer: on trial, or because it is the last one left. */
export function trusted(before: HealthState, cause: string, nowMs: number): HealthState {
  return before.up ? before : up(before, cause, nowMs);
}

const up = (state: HealthState, cause: string, nowMs: number): HealthState => ({ ...state, up: true, held: false, sinceMs: nowMs, cause });

function down(state: HealthState, cause: string, nowMs: number): HealthState {
  return { ...state, up: false, held: false, sinceMs: nowMs, cause, flaps: flapsAfter(state.flaps, true, nowMs) };
}

/** Down before; one that never answered gets its real cause. */
const refreshed = (state: HealthState, cause: string): HealthState => (state.held || state.cause === 'not checked yet' ? { ...state, held: false, cause } : state);
