/** Which units an appliance uses, and how many: pure functions of the layout and what there is. */
import type { LayoutConfig, Thresholds, UnitConfig } from './document.js';

export interface Choice {
  readonly units: readonly UnitConfig[];
  readonly count: number;
  readonly layout: Pick<LayoutConfig, 'perHost' | 'spread'>;
  /** In use now: they stay if they can. */
  readonly current: ReadonlySet<string>;
  /** Those that can be used: they run, or a hook can start them. */
  readonly usable: (unit: UnitConfig) => boolean;
}

/** The names of the units to use, in the order of the document. Fewer than `count` where there are no more. */
export function chooseUnits({ units, count, layout, current, usable }: Choice): string[] {
  const chosen = new Set(units.filter((unit) => current.has(unit.name) && usable(unit)).map(({ name }) => name));
  const on = (host: string): number => units.filter((unit) => unit.host === host && chosen.has(unit.name)).length;
  const spread = layout.spread === 'hosts';
  const over = (unit: UnitConfig): boolean => layout.perHost !== null && on(unit.host) > layout.perHost;
  for (;;) {
    // From the fullest host; the one that was written last first.
    const leaving = units.filter(({ name }) => chosen.has(name)).filter((unit) => chosen.size > count || over(unit));
    const [first] = leaving.sort((a, b) => Number(over(b)) - Number(over(a)) || (spread ? on(b.host) - on(a.host) : 0) || units.indexOf(b) - units.indexOf(a));
    if (first === undefined) break;
    chosen.delete(first.name);
  }
  while (chosen.size < count) {
    const free = units.filter((unit) => !chosen.has(unit.name) && usable(unit) && (layout.perHost === null || on(unit.host) < layout.perHost));
    const [first] = free.sort((a, b) => (spread ? on(a.host) - on(b.host) : 0) || units.indexOf(a) - units.indexOf(b));
    if (first === undefined) break;
    chosen.add(first.name);
  }
  return units.filter(({ name }) => chosen.has(name)).map(({ name }) => name);
}

/** Since when the mean has been past a threshold; null: it is not. */
export interface Pressure {
  readonly aboveMs: number | null;
  readonly belowMs: number | null;
}
export const NO_PRESSURE: Pressure = { aboveMs: null, belowMs: null };

/** `mean`: of all units in use; null: unknown. `change`: one unit more or less. */
export function press(before: Pressure, { addAbove, removeBelow, forMs }: Thresholds, mean: number | null, count: number, nowMs: number): { readonly pressure: Pressure; readonly change: -1 | 0 | 1 } {
  const above = mean !== null && mean > addAbove;
  // The others would get its share.
  const below = mean !== null && count > 1 && mean < removeBelow && (mean * count) / (count - 1) < addAbove;
  const pressure: Pressure = { aboveMs: above ? (before.aboveMs ?? nowMs) : null, belowMs: below ? (before.belowMs ?? nowMs) : null };
  if (pressure.aboveMs !== null && nowMs - pressure.aboveMs >= forMs) return { pressure: NO_PRESSURE, change: 1 };
  if (pressure.belowMs !== null && nowMs - pressure.belowMs >= forMs) return { pressure: NO_PRESSURE, change: -1 };
  return { pressure, change: 0 };
}
