import t from 'tap';
import { durationText } from '../../src/conditions/describe.js';
import { parseConfiguration } from '../../src/config/load.js';
import { valid } from '../support/configuration.js';
import { BASE, variant, VirtualConditions } from '../support/conditions.js';

const START = '2026-06-15T00:00:00Z';
const plus = (seconds: number): string => new Date(Date.parse(START) + seconds * 1000).toISOString();
const seconds = (engine: VirtualConditions): string[] => engine.switches.map((line) => `${(Date.parse(line.slice(0, 24)) - Date.parse(START)) / 1000} ${line.slice(25)}`);
const PPS = 'load ids packets_per_second';

t.test('each kind of test holds when its value says so, and does not while it is unknown', async (t) => {
  const cases = [
    ['load: {service: ids, packets_per_second: {above: 10}}', PPS, 11, 10],
    ['load: {service: ids, streams: {below: 10}}', 'load ids streams', 9, 10],
    ['load: {service: ids, cpu: {above: 80}}', 'load ids cpu', 81, 80],
    ['healthy: {service: firewall, below: 2}', 'healthy firewall', 1, 2],
    ['streams: {above: 0}', 'streams', 1, 0],
    ['rate: {capture: web, bits_per_second: {above: 1000000000}}', 'rate web bits_per_second', 1_000_000_001, 1_000_000_000],
    ['rate: {capture: web, packets_per_second: {below: 5}}', 'rate web packets_per_second', 4.9, 5],
  ] as const;
  for (const [when, name, holds, not] of cases) {
    const engine = new VirtualConditions(variant('x', when), START);
    t.equal(engine.look(), '-', `${when}: unknown`);
    t.match(engine.view().configurations[0], { holds: null, conditions: [{ value: null, holds: null }] });
    t.equal(engine.look({ [name]: holds }), 'x', `${when}: ${holds}`);
    t.equal(engine.look({ [name]: not }), '-', `${when}: ${not}`);
    engine.look({ [name]: holds });
    t.equal(engine.look({}), '-', `${when}: unknown again`);
  }
});

t.test('all, any and not, with what is unknown', async (t) => {
  const [on, off, unknown] = ['switch: armed', 'switch: manual', 'load: {service: ids, cpu: {above: 1}}'];
  const cases: readonly (readonly [when: string, holds: boolean | null])[] = [
    [`all: [{${on}}, {${on}}]`, true],
    [`all: [{${on}}, {${off}}]`, false],
    [`all: [{${on}}, {${unknown}}]`, null],
    [`all: [{${off}}, {${unknown}}]`, false],
    [`any: [{${off}}, {${on}}]`, true],
    [`any: [{${off}}, {${off}}]`, false],
    [`any: [{${off}}, {${unknown}}]`, null],
    [`any: [{${on}}, {${unknown}}]`, true],
    [`not: {${on}}`, false],
    [`not: {${off}}`, true],
    [`not: {${unknown}}`, null],
    [`not: {any: [{${off}}, {not: {all: [{${on}}]}}]}`, true],
  ];
  for (const [when, holds] of cases) {
    const engine = new VirtualConditions(variant('x', when), START);
    t.equal(engine.look(), holds === true ? 'x' : '-', when);
    t.equal(engine.view().configurations[0]?.holds, holds, when);
  }
});

t.test('the highest priority that holds is in force; among equals the first written', async (t) => {
  const engine = new VirtualConditions(
    variant('low', 'switch: armed', ', priority: -1') + variant('first', 'streams: {above: 10}', ', priority: 5') + variant('second', 'streams: {above: 5}', ', priority: 5') + variant('high', 'switch: manual', ', priority: 9'),
    START,
  );
  t.equal(engine.look({ streams: 0 }), 'low');
  t.equal(engine.look({ streams: 6 }), 'second');
  t.equal(engine.look({ streams: 11 }), 'first');
  engine.turn('manual', true);
  t.equal(engine.look({ streams: 11 }), 'high');
  engine.turn('manual', false);
  t.equal(engine.look({ streams: 6 }), 'second');
});

