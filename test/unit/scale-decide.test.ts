/** How many instances a load asks for, over minutes of virtual time. */
import t from 'tap';
import fc from 'fast-check';
import { AT_FIRST, changed, decide, type Demand } from '../../src/scale/decide.js';

const SETTINGS = { min: 1, max: 8, target: 100, step: { up: 1, down: 1 }, cooldownMs: { up: 5000, down: 30_000 } };
type Settings = typeof SETTINGS;

/** Looks each second; instances come and go at once. */
class Service {
  count: number;
  ms = 1_000_000;
  demand: Demand = AT_FIRST;
  readonly history: (readonly [second: number, count: number])[] = [];

  constructor(
    private readonly settings: Settings = SETTINGS,
    count = 1,
  ) {
    this.count = count;
  }

  run(seconds: number, load: number | null | ((second: number) => number)): number {
    for (let second = 0; second < seconds; second++) {
      this.ms += 1000;
      const { demand, change } = decide(this.demand, { count: this.count, coming: 0, load: typeof load === 'function' ? load(second) : load }, this.settings, this.ms);
      this.demand = change === 0 ? demand : changed(demand, this.ms);
      this.count += change;
      if (change !== 0) this.history.push([second, this.count]);
    }
    return this.count;
  }
}

t.test('one comes at a time, a cooldown apart, until the load is carried', async (t) => {
  const it = new Service();
  t.equal(it.run(60, 350), 4);
  const seconds = it.history.map(([second]) => second);
  t.ok(seconds.every((second, i) => i === 0 || second - (seconds[i - 1] ?? 0) >= 5), seconds.join(' '));
});

t.test('steps of more, never more than are needed nor than max', async (t) => {
  t.equal(new Service({ ...SETTINGS, step: { up: 5, down: 5 } }).run(1, 350), 4);
  t.equal(new Service({ ...SETTINGS, step: { up: 5, down: 5 } }).run(60, 5000), 8);
});

t.test('they go when fewer were enough all the time of the cooldown, and leave room', async (t) => {
  const it = new Service(SETTINGS, 4);
  t.equal(it.run(29, 50), 4);
  t.equal(it.run(120, 50), 1);
  t.equal(new Service(SETTINGS, 4).run(300, 290), 4, '290 on three would be more than 90 % of what they should carry');
  t.equal(new Service(SETTINGS, 4).run(300, 260), 3);
});

t.test('a peak in between keeps them', async (t) => {
  t.equal(new Service(SETTINGS, 4).run(300, (second) => (second % 20 < 5 ? 390 : 50)), 4);
});

t.test('a load that is not known changes nothing; too few or too many do at once', async (t) => {
  t.equal(new Service(SETTINGS, 4).run(300, null), 4);
  t.equal(new Service({ ...SETTINGS, min: 3 }, 0).run(1, null), 3);
  t.equal(new Service({ ...SETTINGS, max: 2 }, 4).run(1, null), 2);
});

t.test('whatever the load does, the number stays within its bounds, and a steady load ends the changes', async () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 2000, noNaN: true }), { minLength: 1, maxLength: 60 }), fc.integer({ min: 1, max: 4 }), (loads, min) => {
      const settings = { ...SETTINGS, min };
      const it = new Service(settings, min);
      it.run(loads.length, (second) => loads[second] ?? 0);
      const steady = loads.at(-1) ?? 0;
      it.run(400, steady);
      const settled = it.count;
      it.run(400, steady);
      const carried = settled === settings.max || steady <= settled * settings.target * 1.001;
      return it.history.every(([, count]) => count >= min && count <= settings.max) && it.count === settled && carried;
    }),
    { numRuns: 200 },
  );
});
