/** Which units an appliance uses, and when their number follows the load. */
import t from 'tap';
import { chooseUnits, NO_PRESSURE, press } from '../../src/appliance/layout.js';

const units = ['a1', 'a2', 'a3', 'b1', 'b2', 'c1'].map((name, i) => ({ name, address: `10.0.0.${i}`, host: name.charAt(0), weight: 1, settings: {} }));
const choose = (count: number, options: { current?: string[]; perHost?: number; spread?: 'hosts' | 'order'; away?: string[] } = {}): string[] =>
  chooseUnits({ units, count, layout: { perHost: options.perHost ?? null, spread: options.spread ?? 'hosts' }, current: new Set(options.current), usable: ({ name }) => !(options.away ?? []).includes(name) });

t.test('spread over hosts, limits of hosts, the order of the document', async (t) => {
  t.strictSame(choose(3), ['a1', 'b1', 'c1']);
  t.strictSame(choose(4), ['a1', 'a2', 'b1', 'c1']);
  t.strictSame(choose(4, { spread: 'order' }), ['a1', 'a2', 'a3', 'b1']);
  t.strictSame(choose(6, { perHost: 2 }), ['a1', 'a2', 'b1', 'b2', 'c1'], 'fewer, where there is no room');
  t.strictSame(choose(3, { away: ['a1', 'c1'] }), ['a2', 'a3', 'b1']);
});

t.test('those that serve stay; who goes is of the fullest host', async (t) => {
  t.strictSame(choose(4, { current: ['a2', 'a3', 'b2'] }), ['a2', 'a3', 'b2', 'c1']);
  t.strictSame(choose(2, { current: ['a1', 'a2', 'b1'] }), ['a1', 'b1']);
  t.strictSame(choose(3, { current: ['a1', 'a2', 'b1'], away: ['b1'] }), ['a1', 'a2', 'b2']);
  t.strictSame(choose(3, { current: ['a1', 'a2', 'a3'], perHost: 2 }), ['a1', 'a2', 'b1'], 'a limit that is new is kept to');
});

t.test('thresholds: for long enough, and no removal that would bring the unit back', async (t) => {
  const thresholds = { metric: 'cpu', addAbove: 70, removeBelow: 40, forMs: 1000 } as const;
  let { pressure, change } = press(NO_PRESSURE, thresholds, 80, 2, 0);
  t.equal(change, 0);
  ({ pressure, change } = press(pressure, thresholds, 60, 2, 500));
  ({ pressure, change } = press(pressure, thresholds, 80, 2, 600));
  ({ pressure, change } = press(pressure, thresholds, 80, 2, 1500));
  t.equal(change, 0, 'it was not above all the time');
  ({ pressure, change } = press(pressure, thresholds, 80, 2, 1600));
  t.equal(change, 1);
  ({ pressure, change } = press(pressure, thresholds, 39, 2, 2000));
  ({ pressure, change } = press(pressure, thresholds, 39, 2, 9000));
  t.equal(change, 0, 'one alone would be at 78');
  ({ pressure, change } = press(pressure, thresholds, 30, 2, 9000));
  ({ pressure, change } = press(pressure, thresholds, 30, 2, 10_000));
  t.equal(change, -1);
  t.equal(press({ aboveMs: 0, belowMs: null }, thresholds, null, 2, 5000).change, 0, 'what is not known changes nothing');
});
