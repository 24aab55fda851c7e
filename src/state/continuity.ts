/**
 * What the numbers in a flow table mean (`runtime.json` in the state directory, readable by its owner alone: the affinity key is in
 * it). It is written before a program that needs it is in force, so that no stream ever has a number that the next process can't read.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Logger } from '../observe/log.js';
import { idsText, restoreIds } from '../program/ids.js';
import { RecordFile } from './record-file.js';
import type { Continuity, Meaning } from './state.js';

/** Another number when a part of it, the normal form of a service too, is no longer what it was. */
const FORMAT = 2;

interface SavedRuntime extends Meaning {
  readonly identity: string;
  readonly affinityKey: string;
}

/** What the last process left, or a new beginning where that can't be read: streams are then classified anew. */
export function openContinuity(directory: string, log: Pick<Logger, 'warn'>): Continuity {
  const file = join(directory, 'runtime.json');
  const record = new RecordFile<SavedRuntime>(file, 'weir_runtime', FORMAT, (why) => new Error(why));
  let saved: SavedRuntime | null = null;
  try {
    if (record.writtenAtMs() !== null) saved = checked(record.load());
  } catch (error) {
    log.warn(`${file} can't be used: ${(error as Error).message}. Streams of the last run are forgotten.`);
  }
  const identity = saved?.identity ?? randomBytes(8).toString('hex');
  const affinityKey = saved === null ? randomBytes(16) : Buffer.from(saved.affinityKey, 'hex');
  const keep: Continuity['keep'] = async (meaning, ids) => {
    const rest = JSON.stringify({ identity, affinityKey: affinityKey.toString('hex'), ...meaning });
    const prepared = await record.prepare(`${rest.slice(0, -1)},"ids":${idsText(ids)}}`);
    await prepared.commit();
  };
  return { identity, affinityKey, before: saved, keep };
}

function checked(saved: SavedRuntime): SavedRuntime {
  if (!/^[0-9a-f]{16}$/.test(saved.identity) || !/^[0-9a-f]{32}$/.test(saved.affinityKey)) throw new Error('its identity or key is not one');
  if (![saved.captures, saved.services, saved.paths?.versions].every(Array.isArray) || !Number.isInteger(saved.paths.next)) throw new Error('parts of it are missing');
  try {
    restoreIds(saved.ids);
  } catch (error) {
    throw new Error(`its ids are wrong (${(error as Error).message})`);
  }
  return saved;
}
