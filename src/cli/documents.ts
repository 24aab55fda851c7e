/** Configuration files as commands take them. */
import type { Configuration, PlainDocument } from '../config/configuration.js';
import { formatErrors } from '../config/errors.js';
import { loadConfiguration } from '../config/load.js';
import { Failure } from '../failure.js';

/** Throws a Failure that lists every error. */
export function configurationFrom(file: string): Configuration {
  const loaded = loadConfiguration(file);
  if (!loaded.ok) throw new Failure(formatErrors(loaded.errors), 2);
  return loaded.configuration;
}

/** What a running weir can apply. Paths in it are relative to the file; the running weir may have been started with another one. */
export function documentOf(file: string): PlainDocument {
  const { source, affinityKeyFile } = configurationFrom(file);
  return affinityKeyFile === null ? source.document : { ...source.document, affinity_key: { file: affinityKeyFile } };
}