t.test('for: it must hold that long without a break', async (t) => {
  const engine = new VirtualConditions(variant('busy', `load: {service: ids, packets_per_second: {above: 100}}, for: 30s`), START);
  const load = (ms: number): number => {
    const second = (ms - Date.parse(START)) / 1000;
    return second >= 10 && second < 35 ? 200 : second >= 40 && second < 75 ? 150 : 50;
  };
  engine.run(plus(120), (ms) => ({ [PPS]: load(ms) }));
  t.strictSame(seconds(engine), ['70 busy', '75 -'], '25 s are not enough; 40 + 30 is 70');
});

t.test('for of a fraction of a second ends at that instant, not at the next second', async (t) => {
  const engine = new VirtualConditions(variant('busy', 'streams: {above: 0}, for: 1500ms'), START);
  engine.run(plus(5), () => ({ streams: 1 }));
  t.strictSame(seconds(engine), ['1.5 busy']);
});

t.test('until: once in force it stays until the other threshold, or the other condition', async (t) => {
  const engine = new VirtualConditions(variant('busy', 'streams: {above: 100}, until: {below: 50, for: 10s}'), START);
  const streams = (ms: number): number => [60, 120, 90, 60, 40, 60, 45, 45, 45, 60, 99][Math.floor((ms - Date.parse(START)) / 5000)] ?? 99;
  engine.run(plus(60), (ms) => ({ streams: streams(ms) }));
  t.strictSame(seconds(engine), ['5 busy', '40 -'], '5 s below 50 are not enough; 30 + 10 is 40; 99 is not above 100');

  const latch = new VirtualConditions(variant('alarm', 'streams: {above: 100}, until: {switch: manual}'), START);
  latch.look({ streams: 101 });
  t.equal(latch.look({ streams: 0 }), 'alarm');
  t.equal(latch.look({}), 'alarm', 'unknown is no end');
  latch.turn('manual', true);
  t.equal(latch.look({ streams: 101 }), '-', 'what ends it keeps it from beginning');
  latch.turn('manual', false);
  t.equal(latch.look({ streams: 101 }), 'alarm');
});

t.test('a flapping load is damped until it is calm, with for and until it never flaps', async (t) => {
  const flapping = (ms: number) => ({ [PPS]: Math.floor((ms - Date.parse(START)) / 5000) % 2 === 1 && ms < Date.parse(plus(300)) ? 200 : ms < Date.parse(plus(300)) ? 20 : 200 });
  const test = 'load: {service: ids, packets_per_second: {above: 100}}';

  const bare = new VirtualConditions(variant('busy', test, ', damping: off'), START);
  bare.run(plus(600), flapping);
  t.equal(bare.switches.length, 59, 'every one of them without damping');

  const damped = new VirtualConditions(variant('busy', test), START);
  damped.run(plus(600), flapping);
  t.equal(damped.switches.length, 4 + 1);
  t.strictSame(seconds(damped).slice(0, 4), ['5 busy', '10 -', '15 busy', '20 -']);
  const back = Date.parse(damped.switches[4]?.slice(0, 24) ?? '') - Date.parse(plus(300));
  t.ok(back > 60_000 && back < 150_000, `believed again after ${back / 1000} s of calm`);

  const waiting = new VirtualConditions(variant('busy', `${test}, for: 30s`), START);
  waiting.run(plus(600), flapping);
  t.strictSame(seconds(waiting), ['325 busy'], 'for alone waits for the end of it, at 295');

  const hysteresis = new VirtualConditions(variant('busy', `${test}, until: {below: 50, for: 20s}`), START);
  hysteresis.run(plus(600), flapping);
  t.strictSame(seconds(hysteresis), ['5 busy'], 'until keeps it in force through all of it');
});

