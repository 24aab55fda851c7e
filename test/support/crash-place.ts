/** Where in a change a process was killed, told by what it left in its state directory. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const PLACES = ['before it was written', 'in the middle of writing', 'written, not yet renamed', 'renamed, not yet answered'] as const;
export type Place = (typeof PLACES)[number];

/** `newer`: the state that a start finds is one that was not acknowledged. */
export function placeOf(directory: string, newer: boolean): Place {
  const draft = join(directory, 'state.json.new');
  if (existsSync(draft)) {
    const text = readFileSync(draft, 'utf8');
    const end = text.indexOf('\n');
    const whole = end > 0 && text.endsWith('\n') && text.slice(0, end).includes(createHash('sha256').update(text.slice(end + 1, -1)).digest('hex'));
    return whole ? 'written, not yet renamed' : 'in the middle of writing';
  }
  return newer ? 'renamed, not yet answered' : 'before it was written';
}

export function tally(places: readonly Place[]): string {
  return PLACES.map((place) => `${places.filter((found) => found === place).length} ${place}`).join(', ');
}
