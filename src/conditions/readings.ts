/** What conditions are judged by, as it was measured last. */
import type { Measure } from '../config/conditions.js';

export interface Readings {
  /** Null: unknown. */
  readonly valueOf: (measure: Measure) => number | null;
}

/** Before anything was measured. */
export const NO_READINGS: Readings = { valueOf: () => null };

/** Readings by name of what is measured; what is not among them is unknown. */
export function readingsOf(values: Readonly<Record<string, number>>): Readings {
  return { valueOf: (measure) => values[measureName(measure)] ?? null };
}

/** `load ids packets_per_second`, `healthy ids`, `streams`, `rate web bits_per_second`. */
export function measureName(measure: Measure): string {
  switch (measure.kind) {
    case 'load':
      return `load ${measure.service} ${measure.of}`;
    case 'healthy':
      return `healthy ${measure.service}`;
    case 'streams':
      return 'streams';
    case 'rate':
      return `rate ${measure.capture} ${measure.of}`;
  }
}
