/**
 * How an appliance gets from one set of units to another without a stream's noticing: a pure function of (state, what members say, time).
 * docs/appliance.md has why each step is there. Units get a new map before any dispatcher does, and open streams by it only when
 * every dispatcher has it; a map stays as long as live streams are found by it alone.
 */

/** A list of those who serve, with their weights, under a number. Written with `members` as pairs so that it survives JSON. */
export interface AppMap {
  readonly version: number;
  readonly members: readonly (readonly [unit: string, weight: number])[];
}

/** What managers keep and pass on to each other. Plain JSON. */
export interface Rollout {
  /** Higher with each manager that takes over. */
  readonly term: number;
  /** Higher with each change that members have to hear of. */
  readonly revision: number;
  /** Oldest first. */
  readonly maps: readonly AppMap[];
  /** Version of the map by which streams are opened; 0: there is none. */
  readonly opened: number;
  /** Version of the map that dispatchers are to have. */
  readonly told: number;
  /** Units that get no new streams and keep those they have, and since when by the clock of the manager that leads. */
  readonly leaving: Readonly<Record<string, number>>;
  /** How often each unit was given up: what it knew before is not to be used. */
  readonly epochs: Readonly<Record<string, number>>;
}

export const AT_FIRST: Rollout = { term: 0, revision: 0, maps: [], opened: 0, told: 0, leaving: {}, epochs: {} };

/** Native code keeps 16; the rest is room for units that are given up meanwhile. */
export const MOST_MAPS = 12;
/** Of versions: packets between units say theirs in a byte. */
const MOST_APART = 90;
/** A map that nobody needs any more goes when that has been so for this long. */
const SETTLE_MS = 1000;
/** A unit reports five times a second. */
const JUST_NOW_MS = 500;
/** A dispatcher that has not been heard of for so long is not waited for. */
export const DISPATCHER_PATIENCE_MS = 10_000;

/** What a unit has said last. */
export interface UnitFacts {
  readonly silentMs: number;
  /** Whether it has what the manager said last. */
  readonly current: boolean;
  readonly streams: number;
  /** Streams that are found there by this map and by none that is newer. */
  readonly needs: ReadonlyMap<number, number>;
}

export interface Facts {
  readonly nowMs: number;
  readonly leaseMs: number;
  readonly drainMs: number | null;
  /** Those that have been heard of. */
  readonly units: ReadonlyMap<string, UnitFacts>;
  readonly dispatchers: ReadonlyMap<string, { readonly silentMs: number; readonly current: boolean }>;
  /** Who is to serve. */
  readonly wanted: readonly (readonly [unit: string, weight: number])[];
  /** When the last change was. */
  readonly changedMs: number;
}

export interface Step {
  readonly rollout: Rollout;
  /** What was done, for a log; empty: nothing. */
  readonly what: string;
}

export const newest = ({ maps }: Rollout): AppMap | undefined => maps.at(-1);
export const stable = (rollout: Rollout): boolean => rollout.told === rollout.opened && (newest(rollout)?.version ?? 0) === rollout.opened;

/** Units that have to have each map: all that are in one, or still have streams. */
export function unitsIn({ maps, leaving }: Rollout): string[] {
  return [...new Set([...maps.flatMap(({ members }) => members.map(([name]) => name)), ...Object.keys(leaving)])];
}

/** Those that a dispatcher knows: who gets new streams, and who keeps what it has. */
export function listFor(rollout: Rollout): { readonly serving: readonly (readonly [string, number])[]; readonly leaving: readonly string[] } {
  const serving = rollout.maps.find(({ version }) => version === rollout.told)?.members ?? [];
  const names = new Set(serving.map(([name]) => name));
  const others = new Set([...rollout.maps.filter(({ version }) => version <= rollout.opened).flatMap(({ members }) => members.map(([name]) => name)), ...Object.keys(rollout.leaving)]);
  return { serving, leaving: [...others].filter((name) => !names.has(name)) };
}

/** One step, or none: it is called again at once after each. */
export function step(rollout: Rollout, facts: Facts): Step {
  const lost = loseUnits(rollout, facts);
  if (lost !== null) return lost;
  return (stable(rollout) ? settled(rollout, facts) : goOn(rollout, facts)) ?? { rollout, what: '' };
}

const next = (rollout: Rollout, change: Partial<Rollout>, what: string): Step => ({ rollout: { ...rollout, ...change, revision: rollout.revision + 1 }, what });

/**
 * A unit that is silent for too long leaves all maps: its state is gone, and nobody is to ask it. Where none of those that serve has been heard
 * of just now, it is this manager that hears nothing, and they stay.
 */
