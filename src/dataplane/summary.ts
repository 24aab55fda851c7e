/** What a change was, in the words of one log line. */
import type { HealthChange } from '../health/monitor.js';
import type { WayChange } from './path-mtus.js';

/** Changes that a log line or an event names before it only counts. */
const MOST_NAMED = 5;

export const healthSummary = (news: readonly HealthChange[]): string =>
  news.length === 0 ? 'health' : summary(news.map(({ instance, up, cause }) => `instance ${instance} is ${up ? 'up' : 'down'}: ${cause}`));

export const waySummary = (ways: readonly WayChange[]): string => summary(ways.map(({ instance, cause }) => `instance ${instance}: ${cause}`));

export function summary(changes: readonly string[]): string {
  if (changes.length === 0) return 'nothing changed';
  return changes.slice(0, MOST_NAMED).join('; ') + (changes.length > MOST_NAMED ? ` and ${changes.length - MOST_NAMED} more` : '');
}
