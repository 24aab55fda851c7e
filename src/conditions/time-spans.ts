/** When the windows of a week are, in instants: daylight saving included. */
import { IANAZone } from 'luxon';
import { MINUTES_A_DAY, type TimeWindow } from '../config/time-window.js';

const MINUTE_MS = 60_000;
const DAY_MS = MINUTES_A_DAY * MINUTE_MS;
/** Wide enough for a weekly window that one change of the clock swallows whole. */
const DAYS_AROUND = 16;
/** No zone is further from UTC, and none changes its offset twice within this time. */
const OFFSET_REACH_MS = 1.5 * DAY_MS;

/** Time in which a window is or is not, from `fromMs` up to and without `untilMs`. */
export interface Span {
  readonly inside: boolean;
  /** -Infinity and Infinity where it has no end in sight. */
  readonly fromMs: number;
  readonly untilMs: number;
}

/**
 * The first and the last instant at which the clock of a zone shows a time, given as if it were UTC. They differ where the clock goes
 * back over it; where it leaps over it, both are the instant of the leap.
 */
export function instantsOf(zone: IANAZone, localMs: number): { readonly first: number; readonly last: number } {
  const [low, high] = [localMs - OFFSET_REACH_MS, localMs + OFFSET_REACH_MS];
  const [before, after] = [zone.offset(low) * MINUTE_MS, zone.offset(high) * MINUTE_MS];
  const shown = [localMs - before, localMs - after].filter((instant) => instant + zone.offset(instant) * MINUTE_MS === localMs);
  if (shown.length > 0) return { first: Math.min(...shown), last: Math.max(...shown) };
  const leap = changeOfOffset(zone, low, high, before);
  return { first: leap, last: leap };
}

function changeOfOffset(zone: IANAZone, low: number, high: number, offsetMs: number): number {
  let [old, changed] = [low, high];
  while (changed - old > 1) {
    const middle = Math.floor((old + changed) / 2);
    if (zone.offset(middle) * MINUTE_MS === offsetMs) old = middle;
    else changed = middle;
  }
  return changed;
}

/** Each day's window is one span: from the first instant at which the clock shows its begin to the last at which it shows its end. */
export function spanAt(window: TimeWindow, nowMs: number): Span {
  const zone = IANAZone.create(window.zone);
  const today = Math.floor((nowMs + zone.offset(nowMs) * MINUTE_MS) / DAY_MS) * DAY_MS;
  const inside: { from: number; until: number }[] = [];
  for (let day = today - DAYS_AROUND * DAY_MS; day <= today + DAYS_AROUND * DAY_MS; day += DAY_MS) {
    const weekday = (new Date(day).getUTCDay() + 6) % 7; // Monday is 0
    if (!window.days.includes(weekday)) continue;
    for (const { begin, end } of window.hours) {
      const from = instantsOf(zone, day + begin * MINUTE_MS).first;
      const until = instantsOf(zone, day + end * MINUTE_MS).last;
      if (from < until) inside.push({ from, until });
    }
  }
  inside.sort((a, b) => a.from - b.from);
  const merged: { from: number; until: number }[] = [];
  for (const span of inside) {
    const before = merged.at(-1);
    if (before !== undefined && span.from <= before.until) before.until = Math.max(before.until, span.until);
    else merged.push({ ...span });
  }
  const current = merged.find(({ from, until }) => from <= nowMs && nowMs < until);
  if (current !== undefined) return { inside: true, ...seen(current, nowMs) };
  const last = merged.findLast(({ until }) => until <= nowMs);
  const next = merged.find(({ from }) => from > nowMs);
  return { inside: false, fromMs: last?.until ?? -Infinity, untilMs: next?.from ?? nowMs + DAYS_AROUND * DAY_MS };
}

/** A window that goes on for two weeks has no gap in any: nothing begins or ends it. */
function seen({ from, until }: { readonly from: number; readonly until: number }, nowMs: number): { fromMs: number; untilMs: number } {
  const far = (DAYS_AROUND - 2) * DAY_MS;
  return { fromMs: nowMs - from < far ? from : -Infinity, untilMs: until - nowMs < far ? until : Infinity };
}
