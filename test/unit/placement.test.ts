/** Placing streams by load, on a model of instances in virtual time: streams come, live for a while and go; each costs what its instance makes of it. */
import t from 'tap';
import { EVEN, place, weightsFor, type Placement, type PlacementSettings, type Sample } from '../../src/load/placement.js';
import { rank } from '../../src/program/service-map.js';
import { instanceSeed } from '../../src/program/compile.js';

const CPU: PlacementSettings = { perWeight: false, floor: 2, least: 0.12, smoothingMs: 5000, intervalMs: 2000 };

/** Deterministic: the same numbers on each run. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

interface World {
  /** By instance, over the last third: mean load. */
  readonly loads: readonly number[];
  /** Changes of weights over the last half. */
  readonly changes: number;
  readonly shares: readonly number[];
  /** Greatest mean over any ten seconds of the last third, divided by the least, over all instances. */
  readonly swing: number;
}

interface Plan {
  /** How much load an instance can carry: a stream costs 1 / capacity percent. */
  readonly capacities: readonly number[];
  readonly weights?: readonly number[];
  readonly perSecond: number;
  readonly lifeSeconds: number;
  readonly seconds: number;
  readonly settings?: PlacementSettings;
  /** Whether reports of an instance arrive at a second. */
  readonly reports?: (instance: number, second: number) => boolean;
}

/** The service map itself decides, by codes at random, with the weights of the moment; a stream stays where it began. */
function simulate({ capacities, weights = capacities.map(() => 1), perSecond, lifeSeconds, seconds, settings = CPU, reports = () => true }: Plan): World {
  const next = random(42);
  const keys = capacities.map((_, i) => `s/i${i}`);
  const members = keys.map((key, id) => ({ id, weight: weights[id] ?? 1, seed: instanceSeed(key) }));
  const endings = capacities.map(() => [] as number[]);
  let placement: Placement = EVEN;
  let changes = 0;
  const history: number[][] = [];
  const loadOf = (i: number): number => (endings[i]?.length ?? 0) / (capacities[i] ?? 1);
  for (let second = 0; second < seconds; second++) {
    const placed = weightsFor(weights, keys.map((key) => placement.factors.get(key) ?? 1));
    const now = members.map((member, i) => ({ ...member, weight: placed[i] ?? 1 }));
    for (let n = 0; n < perSecond; n++) {
      const chosen = rank(Math.floor(next() * 2 ** 32), now)[0] ?? 0;
      endings[chosen]?.push(second - lifeSeconds * Math.log(1 - next()));
    }
    endings.forEach((list, i) => (endings[i] = list.filter((end) => end > second)));
    history.push(capacities.map((_, i) => loadOf(i)));
    const samples: Sample[] = keys.map((key, i) => ({ key, weight: weights[i] ?? 1, streams: endings[i]?.length ?? 0, load: reports(i, second) ? loadOf(i) : null }));
    const after = place(placement, samples, settings, second * 1000);
    if (after.factors !== placement.factors && second >= seconds / 2) changes++;
    placement = after;
  }
  const last = history.slice(-Math.floor(seconds / 3));
  const mean = (rows: readonly (readonly number[])[], i: number): number => rows.reduce((sum, row) => sum + (row[i] ?? 0), 0) / rows.length;
  const windows = Array.from({ length: Math.floor(last.length / 10) }, (_, w) => last.slice(w * 10, w * 10 + 10));
  const swing = Math.max(...capacities.map((_, i) => Math.max(...windows.map((rows) => mean(rows, i))) / Math.min(...windows.map((rows) => mean(rows, i)))));
  return { loads: capacities.map((_, i) => mean(last, i)), changes, shares: keys.map((key) => placement.factors.get(key) ?? 1), swing };
}

const spread = (loads: readonly number[]): number => {
  const mean = loads.reduce((sum, load) => sum + load, 0) / loads.length;
  return Math.max(...loads.map((load) => Math.abs(load / mean - 1)));
};

for (const lifeSeconds of [2, 10, 60]) {
  t.test(`unequal capacities, streams of ${lifeSeconds} s: loads come within 10 % of even and stay there`, async (t) => {
    const plan = { capacities: [40, 20, 10, 30], perSecond: Math.ceil(4000 / lifeSeconds), lifeSeconds, seconds: Math.max(240, lifeSeconds * 12) };
    const world = simulate(plan);
    t.ok(spread(world.loads) < 0.1, `spread ${(spread(world.loads) * 100).toFixed(1)} %: ${world.loads.map((load) => load.toFixed(1)).join(' ')}`);
    t.ok(world.swing < 1.25, `no oscillation: ten-second means swing by ${((world.swing - 1) * 100).toFixed(0)} %`);
    t.comment(`spread ${(spread(world.loads) * 100).toFixed(1)} %, swing ${((world.swing - 1) * 100).toFixed(0)} %, ${world.changes} changes, shares ${world.shares.map((share) => share.toFixed(2)).join(' ')}`);
    const without = simulate({ ...plan, settings: { ...CPU, floor: Infinity } });
    t.ok(spread(without.loads) > 0.4, `by hash alone: ${(spread(without.loads) * 100).toFixed(0)} %`);
  });
}

