/** `placement:` of a service: the document's form and its defaults. */
import type { PlacementConfig } from './configuration.js';
import type { PathStep } from './document.js';
import { durationMs } from './forms.js';
import type { Report } from './report.js';

export type RawPlacement = 'hash' | 'by_load' | { by: 'load'; metric?: PlacementConfig['metric']; least?: number; interval?: string };

export const METRICS = ['cpu', 'packets_per_second', 'bytes_per_second', 'streams', 'queue'] as const;
/** Percent. */
const LEAST = 12;
const INTERVAL = '2s';

export function placement(raw: RawPlacement | undefined): PlacementConfig | null {
  if (raw === undefined || raw === 'hash') return null;
  const { metric = 'cpu', least = LEAST, interval = INTERVAL } = raw === 'by_load' ? {} : raw;
  return { metric, least: least / 100, intervalMs: durationMs(interval) };
}

export function checkPlacement(path: readonly PathStep[], raw: Record<string, unknown>, report: Report): void {
  if (typeof raw['interval'] !== 'string') return;
  const ms = durationMs(raw['interval']);
  if (ms < 1000 || ms > 3_600_000) report([...path, 'interval'], `expected a duration from 1s to 1h, found ${JSON.stringify(raw['interval'])}`, '1s to 1h', raw['interval']);
}
