/** What a schema can't say of conditions: names that are not there, impossible windows, conditions that contradict each other. */
import { KINDS, LOADS, RATES, type RawCondition, type RawThreshold } from './conditions.js';
import { checkContradictions } from './contradictions.js';
import type { PathStep } from './document.js';
import { isObject, list, type Report } from './report.js';
import { notAZone, parseDays, parseHours } from './time-window.js';

/** Deep enough for people. */
const MOST_LEVELS = 16;

export interface Known {
  readonly unknownName: (path: readonly PathStep[], what: string, name: unknown) => void;
  readonly duration: (path: readonly PathStep[], value: unknown) => void;
  readonly report: Report;
}

/** `more`: the sides of a threshold may stand here too, as in `until`. */
export function checkCondition(value: unknown, path: readonly PathStep[], known: Known, more: 'condition' | 'until' = 'condition', level = 0): void {
  if (!isObject(value)) return;
  const { report } = known;
  if (level === MOST_LEVELS) return report(path, `conditions lie at most ${MOST_LEVELS} deep in each other`, `at most ${MOST_LEVELS} levels`, value);
  known.duration([...path, 'for'], value['for']);
  const tests = KINDS.filter((kind) => value[kind] !== undefined);
  const asThreshold = more === 'until' && (value['above'] !== undefined || value['below'] !== undefined);
  const expected = more === 'until' ? `above, below, or one of ${KINDS.join(', ')}` : `one of ${KINDS.join(', ')}`;
  if (tests.length + (asThreshold ? 1 : 0) !== 1) {
    const found = [...tests, ...(asThreshold ? ['a threshold'] : [])].join(' and ');
    report(path, found === '' ? `expected ${expected}` : `expected exactly one test, found ${found}; join several by all or any`, expected, found === '' ? undefined : found);
  }
  checkTests(value, path, known, level);
  checkUntil(value, path, known, level);
}

function checkTests(value: Record<string, unknown>, path: readonly PathStep[], known: Known, level: number): void {
  const { report, unknownName } = known;
  const { time, load, healthy, streams, rate, switch: name, all, any, not } = value;
  if (isObject(time)) checkTime(time, [...path, 'time'], report);
  if (isObject(load)) {
    unknownName([...path, 'load', 'service'], 'service', load['service']);
    checkMeasured(load, LOADS, [...path, 'load'], report);
  }
  if (isObject(healthy)) {
    unknownName([...path, 'healthy', 'service'], 'service', healthy['service']);
    checkThreshold(healthy, [...path, 'healthy'], report);
  }
  checkThreshold(streams, [...path, 'streams'], report);
  if (isObject(rate)) {
    unknownName([...path, 'rate', 'capture'], 'capture', rate['capture']);
    checkMeasured(rate, RATES, [...path, 'rate'], report);
  }
  unknownName([...path, 'switch'], 'switch', name);
  for (const [key, members] of [['all', all], ['any', any]] as const) list(members).forEach((member, i) => checkCondition(member, [...path, key, i], known, 'condition', level + 1));
  checkCondition(not, [...path, 'not'], known, 'condition', level + 1);
  if (level === 0 && isObject(value)) checkContradictions(value as RawCondition, path, report);
}

function checkTime(time: Record<string, unknown>, path: readonly PathStep[], report: Report): void {
  if (time['days'] === undefined && time['hours'] === undefined) report(path, 'expected days, hours or both', 'days or hours', undefined);
  for (const [key, parse] of [['days', parseDays], ['hours', parseHours]] as const) {
    const value = time[key];
    const each: (readonly [readonly PathStep[], unknown])[] = Array.isArray(value) ? value.map((item, i) => [[...path, key, i], item] as const) : [[[...path, key], value]];
    for (const [at, item] of each) {
      const parsed = typeof item === 'string' ? parse(item) : null;
      if (typeof parsed === 'string') report(at, parsed, key === 'days' ? 'days' : 'hours', item);
    }
  }
  const wrong = typeof time['zone'] === 'string' ? notAZone(time['zone']) : null;
  if (wrong !== null) report([...path, 'zone'], wrong, 'an IANA time zone', time['zone']);
}

/** Exactly one of the things that can be measured, with its threshold. */
function checkMeasured(value: Record<string, unknown>, measures: readonly string[], path: readonly PathStep[], report: Report): void {
  const given = measures.filter((measure) => value[measure] !== undefined);
  if (given.length !== 1) report(path, `expected exactly one of ${measures.join(', ')}${given.length > 1 ? `, found ${given.join(' and ')}` : ''}`, measures.join(', '), given.length > 1 ? given.join(' and ') : undefined);
  for (const measure of given) checkThreshold(value[measure], [...path, measure], report);
}

function checkThreshold(value: unknown, path: readonly PathStep[], report: Report): void {
  if (!isObject(value)) return;
  const both = value['above'] !== undefined && value['below'] !== undefined;
  if (both) report(path, 'expected either above or below; for a range, join two conditions by all', 'above or below', 'both');
  else if (value['above'] === undefined && value['below'] === undefined) report(path, 'expected above: N or below: N', 'above or below', undefined);
  else if (value['below'] === 0) report([...path, 'below'], 'nothing is ever below 0', 'more than 0', 0);
}

function checkUntil(value: Record<string, unknown>, path: readonly PathStep[], known: Known, level: number): void {
  const { until } = value;
  if (!isObject(until)) return;
  const at = [...path, 'until'];
  checkCondition(until, at, known, 'until', level + 1);
  if (until['above'] === undefined && until['below'] === undefined) return;
  const begun = thresholdOf(value as RawCondition);
  if (begun === null) return known.report(at, 'a bare threshold goes with a condition that has one itself; name what is measured', 'a condition', until);
  checkThreshold(until, at, known.report);
  const { above, below } = until as RawThreshold;
  if ((begun.above !== undefined && above !== undefined) || (begun.below !== undefined && below !== undefined)) {
    known.report(at, `a condition that begins ${begun.above !== undefined ? 'above' : 'below'} a limit ends ${begun.above !== undefined ? 'below' : 'above'} one`, 'the other side', until);
    return;
  }
  // Of whole numbers there is none above 5 and below 6.
  const gap = isCounted(value as RawCondition) ? 1 : 0;
  if (begun.above !== undefined && below !== undefined && below > begun.above + gap) {
    known.report([...at, 'below'], `between ${begun.above} and ${below} it would begin and end at once; expected at most ${begun.above + gap}`, `at most ${begun.above + gap}`, below);
  } else if (begun.below !== undefined && above !== undefined && above < begun.below - gap) {
    known.report([...at, 'above'], `between ${above} and ${begun.below} it would begin and end at once; expected at least ${begun.below - gap}`, `at least ${begun.below - gap}`, above);
  }
}

/** Streams and instances are counted, rates and shares are not. */
const isCounted = ({ healthy, streams, load }: RawCondition): boolean => healthy !== undefined || streams !== undefined || load?.streams !== undefined;

function thresholdOf({ load, healthy, streams, rate }: RawCondition): RawThreshold | null {
  const found = healthy ?? streams ?? load?.packets_per_second ?? load?.streams ?? load?.cpu ?? rate?.bits_per_second ?? rate?.packets_per_second;
  return isObject(found) ? (found as RawThreshold) : null;
}
