/** Configurations as they decide while one of their named configurations is in force. */
import type { Configuration } from '../config/configuration.js';
import { nearest } from '../config/nearest.js';
import { Failure } from '../failure.js';

/** The configuration itself where it has none of that name. */
export function asVariant(configuration: Configuration, name: string | null): Configuration {
  const variant = configuration.configurations.find((candidate) => candidate.name === name);
  return variant === undefined ? configuration : { ...configuration, policies: variant.policies };
}

/** The same for a name that somebody gave; undefined for the policies at the top level. Throws a Failure where there is none of that name. */
export function requireVariant(configuration: Configuration, name: string | undefined): Configuration {
  if (name === undefined) return configuration;
  const names = configuration.configurations.map((variant) => variant.name);
  if (names.includes(name)) return asVariant(configuration, name);
  const near = nearest(name, names);
  throw new Failure(`--variant: there is no configuration "${name}"; ${near !== null ? `did you mean "${near}"?` : names.length > 0 ? `there are: ${names.join(', ')}` : 'there are none'}`, 2);
}
