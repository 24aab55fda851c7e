/** Time windows of a week as texts: `mon-fri`, `22:00-06:00`, `Europe/Berlin`. When they are, in instants, is src/conditions/time-spans.ts. */
import { IANAZone } from 'luxon';
import { nearest } from './nearest.js';

export const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const;
export const MINUTES_A_DAY = 1440;
const MINUTES_A_WEEK = 7 * MINUTES_A_DAY;

/** Minutes of the clock from the midnight that begins the day; an end over 1440 is on the day after. */
export interface Hours {
  readonly begin: number;
  readonly end: number;
}

export interface TimeWindow {
  /** Days on which the window begins: 0 is Monday. */
  readonly days: readonly number[];
  readonly hours: readonly Hours[];
  /** IANA name. */
  readonly zone: string;
}

/** `fri`, or `mon-fri`, or `sat-mon` over the week's end; or a sentence on what is wrong. */
export function parseDays(text: string): readonly number[] | string {
  const [first = '', last = first, ...rest] = text.split('-');
  for (const day of [first, last]) {
    if ((DAYS as readonly string[]).includes(day)) continue;
    const near = nearest(day, DAYS) ?? DAYS.find((known) => day.toLowerCase().startsWith(known));
    return `expected a day (${DAYS.join(', ')}) or a range such as mon-fri, found "${text}"${near === undefined ? '' : `; did you mean "${near}"?`}`;
  }
  if (rest.length > 0) return `expected a day or a range such as mon-fri, found "${text}"`;
  const [from, to] = [DAYS.indexOf(first as 'mon'), DAYS.indexOf(last as 'mon')];
  return Array.from({ length: ((to - from + 7) % 7) + 1 }, (_, i) => (from + i) % 7);
}

/** `08:00-18:00`; an end before the begin is on the next day; or a sentence on what is wrong. */
export function parseHours(text: string): Hours | string {
  const [, h1, m1, h2, m2] = /^([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})$/.exec(text) ?? [];
  if (h1 === undefined) return `expected hours such as 08:00-18:00, found "${text}"`;
  const begin = Number(h1) * 60 + Number(m1);
  const end = Number(h2) * 60 + Number(m2);
  if (begin >= MINUTES_A_DAY || end > MINUTES_A_DAY || Number(m1) > 59 || Number(m2) > 59) {
    return `there is no such time of day in "${text}": a window begins between 00:00 and 23:59 and ends between 00:00 and 24:00`;
  }
  if (begin === end) return `"${text}" ends when it begins; for a whole day write 00:00-24:00`;
  return { begin, end: end > begin ? end : end + MINUTES_A_DAY };
}

/** Why it is no zone, or null. Offsets such as +01:00 are none: they know no daylight saving. */
export function notAZone(text: string): string | null {
  if (/^[A-Za-z]/.test(text) && IANAZone.isValidZone(text)) return null;
  const near = nearest(text, ['UTC', ...Intl.supportedValuesOf('timeZone')]);
  return `there is no time zone "${text}"; ${near === null ? 'a zone is named as IANA does: Europe/Berlin, America/New_York, UTC' : `did you mean "${near}"?`}`;
}

/** What of the week the windows cover, in minutes from Monday 00:00. */
function* minutesOfWeek({ days, hours }: TimeWindow): Generator<Hours> {
  for (const day of days) {
    for (const { begin, end } of hours) {
      const from = day * MINUTES_A_DAY + begin;
      const to = day * MINUTES_A_DAY + end;
      yield { begin: from, end: Math.min(to, MINUTES_A_WEEK) };
      if (to > MINUTES_A_WEEK) yield { begin: 0, end: to - MINUTES_A_WEEK };
    }
  }
}

/** Whether both can hold at one time; windows of different zones are taken to. */
export function windowsMeet(a: TimeWindow, b: TimeWindow): boolean {
  if (a.zone !== b.zone) return true;
  const others = [...minutesOfWeek(b)];
  return [...minutesOfWeek(a)].some((one) => others.some((other) => one.begin < other.end && other.begin < one.end));
}
