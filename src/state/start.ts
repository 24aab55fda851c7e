/** What a start comes up with: the last good state, or the file it is given. */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Configuration } from '../config/configuration.js';
import { formatErrors } from '../config/errors.js';
import { checkDocument } from '../config/load.js';
import { Failure } from '../failure.js';
import type { Logger } from '../observe/log.js';
import { settled, withMembers, type ElasticMember } from '../scale/members.js';
import { openContinuity } from './continuity.js';
import type { Origin } from './state.js';
import { StateStore } from './store.js';

export interface Start {
  readonly configuration: Configuration;
  readonly origin: Origin;
}

/** `given`: what stands in `file`. Says in the log which one is taken and why. Throws a Failure. */
export function chooseStart(given: Configuration, file: string, { forceConfig }: { readonly forceConfig: boolean }, log: Pick<Logger, 'info' | 'warn'>): Start {
  const store = new StateStore(given.stateDir);
  try {
    store.open();
  } catch (error) {
    if (given.source.document['state_dir'] !== undefined) throw error;
    log.warn(`${(error as Error).message} Changes made while weir runs will be lost when it ends.`);
    return { configuration: given, origin: { generation: 1, instances: {}, keeper: null } };
  }
  const continuity = openContinuity(given.stateDir, log);
  const fromFile = (why: string, generation: number): Start => {
    log.info({ config: file }, `starting from ${file}: ${why}`);
    // Processes that hooks started are there, whatever the document says.
    const elastic = settled(given, elasticOf(store, file), log);
    return { configuration: withMembers(given, elastic), origin: { generation, instances: {}, elastic, keeper: store, stateGeneration: generation - 1, continuity } };
  };
  if (forceConfig) return fromFile('--force-config was given', generationOf(store) + 1);
  const writtenAtMs = store.writtenAtMs();
  if (writtenAtMs === null) return fromFile(`there is no state in ${store.directory}`, 1);
  const state = store.load();
  // Two programs with one state directory would otherwise run each other's configuration.
  if (resolve(state.file) !== resolve(file)) return fromFile(`the state in ${store.directory} came from another file, ${state.file}`, state.generation + 1);
  if (statSync(file).mtimeMs > writtenAtMs) return fromFile(`it is newer than the state of generation ${state.generation} in ${store.directory}`, state.generation + 1);
  const loaded = checkDocument(state.document, file);
  if (!loaded.ok) {
    throw new Failure(`the state file ${store.file} can't be used: its document is not valid for this weir. Start with --force-config to begin with ${file}, or delete it.\n${formatErrors(loaded.errors)}`);
  }
  log.info({ state: store.file, generation: state.generation }, `starting from the last state, generation ${state.generation}: ${file} is older than it (--force-config takes the file)`);
  const elastic = settled(loaded.configuration, state.elastic ?? [], log);
  return { configuration: withMembers(loaded.configuration, elastic), origin: { generation: state.generation, instances: state.instances, switches: state.switches, elastic, keeper: store, stateGeneration: state.generation, continuity } };
}

/** What the state in the directory has of this file's services. */
function elasticOf(store: StateStore, file: string): readonly ElasticMember[] {
  try {
    const state = store.writtenAtMs() === null ? null : store.load();
    return state === null || resolve(state.file) !== resolve(file) ? [] : (state.elastic ?? []);
  } catch {
    return [];
  }
}

/** So that generations only go up, even over a state that is not taken. */
function generationOf(store: StateStore): number {
  try {
    return store.writtenAtMs() === null ? 0 : store.load().generation;
  } catch {
    return 0;
  }
}
