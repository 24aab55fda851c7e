/** What a command line says of the appliance that its process is a member of. */
import { MANAGER_PORT } from '../appliance/document.js';
import type { DispatcherOptions } from '../appliance/dispatcher.js';
import { parsePlace } from '../config/place.js';
import { Failure } from '../failure.js';
import { loadReportKey } from '../load/key.js';

export interface ManagerWords {
  readonly manager?: readonly string[];
  readonly managerKey?: string;
}

export interface DispatcherWords extends ManagerWords {
  readonly dispatcher?: string;
}

export type Managers = Pick<DispatcherOptions, 'managers' | 'key'>;

/** Null: none is asked for. Throws a Failure. */
export function managersOf({ manager, managerKey }: ManagerWords): Managers | null {
  if ((manager === undefined) !== (managerKey === undefined)) throw new Failure('--manager and --manager-key belong together: managers take nobody without the key.', 2);
  if (manager === undefined || managerKey === undefined) return null;
  const managers = manager.map((text) => {
    const place = parsePlace(text, MANAGER_PORT);
    if (place === null) throw new Failure(`--manager: expected ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT, found "${text}".`, 2);
    return place;
  });
  return { managers, key: loadReportKey(managerKey, '--manager-key') };
}

export function dispatcherOf({ dispatcher, ...words }: DispatcherWords): DispatcherOptions | null {
  const managers = managersOf(words);
  if ((dispatcher === undefined) !== (managers === null)) throw new Failure('--dispatcher, --manager and --manager-key belong together: a dispatcher is told its units by its managers.', 2);
  return dispatcher === undefined || managers === null ? null : { name: dispatcher, ...managers };
}
