import t from 'tap';
import { spanAt } from '../../src/conditions/time-spans.js';
import { timeWindow } from '../../src/config/conditions.js';
import { at, variant, VirtualConditions } from '../support/conditions.js';

const DAY = 86_400_000;
const HOUR = 3_600_000;

const WEEKS = [
  { zone: 'Europe/Berlin', monday: '2026-06-15', change: '2027-01-01T00:00:00Z', hours: [2, 2], title: 'a summer week in Berlin' },
  { zone: 'Europe/Berlin', monday: '2026-03-23', change: '2026-03-29T01:00:00Z', hours: [1, 2], title: 'Berlin goes forward' },
  { zone: 'Europe/Berlin', monday: '2026-10-19', change: '2026-10-25T01:00:00Z', hours: [2, 1], title: 'Berlin goes back' },
  { zone: 'America/New_York', monday: '2026-03-02', change: '2026-03-08T07:00:00Z', hours: [-5, -4], title: 'New York goes forward' },
  { zone: 'America/New_York', monday: '2026-10-26', change: '2026-11-01T06:00:00Z', hours: [-4, -5], title: 'New York goes back' },
] as const;

for (const { zone, monday, change, hours, title } of WEEKS) {
  t.test(`a week, second by second: ${title}`, async (t) => {
    // By hand, so that no library judges itself.
    const instant = (day: number, hour: number): string => {
      const local = at(monday) + day * DAY + hour * HOUR;
      const before = local - hours[0] * HOUR;
      return new Date(before < at(change) ? before : local - hours[1] * HOUR).toISOString();
    };
    const engine = new VirtualConditions(
      variant('office', `time: {days: [mon-fri], hours: 08:00-18:00, zone: ${zone}}`, ', priority: 10') +
        variant('night', `time: {hours: 22:00-06:00, zone: ${zone}}`, ', priority: 5') +
        variant('weekend', `time: {days: [sat, sun], zone: ${zone}}`),
      instant(0, 0),
    );
    const expected = [`${instant(0, 0)} night`, `${instant(0, 6)} -`];
    for (let day = 0; day < 7; day++) {
      if (day > 0) expected.push(`${instant(day, 6)} ${day < 5 ? '-' : 'weekend'}`);
      if (day < 5) expected.push(`${instant(day, 8)} office`, `${instant(day, 18)} -`);
      expected.push(`${instant(day, 22)} night`);
    }
    expected.push(`${instant(7, 6)} -`, `${instant(7, 8)} office`);
    t.strictSame(engine.run(instant(7, 9)), expected);
  });
}

/** `12:05:30` as seconds of the day. */
const clock = (text: string): number => text.split(':').reduce((sum, part) => sum * 60 + Number(part), 0);

for (const { zone, monday, change, hours, title } of WEEKS.slice(1, 3)) {
  t.test(`a week of windows, load that must last, load that flaps, by priority: ${title}`, async (t) => {
    const utc = (day: number, time: string): string => {
      const local = at(monday) + day * DAY + clock(time) * 1000;
      const before = local - hours[0] * HOUR;
      return new Date(before < at(change) ? before : local - hours[1] * HOUR).toISOString();
    };
    // Each day at noon load for ten minutes, in the second half with a gap each five seconds; from two to three o'clock streams that come and go.
    const readings = (ms: number): Record<string, number> => {
      const seconds = ((ms + (ms < at(change) ? hours[0] : hours[1]) * HOUR - at(monday)) % DAY) / 1000;
      const within = (begin: string, end: string): boolean => seconds >= clock(begin) && seconds < clock(end);
      const odd = Math.floor(seconds / 5) % 2 === 1;
      const gap = within('12:05:00', '12:10:00') && !odd;
      return {
        'load ids packets_per_second': within('12:00:00', '12:10:00') && !gap ? 200 : within('10:00:00', '10:00:29') ? 200 : 20,
        streams: within('14:00:00', '15:00:00') && odd ? 150 : 50,
      };
    };
    const engine = new VirtualConditions(
      variant('flapping', 'streams: {above: 100}', ', priority: 30') +
        variant('busy', 'load: {service: ids, packets_per_second: {above: 100}}, for: 30s, until: {below: 50, for: 1m}', ', priority: 20') +
        variant('office', `time: {days: [mon-fri], hours: 08:00-18:00, zone: ${zone}}`, ', priority: 10') +
        variant('night', `time: {hours: 22:00-06:00, zone: ${zone}}`),
      utc(0, '07:00:00'),
    );
    const expected: string[] = [];
    for (let day = 0; day < 7; day++) {
      const [weekday, else_] = day < 5 ? [true, 'office'] : [false, '-'];
      if (day > 0) expected.push(`${utc(day, '06:00:00')} -`);
      if (weekday) expected.push(`${utc(day, '08:00:00')} office`);
      // 29 s at ten o'clock are too short; the gaps after 12:05 are shorter than a minute, the calm after 12:10 is not.
      expected.push(`${utc(day, '12:00:30')} busy`, `${utc(day, '12:11:00')} ${else_}`);
      // Four changes are believed, the 716 after them are not; at three it is calm, and as it was.
      expected.push(`${utc(day, '14:00:05')} flapping`, `${utc(day, '14:00:10')} ${else_}`, `${utc(day, '14:00:15')} flapping`, `${utc(day, '14:00:20')} ${else_}`);
      if (weekday) expected.push(`${utc(day, '18:00:00')} -`);
      expected.push(`${utc(day, '22:00:00')} night`);
    }
    const begun = Date.now();
    t.strictSame(engine.run(utc(7, '05:00:00'), readings), expected);
    t.comment(`a week in ${((Date.now() - begun) / 1000).toFixed(1)} s`);
  });
}

