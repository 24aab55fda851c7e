import { randomBytes } from 'node:crypto';
import type { Configuration } from '../config/configuration.js';
import { loadAffinityKey } from '../program/compile.js';
import type { Origin } from '../state/state.js';

/** The key of the configuration's file; else the one that was kept, or a new one. */
export function affinityKeyOf({ affinityKeyFile }: Configuration, { continuity }: Origin): Uint8Array {
  return affinityKeyFile === null ? (continuity?.affinityKey ?? randomBytes(16)) : loadAffinityKey(affinityKeyFile);
}
