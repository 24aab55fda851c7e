/**
 * Steerings: a flow identifier (a match) and a list of services, given in one request. Each is a chain and a policy of the document,
 * both named `steer.NAME`, so that whatever shows, keeps or explains a document knows them.
 */
import { createHash } from 'node:crypto';
import { canonical, isIpv4 } from './address.js';
import type { PlainDocument } from './configuration.js';
import { addPolicy, type Edit } from './edits.js';
import { nearest } from './nearest.js';
import { match as normalised, type RawMatch } from './normalise.js';
import { ChangeRefused } from './refused.js';

const PREFIX = 'steer.';
/** A document's names have 63 characters at most. */
export const LONGEST_NAME = 63 - PREFIX.length;

type Json = Readonly<Record<string, unknown>>;

/** What a steering's chain may have beside its services, as a document writes it. */
export const CHAIN_OPTIONS = ['encapsulation', 'answers', 'deliver', 'virtual_addresses', 'return', 'exit'] as const;

export interface SteeringRequest {
  /** Default: made of the match, so that the same flow identifier is the same steering. */
  readonly name?: string | undefined;
  readonly match: Json;
  readonly services: readonly string[];
  readonly priority?: number | undefined;
  readonly options?: Json | undefined;
}

export interface Steering {
  readonly name: string;
  readonly match: Json;
  readonly services: readonly string[];
  readonly priority: number;
  readonly options: Json;
}

export const chainOf = (name: string): string => `${PREFIX}${name}`;

/** The same for matches that say the same in other words: one value or a list of one, any order, addresses written otherwise. */
function canonicalMatch(raw: Json): string {
  const { captures, vlans, direction, protocols, sources, destinations, sourcePorts, destinationPorts } = normalised(raw as RawMatch);
  const sorted = (list: readonly unknown[]): string[] => [...new Set(list.map((item) => JSON.stringify(item)))].sort();
  const prefixes = (list: readonly string[]): string[] => sorted(list.map(canonicalPrefix));
  return JSON.stringify([sorted(captures), sorted(vlans), direction, sorted(protocols), prefixes(sources), prefixes(destinations), sorted(sourcePorts), sorted(destinationPorts)]);
}

function canonicalPrefix(text: string): string {
  const [address = '', length] = String(text).split('/');
  return `${canonical(address)}/${length ?? (isIpv4(address) ? 32 : 128)}`;
}

/** `flow-` and a hash of the match. */
export function nameOf(match: Json): string {
  return `flow-${createHash('sha256').update(canonicalMatch(match)).digest('hex').slice(0, 16)}`;
}

const policiesOf = (document: PlainDocument): readonly Json[] => (document['policies'] as readonly Json[] | undefined) ?? [];
const chainsOf = (document: PlainDocument): Json => (document['chains'] as Json | undefined) ?? {};

/** The steering that a policy is half of, or null. */
function read(policy: Json, chains: Json): Steering | null {
  const key = policy['name'];
  if (typeof key !== 'string' || !key.startsWith(PREFIX) || policy['chain'] !== key || !Object.hasOwn(chains, key)) return null;
  const chain = chains[key] as Json | readonly string[];
  const { services, ...options } = Array.isArray(chain) ? { services: chain as readonly string[] } : (chain as Json & { services: readonly string[] });
  return { name: key.slice(PREFIX.length), match: policy['match'] as Json, services, priority: (policy['priority'] as number | undefined) ?? 0, options };
}

/** In the order of their policies. */
export function steerings(document: PlainDocument): Steering[] {
  const chains = chainsOf(document);
  return policiesOf(document).flatMap((policy) => read(policy, chains) ?? []);
}

/** Where the policy of a steering stands in a document, or where it would be put. */
export function placeOf(document: PlainDocument, name: string): number {
  const policies = policiesOf(document);
  const at = policies.findIndex((policy) => policy['name'] === chainOf(name));
  return at < 0 ? policies.length : at;
}

export function setSteering(request: SteeringRequest): Edit {
  return (document) => {
    const name = request.name ?? nameOf(request.match);
    const key = chainOf(name);
    const chains = chainsOf(document);
    const policies = policiesOf(document);
    const at = policies.findIndex((policy) => policy['name'] === key);
    const own = at >= 0 && read(policies[at] ?? {}, chains) !== null;
    if (!own && (at >= 0 || Object.hasOwn(chains, key))) {
      throw new ChangeRefused(`there is a ${at >= 0 ? 'policy' : 'chain'} "${key}" that is no steering: give this one another name, or remove that one first`, 'name');
    }
    const chain = request.options === undefined || Object.keys(request.options).length === 0 ? request.services : { services: request.services, ...request.options };
    const policy = { name: key, ...(request.priority === undefined ? {} : { priority: request.priority }), match: request.match, chain: key };
    const next = { ...document, chains: { ...chains, [key]: chain } };
    return own ? { ...next, policies: policies.with(at, policy) } : addPolicy(policy, {})(next);
  };
}

/** By name, or by the flow identifier that it was set with. */
export function deleteSteering({ name, match }: { readonly name?: string | undefined; readonly match?: Json | undefined }): Edit {
  return (document) => {
    if ((name === undefined) === (match === undefined)) throw new ChangeRefused('say which: either "name" or "match"', 'name');
    const all = steerings(document);
    const wanted = match === undefined ? undefined : canonicalMatch(match);
    const found = all.filter((steering) => (name === undefined ? canonicalMatch(steering.match) === wanted : steering.name === name));
    if (found.length === 0) throw missing(name, all);
    if (found.length > 1) throw new ChangeRefused(`the steerings ${found.map((steering) => steering.name).join(', ')} all have this match: say which by name`, 'match');
    const key = chainOf(found[0]?.name ?? '');
    const others = policiesOf(document).find((policy) => policy['chain'] === key && policy['name'] !== key);
    if (others !== undefined) throw new ChangeRefused(`policy "${String(others['name'])}" uses its chain "${key}", too: remove that one first`, 'name');
    return {
      ...document,
      chains: Object.fromEntries(Object.entries(chainsOf(document)).filter(([chain]) => chain !== key)),
      policies: policiesOf(document).filter((policy) => policy['name'] !== key),
    };
  };
}

function missing(name: string | undefined, all: readonly Steering[]): ChangeRefused {
  const names = all.map((steering) => steering.name);
  if (name === undefined) return new ChangeRefused('there is no steering with this match; steer.list shows them', 'match');
  const near = nearest(name, names);
  const hint = near !== null ? `did you mean "${near}"?` : names.length > 20 ? `there are ${names.length}; steer.list shows them` : `there are: ${names.join(', ') || 'none'}`;
  return new ChangeRefused(`there is no steering "${name}"; ${hint}`, 'name');
}
