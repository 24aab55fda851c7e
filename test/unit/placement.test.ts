/** Placing streams by load, on a model of instances in virtual time: streams come, live for a while and go; each costs what its instance makes of it. */
import t from 'tap';
import { EVEN, place, weightsFor, type Placement, type PlacementSettings, type Sample } from '../../src/load/placement.js';
import { rank } from '../../src/program/service-map.js';
import { instanceSeed } from '../../src/program/compile.js';

const CPU: PlacementSettings = { perWeight: false, countsStreams: false, floor: 2, least: 0.12, smoothingMs: 5000, intervalMs: 2000 };

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
    const samples: Sample[] = keys.map((key, i) => ({ key, weight: weights[i] ?? 1, streams: endings[i]?.length ?? 0, load: reports(i, second) ? loadOf(i) : null, placedPerSecond: 0 }));
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
    { key: 'a', weight: 1, streams: 100, load: 80, placedPerSecond: 0 },
    { key: 'b', weight: 1, streams: 100, load: 20, placedPerSecond: 0 },
    { key: 'c', weight: 1, streams: 100, load: silent ? null : 90, placedPerSecond: 0 },
  ];
  const before = place(EVEN, samples(false), CPU, 0);
  const after = place({ ...before, changedMs: -Infinity }, samples(true), CPU, 10_000);
  const [a = 0, b = 0, c = 0] = ['a', 'b', 'c'].map((key) => after.factors.get(key) ?? 1);
  t.ok(a < c && c < b, `${a} ${c} ${b}`);
  t.equal(place(EVEN, samples(true).map((sample) => ({ ...sample, load: null })), CPU, 0).factors.size, 0, 'nobody knows anything: all are equal');
});

t.test('weights change at most once an interval, and only if it is worth it', async (t) => {
  const at = (a: number): Sample[] => [{ key: 'a', weight: 1, streams: 50, load: a, placedPerSecond: 0 }, { key: 'b', weight: 1, streams: 50, load: 50, placedPerSecond: 0 }];
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
  const absurd = [[1_000_000, 0.001], [9, 100_000], [0, 0]].map(([streams = 0, load = 0], i) => ({ key: 'abc'[i] ?? '', weight: 1, streams, load, placedPerSecond: i * 1e9 }));
  for (const countsStreams of [false, true]) {
    const { factors } = place(EVEN, absurd, { ...CPU, countsStreams }, 0);
    t.equal(factors.size, 3);
    for (const factor of factors.values()) t.ok(factor >= 0.12 && factor <= 1, `${factor}`);
  }
  t.strictSame(weightsFor([1, 2, 65_535], [1, 0.5, 0.01]), [1, 1, 655]);
  t.strictSame(weightsFor([1, 2], [1, 0.25]), [64, 32]);
  t.strictSame(weightsFor([], []), []);
});

/** Instances that count their streams, which come from a list of kinds: so many a second, each alive from `life[0]` to `life[1]` seconds. */
interface Streams {
  readonly perSecond: number;
  readonly life: readonly [number, number];
}

/** Streams of each instance by second. `up`: how many of the four there are then. */
function* counted(kinds: readonly Streams[], up: (second: number) => number, settings: PlacementSettings, next: () => number): Generator<readonly number[]> {
  const keys = ['a', 'b', 'c', 'd'];
  let placement = EVEN;
  const live = keys.map(() => [] as number[]);
  const placed = keys.map(() => 0);
  for (let second = 0; ; second++) {
    live.forEach((ends, i) => (live[i] = ends.filter((end) => end > second)));
    yield live.map(({ length }) => length);
    const samples = keys.slice(0, up(second)).map((key, i) => ({ key, weight: 1, streams: live[i]?.length ?? 0, load: live[i]?.length ?? 0, placedPerSecond: placed[i] ?? 0 }));
    placement = place(placement, samples, settings, second * 1000);
    placed.fill(0);
    const weights = weightsFor(samples.map(() => 1), samples.map(({ key }) => placement.factors.get(key) ?? 1));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    for (const { perSecond, life } of kinds) {
      for (let i = 0; i < perSecond; i++) {
        let at = next() * sum;
        const on = Math.max(0, weights.findIndex((weight) => (at -= weight) <= 0));
        placed[on] = (placed[on] ?? 0) + 1;
        live[on]?.push(second + next() + life[0] + next() * (life[1] - life[0]));
      }
    }
  }
}

const STREAMS: PlacementSettings = { perWeight: true, countsStreams: true, floor: 8, least: 0.12, smoothingMs: 5000, intervalMs: 1000 };

t.test('four instances that came one after the other under streams of a minute: even when the streams of before are gone, without a wave', async (t) => {
  const next = random(1);
  const off = Array.from({ length: 100 }, () => {
    const means = [0, 0, 0, 0];
    const world = counted([{ perSecond: 25, life: [40, 60] }, { perSecond: 12, life: [0.2, 1.2] }], (s) => (s < 26 ? 1 : s < 38 ? 2 : s < 52 ? 3 : 4), STREAMS, next);
    for (let s = 0; s < 123; s++) (world.next().value as readonly number[]).forEach((streams, i) => (means[i] = (means[i] ?? 0) + (s >= 112 ? streams : 0)));
    return spread(means);
  }).filter((by) => by > 0.1).length;
  t.ok(off <= 1, `${off} of 100 worlds over 10 % off even`);
});

for (const [lifeSeconds, ofChance] of [[1, 1.05], [2, 1.05], [5, 0.9], [10, 0.75], [60, 0.4]] as const) {
  t.test(`streams of ${lifeSeconds} s on equal instances: ${ofChance} of what chance alone puts them off even, at most`, async (t) => {
    const [byLoad, byHash] = [STREAMS, { ...STREAMS, floor: Infinity }].map((settings) => {
      const world = counted([{ perSecond: Math.ceil(1300 / lifeSeconds), life: [0, 2 * lifeSeconds] }], () => 4, settings, random(7));
      let sum = 0;
      for (let s = 0; s < 1000; s++) {
        const streams = world.next().value as readonly number[];
        if (s >= 200) sum += spread(streams) / 800;
      }
      return sum;
    });
    t.ok(byLoad !== undefined && byHash !== undefined && byLoad <= byHash * ofChance, `${((byLoad ?? 0) * 100).toFixed(1)} % off even by load, ${((byHash ?? 0) * 100).toFixed(1)} % by hash`);
  });
}