t.test('damping is seen, and its end known', async (t) => {
  const engine = new VirtualConditions(variant('busy', 'streams: {above: 100}'), START);
  for (let i = 0; i < 5; i++, engine.clock.ms += 1000) engine.look({ streams: i % 2 === 0 ? 0 : 200 });
  engine.look({ streams: 200 });
  const row = engine.view().configurations[0]?.conditions[0];
  t.match(row, { damped: true, holds: null, next: { what: /flaps/ } });
  t.equal(engine.view().next?.inForce, 'busy');
  engine.clock.ms = Date.parse(engine.view().next?.at ?? '') - 1;
  t.equal(engine.look({ streams: 200 }), '-');
  engine.clock.ms += 1;
  t.equal(engine.look({ streams: 200 }), 'busy', 'at that very instant');
});

t.test('people may turn a switch as often as they want', async (t) => {
  const engine = new VirtualConditions(variant('by-hand', 'switch: manual'), START);
  for (let i = 0; i < 50; i++, engine.clock.ms += 100) {
    engine.turn('manual', i % 2 === 0);
    t.equal(engine.look(), i % 2 === 0 ? 'by-hand' : '-');
  }
});

t.test('what would switch next, and when', async (t) => {
  const engine = new VirtualConditions(
    variant('office', 'time: {days: mon-fri, hours: 08:00-18:00, zone: Europe/Berlin}', ', priority: 1') + variant('busy', 'streams: {above: 10}, for: 1h', ', priority: 2'),
    '2026-06-19T15:30:00Z',
  );
  engine.look({ streams: 0 });
  t.match(engine.view(), { inForce: 'office', next: { at: '2026-06-19T16:00:00.000Z', inForce: null } });
  engine.look({ streams: 11 });
  t.match(engine.view(), { next: { at: '2026-06-19T16:00:00.000Z', inForce: null } });
  engine.clock.ms = Date.parse('2026-06-19T16:00:00Z');
  engine.look({ streams: 11 });
  t.match(engine.view(), { inForce: null, next: { at: '2026-06-19T16:30:00.000Z', inForce: 'busy' } });
  engine.look({ streams: 0 });
  t.match(engine.view(), { next: { at: '2026-06-22T06:00:00.000Z', inForce: 'office' }, configurations: [{ since: '2026-06-19T16:00:00.000Z' }] });
});

t.test('a new configuration keeps what is known of conditions that are written alike', async (t) => {
  const engine = new VirtualConditions(variant('busy', 'streams: {above: 10}, for: 30s') + variant('other', 'switch: armed', ', priority: -1'), START);
  engine.look({ streams: 11 });
  engine.clock.ms += 20_000;
  const next = valid(`${BASE}configurations:\n${variant('busy', 'streams: {above: 10}, for: 30s', ', priority: 3')}${variant('other', 'switch: manual', ', priority: -1')}`);
  t.equal(engine.conditions.decided(next).policies, next.policies);
  engine.clock.ms += 10_000;
  engine.conditions.look(next);
  t.equal(engine.conditions.decided(next).policies[0]?.name, 'busy', '30 s in all, over the edit');
  t.equal(engine.conditions.decided(engine.configuration).policies[0]?.name, 'busy', 'and back');
});

t.test('a list is the same as a mapping, and short forms are written out', async (t) => {
  const list = valid(`${BASE}configurations: [{name: x, when: {time: {days: [sat-mon, mon], hours: 22:00-06:00}}, policies: []}]`);
  const map = valid(`${BASE}configurations: {x: {when: {time: {days: [mon, sat, sun], hours: [22:00-06:00], zone: UTC}}, policies: []}}`);
  t.strictSame(list.configurations, map.configurations);
  t.match(list.configurations[0], { priority: 0, damping: true, when: { forMs: 0, until: null, test: { window: { days: [0, 5, 6], hours: [{ begin: 1320, end: 1800 }] } } } });
  t.strictSame(['500ms', '90s', '2m', '48h'].map((text) => durationText(Number.parseInt(text, 10) * ({ ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[text.replace(/[0-9]/g, '')] ?? 0))), ['500ms', '90s', '2m', '48h']);
  t.ok(parseConfiguration('captures: [{name: web, in: a, out: b}]\nconfigurations: {}\nswitches: {}', 'x').ok);
});
