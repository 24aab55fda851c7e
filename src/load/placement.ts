/**
 * Which share of new streams each instance of a service gets, by what its load has been: pure, so that hours of it are a test.
 *
 * A share follows two things. What an instance can do: streams it has for each unit of its load; that alone leads to equal load
 * where streams cost the same, however long they live, without any overshoot. And how its load compares with the others' now,
 * which corrects what the first can't see (a stream much heavier than others, an instance that is new). Where the load is the streams
 * themselves it is known to the stream, so what is too much or too little is made good by new ones within a given time. Live streams
 * never move: these are weights of the service map, and a stream asks the map once.
 */

export interface PlacementSettings {
  /** Load that is compared: of the whole instance (`cpu`), or for each unit of its configured weight. */
  readonly perWeight: boolean;
  /** Load is the number of streams, exactly. */
  readonly countsStreams: boolean;
  /** Below this, instances count as equally idle. */
  readonly floor: number;
  /** Least factor, 0 to 1. */
  readonly least: number;
  /** Time constant of the smoothing. */
  readonly smoothingMs: number;
  /** From one change to the next, at least. */
  readonly intervalMs: number;
}

export interface Sample {
  readonly key: string;
  /** As configured. */
  readonly weight: number;
  readonly streams: number;
  /** Null: unknown or too old. */
  readonly load: number | null;
  /** New streams a second, from everybody. Looked at where load is the number of streams. */
  readonly placedPerSecond: number;
}

interface Smooth {
  readonly load: number;
  readonly streams: number;
  readonly placedPerSecond: number;
  readonly atMs: number;
}

export interface Placement {
  readonly smooth: ReadonlyMap<string, Smooth>;
  /** By key, over 0 and at most 1: what weights are multiplied by. Absent: 1. */
  readonly factors: ReadonlyMap<string, number>;
  readonly changedMs: number;
}

export const EVEN: Placement = { smooth: new Map(), factors: new Map(), changedMs: -Infinity };

/** What an instance can do is told from some streams, not from one. */
const LEAST_STREAMS = 8;
/**
 * Near the mean a share answers to the sixth power of how far off a load is: so chance, which alone puts n streams off even by their
 * root, is made good within seconds. But by no more than MOST_NEAR: a burst that fills a new instance at once ends at once too, and comes
 * back as a wave a stream's life later. Who has twice the mean gets half and less until that is over.
 */
const NEAR_POWER = 6;
const MOST_NEAR = 1.3;
const FAR = 0.51;
const MOST_CORRECTION = 4;
const MOST_CAPACITY = 8;
/**
 * Streams are made even by as many new ones as that takes, within this time: less overshoots, since a look comes each interval and what was
 * reported is older still; more lets chance in, which alone puts n streams off even by their root. Where streams live for less than this,
 * the correction is small, as it should be: they are gone before it counts.
 */
const EVEN_WITHIN_MS = 4000;
/** As MOST_NEAR. There may be more of it, since a count doesn't lag as smoothed load does. */
const MOST_BY_COUNT = 1.7;
/** Less is not worth a new program. */
const WORTH = Math.log(1.18);

const clamp = (value: number, low: number, high: number): number => Math.min(high, Math.max(low, value));
const geometricMean = (values: readonly number[]): number => (values.length === 0 ? 1 : Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length));

/** `room`: the mean load by the instance's own. */
const correction = (room: number): number => (room < FAR ? Math.max(room, 1 / MOST_CORRECTION) : clamp(room ** NEAR_POWER, 1 / MOST_NEAR, MOST_NEAR));

/** Of the mean of new streams a second, by which an instance's streams become as many as the mean has. */
const byCount = (streams: number, mean: number, perSecond: number, withinMs: number): number =>
  streams * FAR > mean ? Math.max(mean / streams, 1 / MOST_CORRECTION) : clamp(1 + (mean - streams) / Math.max((perSecond * withinMs) / 1000, 1), 1 / MOST_BY_COUNT, MOST_BY_COUNT);

