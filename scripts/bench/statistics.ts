/** Medians and what lies around them. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly values: readonly number[];
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const below = sorted[Math.floor(at)] ?? NaN;
  const above = sorted[Math.ceil(at)] ?? NaN;
  return below + (above - below) * (at - Math.floor(at));
}

export function summarise(values: readonly number[]): Summary {
  return { median: quantile(values, 0.5), min: Math.min(...values), max: Math.max(...values), values };
}

/** Ratios of what was measured in the same round: whatever disturbed the machine then disturbed both. */
export function ratios(of: readonly number[], against: readonly number[]): Summary {
  return summarise(of.slice(0, against.length).map((value, round) => value / (against[round] ?? NaN)));
}