function loseUnits(rollout: Rollout, { units, leaseMs }: Facts): Step | null {
  const silentMs = (name: string): number => units.get(name)?.silentMs ?? Infinity;
  const serving = newest(rollout)?.members ?? [];
  if (serving.every(([name]) => silentMs(name) > JUST_NOW_MS)) return null;
  const gone = new Set(unitsIn(rollout).filter((name) => silentMs(name) > leaseMs));
  if (gone.size === 0) return null;
  const maps = rollout.maps.map(({ version, members }) => ({ version, members: members.filter(([name]) => !gone.has(name)) }));
  const leaving = Object.fromEntries(Object.entries(rollout.leaving).filter(([name]) => !gone.has(name)));
  const epochs = { ...rollout.epochs };
  for (const name of gone) epochs[name] = (epochs[name] ?? 0) + 1;
  return next(rollout, { maps, leaving, epochs }, `gave up ${[...gone].join(', ')}: not heard of for ${leaseMs} ms`);
}

/** A change is under way. */
function goOn(rollout: Rollout, { units, dispatchers, leaseMs }: Facts): Step | null {
  const version = newest(rollout)?.version ?? 0;
  // One that is lost is taken out before; one that is about to be is waited for until then.
  const ready = unitsIn(rollout).every((name) => units.get(name)?.current === true || (units.get(name)?.silentMs ?? 0) > leaseMs);
  if (!ready) return null;
  if (rollout.told !== version) return next(rollout, { told: version }, `dispatchers get map ${version}`);
  const heard = [...dispatchers.values()].every(({ current, silentMs }) => current || silentMs > DISPATCHER_PATIENCE_MS);
  return heard ? next(rollout, { opened: version }, `map ${version} is in force`) : null;
}

const same = (a: readonly (readonly [string, number])[], b: readonly (readonly [string, number])[]): boolean => JSON.stringify(a) === JSON.stringify(b);

function settled(rollout: Rollout, facts: Facts): Step | null {
  const retired = retire(rollout, facts);
  if (retired !== null) return retired;
  const left = leave(rollout, facts);
  if (left !== null) return left;
  const { wanted, nowMs } = facts;
  const now = newest(rollout);
  if (wanted.length === 0 || (now !== undefined && same(now.members, wanted))) return null;
  const oldest = rollout.maps[0];
  if (oldest !== undefined && now !== undefined && (rollout.maps.length >= MOST_MAPS || now.version - oldest.version >= MOST_APART)) return drop(rollout, oldest, 'there are too many maps');
  const version = (now?.version ?? 0) + 1;
  const names = new Set(wanted.map(([name]) => name));
  const leaving = Object.fromEntries(Object.entries(rollout.leaving).filter(([name]) => !names.has(name)));
  for (const [name] of now?.members ?? []) if (!names.has(name)) leaving[name] = nowMs;
  const maps = [...rollout.maps, { version, members: wanted }];
  // Before there is a map nobody sends anything: dispatchers have no list.
  if (now === undefined) return next(rollout, { maps, leaving, opened: version, told: version }, `map ${version}: ${wanted.length} units`);
  return next(rollout, { maps, leaving }, `units get map ${version}: ${wanted.length} units instead of ${now.members.length}`);
}

/** A map that no live stream is found by alone. */
function retire(rollout: Rollout, { units, nowMs, changedMs }: Facts): Step | null {
  if (rollout.maps.length < 2 || nowMs - changedMs < SETTLE_MS) return null;
  const members = unitsIn(rollout).map((name) => units.get(name));
  if (!members.every((unit) => unit?.current === true)) return null;
  const unneeded = rollout.maps.find(({ version }) => version !== rollout.opened && members.every((unit) => (unit?.needs.get(version) ?? 0) === 0));
  return unneeded === undefined ? null : drop(rollout, unneeded, 'no live stream needs it any more');
}

const drop = (rollout: Rollout, map: AppMap, why: string): Step => next(rollout, { maps: rollout.maps.filter((one) => one !== map) }, `map ${map.version} is gone: ${why}`);

/** A unit without streams, or whose time is over. */
function leave(rollout: Rollout, { units, nowMs, drainMs, changedMs }: Facts): Step | null {
  for (const [name, sinceMs] of Object.entries(rollout.leaving)) {
    const unit = units.get(name);
    const late = drainMs !== null && nowMs - sinceMs >= drainMs;
    const empty = unit?.current === true && unit.streams === 0 && nowMs - changedMs >= SETTLE_MS;
    if (!empty && !late) continue;
    const leaving = Object.fromEntries(Object.entries(rollout.leaving).filter(([other]) => other !== name));
    const maps = rollout.maps.map(({ version, members }) => ({ version, members: members.filter(([other]) => other !== name) }));
    const epochs = { ...rollout.epochs, [name]: (rollout.epochs[name] ?? 0) + 1 };
    return next(rollout, { leaving, maps, epochs }, `${name} has left${empty ? '' : ` with ${unit?.streams ?? 'unknown'} streams: its time to drain is over`}`);
  }
  return null;
}