t.test('equal instances stay even, and weights are seldom touched', async (t) => {
  const world = simulate({ capacities: [20, 20, 20, 20], perSecond: 200, lifeSeconds: 10, seconds: 300 });
  t.ok(spread(world.loads) < 0.1, `${spread(world.loads)}`);
  t.ok(world.changes <= 35, `${world.changes} changes in 150 s`);
});

t.test('configured weights count where load is counted by weight', async (t) => {
  const { loads } = simulate({ capacities: [1, 1, 1], weights: [1, 2, 4], perSecond: 300, lifeSeconds: 10, seconds: 300, settings: { ...CPU, perWeight: true, floor: 8 } });
  t.ok(spread(loads.map((load, i) => load / ([1, 2, 4][i] ?? 1))) < 0.1, loads.map((load) => load.toFixed(0)).join(' '));
});

t.test('an instance whose reports stop is taken for one like the others', async (t) => {
  const samples = (silent: boolean): Sample[] => [
    { key: 'a', weight: 1, streams: 100, load: 80 },
    { key: 'b', weight: 1, streams: 100, load: 20 },
    { key: 'c', weight: 1, streams: 100, load: silent ? null : 90 },
  ];
  const before = place(EVEN, samples(false), CPU, 0);
  const after = place({ ...before, changedMs: -Infinity }, samples(true), CPU, 10_000);
  const [a = 0, b = 0, c = 0] = ['a', 'b', 'c'].map((key) => after.factors.get(key) ?? 1);
  t.ok(a < c && c < b, `${a} ${c} ${b}`);
  t.equal(place(EVEN, samples(true).map((sample) => ({ ...sample, load: null })), CPU, 0).factors.size, 0, 'nobody knows anything: all are equal');
});

t.test('weights change at most once an interval, and only if it is worth it', async (t) => {
  const at = (a: number): Sample[] => [{ key: 'a', weight: 1, streams: 50, load: a }, { key: 'b', weight: 1, streams: 50, load: 50 }];
  let placement = place(EVEN, at(50), CPU, 0);
  t.equal(placement.factors.size, 0, 'even');
  placement = place(EVEN, at(80), CPU, 0);
  const { factors } = placement;
  t.ok((factors.get('a') ?? 1) < 0.5);
  placement = place(placement, at(20), { ...CPU, smoothingMs: 1 }, 1999);
  t.equal(placement.factors, factors, 'too soon');
  placement = place(placement, at(20), { ...CPU, smoothingMs: 1 }, 2000);
  t.not(placement.factors, factors);
  const settled = placement.factors;
  for (let ms = 4000; ms < 60_000; ms += 2000) placement = place(placement, at(20 + (ms % 4000 === 0 ? 0.3 : -0.3)), CPU, ms);
  t.equal(placement.factors, settled, 'noise changes nothing');
});

t.test('factors are bounded, whatever is reported', async (t) => {
  const { factors } = place(EVEN, [{ key: 'a', weight: 1, streams: 1_000_000, load: 0.001 }, { key: 'b', weight: 1, streams: 9, load: 100_000 }, { key: 'c', weight: 1, streams: 0, load: 0 }], CPU, 0);
  for (const factor of factors.values()) t.ok(factor >= 0.12 && factor <= 1, `${factor}`);
  t.strictSame(weightsFor([1, 2, 65_535], [1, 0.5, 0.01]), [1, 1, 655]);
  t.strictSame(weightsFor([1, 2], [1, 0.25]), [64, 32]);
  t.strictSame(weightsFor([], []), []);
});

t.test('instances that come while streams live for a minute: even two lives later, without a wave of what filled them', async (t) => {
  let seed = 1;
  const random = (): number => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
  const keys = ['a', 'b', 'c', 'd'];
  const uneven = Array.from({ length: 60 }, () => {
    let [placement, live] = [EVEN, [] as { readonly untilS: number; readonly on: number }[]];
    const means = keys.map(() => 0);
    for (let s = 0; s < 191; s++) {
      live = live.filter(({ untilS }) => untilS > s);
      const streams = keys.map((_, on) => live.filter((stream) => stream.on === on).length);
      const up = s < 60 ? 1 : s < 80 ? 2 : 4;
      const samples = keys.slice(0, up).map((key, on) => ({ key, weight: 1, streams: streams[on] ?? 0, load: streams[on] ?? 0 }));
      placement = place(placement, samples, { perWeight: true, floor: 1, least: 0.05, smoothingMs: 5000, intervalMs: 1000 }, s * 1000);
      const weights = weightsFor(samples.map(() => 1), samples.map(({ key }) => placement.factors.get(key) ?? 1));
      for (let i = 0; i < 37; i++) {
        let at = random() * weights.reduce((sum, weight) => sum + weight, 0);
        const on = weights.findIndex((weight) => (at -= weight) <= 0);
        live.push({ untilS: s + 40 + random() * 20, on: Math.max(on, 0) });
      }
      if (s >= 180) streams.forEach((count, on) => (means[on] = (means[on] ?? 0) + count));
    }
    return spread(means);
  });
  const off = uneven.filter((by) => by > 0.1).length;
  t.ok(off <= 6, `${off} of 60 worlds over 10 % off even`);
});