const window = (days: string, hours: string, zone: string) => timeWindow({ days, hours, zone });

/** Spans of a window that begin in a week, as the engine goes from one to the next. */
function spansOf(days: string, hours: string, zone: string, from: string, until: string): string[] {
  const spans: string[] = [];
  for (let now = at(from); now < at(until); ) {
    const span = spanAt(window(days, hours, zone), now);
    if (span.inside) spans.push(`${new Date(span.fromMs).toISOString().slice(0, 16)} ${new Date(span.untilMs).toISOString().slice(0, 16)}`);
    now = span.untilMs;
  }
  return spans;
}

t.test('windows in the hour that is lost, and in the one that is there twice', async (t) => {
  const cases = [
    ['its begin is lost', '02:30-03:30', 'Europe/Berlin', '2026-03-28', ['2026-03-29T01:00 2026-03-29T01:30']],
    ['its end is lost', '01:30-02:30', 'Europe/Berlin', '2026-03-28', ['2026-03-29T00:30 2026-03-29T01:00']],
    ['all of it is lost', '02:15-02:45', 'Europe/Berlin', '2026-03-28', []],
    ['the hour itself', '02:00-03:00', 'Europe/Berlin', '2026-03-28', []],
    ['the hour is there twice', '02:00-03:00', 'Europe/Berlin', '2026-10-24', ['2026-10-25T00:00 2026-10-25T02:00']],
    ['its begin is there twice', '02:30-04:00', 'Europe/Berlin', '2026-10-24', ['2026-10-25T00:30 2026-10-25T03:00']],
    ['its end is there twice', '01:00-02:30', 'Europe/Berlin', '2026-10-24', ['2026-10-24T23:00 2026-10-25T01:30']],
    ['in New York', '01:30-03:00', 'America/New_York', '2026-10-31', ['2026-11-01T05:30 2026-11-01T08:00']],
    ['in New York, lost', '02:00-02:59', 'America/New_York', '2026-03-07', []],
    ['where it is half an hour', '01:45-02:15', 'Australia/Lord_Howe', '2026-04-04', ['2026-04-04T14:45 2026-04-04T15:45']],
  ] as const;
  for (const [claim, hours, zone, saturday, spans] of cases) {
    t.strictSame(spansOf('sun', hours, zone, `${saturday}T00:00:00Z`, new Date(at(`${saturday}T00:00:00Z`) + 3 * DAY).toISOString()), spans, claim);
  }
});

t.test('a lost window comes again a week later', async (t) => {
  const span = spanAt(window('sun', '02:15-02:45', 'Europe/Berlin'), at('2026-03-29T00:00:00Z'));
  t.equal(new Date(span.untilMs).toISOString(), '2026-04-05T00:15:00.000Z');
});

t.test('a window over midnight is that of the day on which it begins', async (t) => {
  t.strictSame(spansOf('fri', '22:00-06:00', 'UTC', '2026-06-15T00:00:00Z', '2026-06-22T00:00:00Z'), ['2026-06-19T22:00 2026-06-20T06:00']);
  t.strictSame(spansOf('sun', '22:00-06:00', 'UTC', '2026-06-15T00:00:00Z', '2026-06-23T00:00:00Z'), ['2026-06-14T22:00 2026-06-15T06:00', '2026-06-21T22:00 2026-06-22T06:00']);
});

t.test('windows that touch are one, so that nothing switches between them', async (t) => {
  t.strictSame(spansOf('mon-wed', '00:00-24:00', 'UTC', '2026-06-15T00:00:00Z', '2026-06-22T00:00:00Z'), ['2026-06-15T00:00 2026-06-18T00:00']);
  const split = spanAt(timeWindow({ days: 'mon', hours: ['08:00-12:00', '11:00-14:00', '14:00-15:00'] }), at('2026-06-15T09:00:00Z'));
  t.match(split, { inside: true, fromMs: at('2026-06-15T08:00:00Z'), untilMs: at('2026-06-15T15:00:00Z') });
});

t.test('a window without an end holds always', async (t) => {
  const always = new VirtualConditions(variant('always', 'time: {hours: 00:00-24:00, zone: Europe/Berlin}'), '2026-03-20T00:00:00Z');
  for (let day = 0; day < 30; day++, always.clock.ms += DAY) t.equal(always.look(), 'always');
  t.equal(always.conditions.dueMs, Infinity);
  t.match(always.view().configurations[0]?.conditions[0]?.next, { at: null, what: 'always' });
});

t.test('a clock that is set back or forward is believed', async (t) => {
  const engine = new VirtualConditions(variant('office', 'time: {days: mon-fri, hours: 08:00-18:00}'), '2026-06-15T09:00:00Z');
  t.equal(engine.look(), 'office');
  engine.clock.ms = at('2026-06-15T07:59:59Z');
  t.equal(engine.look(), '-');
  engine.clock.ms = at('2026-06-19T17:59:59.999Z');
  t.equal(engine.look(), 'office');
  engine.clock.ms += 1;
  t.equal(engine.look(), '-');
});
