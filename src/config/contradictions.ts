/** Members of one `all` that can't hold at one time. What can't be judged is taken to be possible. */
import { LOADS, RATES, timeWindow, type RawCondition, type RawThreshold } from './conditions.js';
import type { PathStep } from './document.js';
import { isObject, list, type Report } from './report.js';
import { notAZone, windowsMeet, type TimeWindow } from './time-window.js';

/** One test that must hold, or must not (below a `not`). */
interface Member {
  readonly path: readonly PathStep[];
  readonly raw: RawCondition;
  readonly holds: boolean;
}

/** Values for which a threshold holds. */
interface Range {
  readonly low: number;
  readonly high: number;
  /** Whether the ends are outside. */
  readonly lowOpen: boolean;
  readonly highOpen: boolean;
  readonly text: string;
}

interface Bounded extends Member {
  readonly range: Range;
}

export function checkContradictions(raw: RawCondition, path: readonly PathStep[], report: Report): void {
  if (!isObject(raw)) return;
  if (raw.all !== undefined) judge(list(raw.all).flatMap((member, i) => required(member as RawCondition, [...path, 'all', i], true)), report);
  // What lies in a nested `all` was judged with the outer one.
  for (const key of ['all', 'any'] as const) list(raw[key]).forEach((member, i) => checkInner(member as RawCondition, [...path, key, i], key, report));
  if (isObject(raw.not)) checkContradictions(raw.not as RawCondition, [...path, 'not'], report);
  if (isObject(raw.until)) checkContradictions(raw.until as RawCondition, [...path, 'until'], report);
}

function checkInner(member: RawCondition, path: readonly PathStep[], within: 'all' | 'any', report: Report): void {
  if (!isObject(member)) return;
  const plainAll = within === 'all' && member.all !== undefined && member.until === undefined;
  if (!plainAll) return checkContradictions(member, path, report);
  list(member.all).forEach((inner, i) => checkInner(inner as RawCondition, [...path, 'all', i], 'all', report));
}

/** Tests that an `all` needs, through further ones in it. A member with `until` may hold when its test does not. */
function required(raw: RawCondition, path: readonly PathStep[], holds: boolean): Member[] {
  if (!isObject(raw) || raw.until !== undefined) return [];
  if (isObject(raw.not)) return required(raw.not as RawCondition, [...path, 'not'], !holds);
  if (raw.all !== undefined) return holds ? list(raw.all).flatMap((member, i) => required(member as RawCondition, [...path, 'all', i], true)) : [];
  // Not held while `for` runs, so its absence says nothing.
  return !holds && raw.for !== undefined ? [] : [{ path, raw, holds }];
}

function judge(members: readonly Member[], report: Report): void {
  const ranges = new Map<string, Bounded[]>();
  const switches = new Map<string, boolean>();
  const windows: TimeWindow[] = [];
  for (const member of members) {
    const { raw, path, holds } = member;
    if (typeof raw.switch === 'string') {
      if ((switches.get(raw.switch) ?? holds) !== holds) report(path, `switch ${raw.switch} can't be on and off at one time, so this "all" never holds`, 'another condition', raw.switch);
      switches.set(raw.switch, holds);
    }
    const window = holds ? windowOf(raw) : null;
    if (window !== null) {
      if (windows.some((other) => !windowsMeet(other, window))) report([...path, 'time'], 'two windows that never meet, so this "all" never holds', 'a window that meets the others', raw.time);
      windows.push(window);
    }
    const [key, range] = rangeOf(raw, holds) ?? [];
    if (key === undefined || range === undefined) continue;
    const before = ranges.get(key) ?? [];
    const clash = before.find((other) => disjoint(other.range, range, !key.includes('_per_second') && !key.includes('cpu')));
    if (clash !== undefined) report(path, `${range.text} contradicts ${clash.range.text} before it, so this "all" never holds`, 'limits that can hold at one time', raw);
    ranges.set(key, [...before, { ...member, range }]);
  }
}

function windowOf({ time }: RawCondition): TimeWindow | null {
  if (!isObject(time) || (typeof time['zone'] === 'string' && notAZone(time['zone']) !== null)) return null;
  try {
    return timeWindow(time as NonNullable<RawCondition['time']>);
  } catch {
    return null; // said elsewhere
  }
}

/** The measured value's name, and what of it the threshold leaves. */
function rangeOf(raw: RawCondition, holds: boolean): readonly [string, Range] | null {
  const { load, healthy, streams, rate } = raw;
  const given: (readonly [string, unknown])[] = [['streams', streams]];
  if (isObject(healthy)) given.push([`healthy ${String(healthy['service'])}`, healthy]);
  if (isObject(load)) for (const of of LOADS) given.push([`load ${String(load['service'])} ${of}`, load[of]]);
  if (isObject(rate)) for (const of of RATES) given.push([`rate ${String(rate['capture'])} ${of}`, rate[of]]);
  const [key, threshold] = given.find(([, value]) => value !== undefined) ?? [];
  if (key === undefined || !isObject(threshold)) return null;
  const { above, below } = threshold as RawThreshold;
  const not = holds ? '' : 'not ';
  if (typeof above === 'number' && below === undefined) {
    return [key, holds ? { low: above, high: Infinity, lowOpen: true, highOpen: true, text: `above ${above}` } : { low: 0, high: above, lowOpen: false, highOpen: false, text: `${not}above ${above}` }];
  }
  if (typeof below === 'number' && above === undefined) {
    return [key, holds ? { low: 0, high: below, lowOpen: false, highOpen: true, text: `below ${below}` } : { low: below, high: Infinity, lowOpen: false, highOpen: true, text: `${not}below ${below}` }];
  }
  return null;
}

/** `counted`: there is nothing between a whole number and the next. */
function disjoint(a: Range, b: Range, counted: boolean): boolean {
  const lower = a.low > b.low || (a.low === b.low && a.lowOpen) ? a : b;
  const upper = a.high < b.high || (a.high === b.high && a.highOpen) ? a : b;
  if (lower.low > upper.high) return true;
  if (lower.low === upper.high) return lower.lowOpen || upper.highOpen;
  return counted && lower.lowOpen && upper.highOpen && upper.high - lower.low <= 1;
}