/** The next placement; the same `factors` object where nothing is worth a change. */
export function place(before: Placement, samples: readonly Sample[], settings: PlacementSettings, nowMs: number): Placement {
  const smooth = new Map<string, Smooth>();
  for (const { key, load, streams, placedPerSecond } of samples) {
    if (load === null) continue;
    const last = before.smooth.get(key);
    const keep = last === undefined ? 0 : Math.exp(-Math.max(0, nowMs - last.atMs) / settings.smoothingMs);
    const blend = (was: number | undefined, is: number): number => (was === undefined ? is : was * keep + is * (1 - keep));
    smooth.set(key, { load: settings.countsStreams ? load : blend(last?.load, load), streams: blend(last?.streams, streams), placedPerSecond: blend(last?.placedPerSecond, placedPerSecond), atMs: nowMs });
  }
  const wanted = factorsOf(samples, smooth, settings);
  const soon = nowMs - before.changedMs < settings.intervalMs;
  if (soon || !worthIt(before.factors, wanted, samples)) return { ...before, smooth };
  return { smooth, factors: wanted, changedMs: nowMs };
}

function worthIt(before: ReadonlyMap<string, number>, wanted: ReadonlyMap<string, number>, samples: readonly Sample[]): boolean {
  return samples.some(({ key }) => Math.abs(Math.log((wanted.get(key) ?? 1) / (before.get(key) ?? 1))) > WORTH);
}

function factorsOf(samples: readonly Sample[], smooth: ReadonlyMap<string, Smooth>, { perWeight, countsStreams, floor, least, intervalMs }: PlacementSettings): Map<string, number> {
  const known = samples.flatMap((sample) => {
    const is = smooth.get(sample.key);
    return is === undefined ? [] : [{ ...sample, ...is, compared: perWeight ? is.load / sample.weight : is.load }];
  });
  const mean = known.reduce((sum, { compared }) => sum + compared, 0) / Math.max(known.length, 1);
  if (known.length < 2 || mean <= floor) return new Map();

  // Streams for a unit of load, for each unit of weight: where load is counted by weight, weights say it already.
  const capacities = new Map<string, number>();
  if (!perWeight) for (const { key, weight, load, streams } of known) if (streams >= LEAST_STREAMS && load > floor / 2) capacities.set(key, streams / load / weight);
  const usual = geometricMean([...capacities.values()]);
  const perSecond = known.reduce((sum, { weight, placedPerSecond }) => sum + placedPerSecond / weight, 0) / known.length;
  const raw = new Map<string, number>();
  for (const { key, compared } of known) {
    if (countsStreams) {
      raw.set(key, byCount(compared, mean, perSecond, Math.max(EVEN_WITHIN_MS, 2 * intervalMs)));
      continue;
    }
    const capacity = clamp((capacities.get(key) ?? usual) / usual, 1 / MOST_CAPACITY, MOST_CAPACITY);
    raw.set(key, capacity * correction(mean / Math.max(compared, mean / MOST_CAPACITY)));
  }
  // Of whom nothing is known is taken for one like the others.
  const neutral = geometricMean([...raw.values()]);
  const highest = Math.max(neutral, ...raw.values());
  return new Map(samples.map(({ key }) => [key, clamp((raw.get(key) ?? neutral) / highest, least, 1)]));
}

/** Configured weights are multiplied by this, so that a factor has steps to go down by. */
export const FINENESS = 64;
const MOST_WEIGHT = 65_535;

/** The weights that native code gets, in the order of the samples: shares as weight × factor, whole numbers of at least 1. */
export function weightsFor(weights: readonly number[], factors: readonly number[]): number[] {
  const scale = Math.max(1, Math.min(FINENESS, Math.floor(MOST_WEIGHT / Math.max(1, ...weights))));
  return weights.map((weight, i) => clamp(Math.round(weight * scale * (factors[i] ?? 1)), 1, MOST_WEIGHT));
}
