/** Conditions in words. */
import type { Condition, Measure, Test } from '../config/conditions.js';
import { DAYS, MINUTES_A_DAY, type Hours, type TimeWindow } from '../config/time-window.js';

const UNITS = { packets_per_second: 'packets/s', bits_per_second: 'bits/s', streams: 'streams', cpu: '% cpu' } as const;

export function unitOf(measure: Measure): string {
  if (measure.kind === 'load' || measure.kind === 'rate') return UNITS[measure.of];
  return measure.kind === 'healthy' ? 'instances' : 'streams';
}

export function durationText(ms: number): string {
  if (ms % 1000 !== 0) return `${ms}ms`;
  const seconds = ms / 1000;
  return seconds % 3600 === 0 ? `${seconds / 3600}h` : seconds % 60 === 0 ? `${seconds / 60}m` : `${seconds}s`;
}

const clock = (minute: number): string => `${String(Math.floor(minute / 60)).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`;
const hoursText = ({ begin, end }: Hours): string => `${clock(begin)}-${clock(end > MINUTES_A_DAY ? end - MINUTES_A_DAY : end)}`;

/** `mon-fri, sun` of 0 to 4 and 6. */
function daysText(days: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const day of days) {
    const run = runs.at(-1);
    if (run !== undefined && run[1] === day - 1) run[1] = day;
    else runs.push([day, day]);
  }
  return runs.map(([from, to]) => (from === to ? DAYS[from] : `${DAYS[from]}-${DAYS[to]}`)).join(', ');
}

function windowText({ days, hours, zone }: TimeWindow): string {
  const when = hours.map(hoursText).join(', ');
  return `time ${[days.length === 7 ? '' : daysText(days), when === '00:00-24:00' ? '' : when, zone].filter((part) => part !== '').join(' ')}`;
}

export function measureText(measure: Measure): string {
  switch (measure.kind) {
    case 'load':
      return `load of ${measure.service}`;
    case 'healthy':
      return `healthy instances of ${measure.service}`;
    case 'streams':
      return 'live streams';
    case 'rate':
      return `rate of ${measure.capture}`;
  }
}

const withUnit = (measure: Measure): string => (measure.kind === 'load' || measure.kind === 'rate' ? ` ${unitOf(measure)}` : '');

/** The test by itself; of several joined ones only how they are. */
export function headText(test: Test): string {
  switch (test.kind) {
    case 'time':
      return windowText(test.window);
    case 'threshold':
      return `${measureText(test.measure)} ${test.side} ${test.limit}${withUnit(test.measure)}`;
    case 'switch':
      return `switch ${test.name}`;
    case 'all':
      return 'all of';
    case 'any':
      return 'any of';
    case 'not':
      return 'not';
  }
}

/** `for` and `until` behind it. */
export function tailText({ test, forMs, until }: Condition): string {
  const same = until?.test.kind === 'threshold' && test.kind === 'threshold' && measureText(until.test.measure) === measureText(test.measure) && unitOf(until.test.measure) === unitOf(test.measure);
  const end = until === null ? '' : same && until.test.kind === 'threshold' ? ` until ${until.test.side} ${until.test.limit}${until.forMs > 0 ? ` for ${durationText(until.forMs)}` : ''}` : ` until ${conditionText(until)}`;
  return `${forMs > 0 ? ` for ${durationText(forMs)}` : ''}${end}`;
}

/** All of it on one line. */
export function conditionText(condition: Condition): string {
  const { test } = condition;
  if (test.kind === 'all' || test.kind === 'any') {
    const members = test.of.map(conditionText).join(test.kind === 'all' ? ' and ' : ' or ');
    const tail = tailText(condition);
    return test.of.length > 1 || tail !== '' ? `(${members})${tail}` : members;
  }
  return test.kind === 'not' ? `not ${conditionText(test.of[0])}${tailText(condition)}` : `${headText(test)}${tailText(condition)}`;
}
