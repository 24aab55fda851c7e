/** The methods that change the configuration: whole documents, merge patches, edits with a name. Each is one transaction. */
import type { PlainDocument } from '../config/configuration.js';
import { addInstance, addPolicy, addService, insertIntoChain, removeFromChain, removeInstance, removePolicy, removeService, replaceInChain, setChain, weighInstance, type Edit, type Place } from '../config/edits.js';
import { MOST_ERRORS, formatErrors } from '../config/errors.js';
import { mergePatch } from '../config/patch.js';
import { ChangeRefused, DocumentRefused, GenerationMismatch } from '../config/refused.js';
import type { ApplyOptions } from '../dataplane/dataplane.js';
import type { Context, Method } from './method.js';
import { OTHER_GENERATION, REFUSED, RpcError } from './protocol.js';

const name = { type: 'string', minLength: 1, maxLength: 255 };
const object = { type: 'object' };
const place = { after: name, before: name };

/** What every change takes beside its own parameters. */
export const CHANGE_OPTIONS = {
  existing: { enum: ['keep', 'move'] },
  if_generation: { type: 'integer', minimum: 0 },
  dry_run: { type: 'boolean' },
};

export interface ChangeOptions {
  readonly existing?: 'keep' | 'move';
  readonly if_generation?: number;
  readonly dry_run?: boolean;
}

export const changeOptions = (params: ChangeOptions): ApplyOptions => ({ existing: params.existing, ifGeneration: params.if_generation, dryRun: params.dry_run });

function change<P>(description: string, properties: Record<string, object>, required: readonly string[], edit: (params: P) => (document: PlainDocument) => unknown): Method {
  return {
    description,
    params: { type: 'object', required, properties: { ...properties, ...CHANGE_OPTIONS }, additionalProperties: false },
    run: (params: P & ChangeOptions, { dataplane, who }: Context) => dataplane.edit(edit(params), changeOptions(params), who),
  };
}

export const CHANGE_METHODS: Readonly<Record<string, Method>> = {
  'config.get': {
    description: 'The document in force and its generation.',
    params: { type: 'object', properties: {}, additionalProperties: false },
    run: (_: never, { dataplane }: Context) => ({ generation: dataplane.generation, document: dataplane.configuration.source.document }),
  },
  'config.apply': change('Replaces the whole document.', { document: object }, ['document'], ({ document }: { document: object }) => () => document),
  'config.patch': change('Merges a patch (RFC 7396) into the document.', { patch: object }, ['patch'], ({ patch }: { patch: object }) => (document) => mergePatch(document, patch)),
  'chain.set': change('Replaces the services of one chain under traffic.', { chain: name, services: { type: 'array', items: name, maxItems: 32 } }, ['chain', 'services'], (p: { chain: string; services: string[] }): Edit => setChain(p.chain, p.services)),
  'chain.insert': change('Puts a service into a chain.', { chain: name, service: name, ...place }, ['chain', 'service'], (p: Place & { chain: string; service: string }): Edit => insertIntoChain(p.chain, p.service, p)),
  'chain.remove': change('Takes a service out of a chain.', { chain: name, service: name }, ['chain', 'service'], (p: { chain: string; service: string }): Edit => removeFromChain(p.chain, p.service)),
  'chain.replace': change('Puts a service in the place of another.', { chain: name, service: name, with: name }, ['chain', 'service', 'with'], (p: { chain: string; service: string; with: string }): Edit => replaceInChain(p.chain, p.service, p.with)),
  'policy.add': change('Adds a policy, at the end or where it is said.', { policy: object, ...place }, ['policy'], (p: Place & { policy: Record<string, unknown> }): Edit => addPolicy(p.policy, p)),
  'policy.remove': change('Removes a policy.', { policy: name }, ['policy'], (p: { policy: string }): Edit => removePolicy(p.policy)),
  'service.add': change('Adds a service.', { service: name, definition: object }, ['service', 'definition'], (p: { service: string; definition: Record<string, unknown> }): Edit => addService(p.service, p.definition)),
  'service.remove': change('Removes a service that no chain has.', { service: name }, ['service'], (p: { service: string }): Edit => removeService(p.service)),
  'instance.add': change('Adds an instance to a service.', { service: name, instance: object }, ['service', 'instance'], (p: { service: string; instance: Record<string, unknown> }): Edit => addInstance(p.service, p.instance)),
  'instance.remove': change('Removes an instance; its streams go to others.', { service: name, instance: name }, ['service', 'instance'], (p: { service: string; instance: string }): Edit => removeInstance(p.service, p.instance)),
  'instance.weight': change('Changes the share of new streams that an instance gets.', { service: name, instance: name, weight: { type: 'integer', minimum: 1, maximum: 65535 } }, ['service', 'instance', 'weight'], (p: { service: string; instance: string; weight: number }): Edit => weighInstance(p.service, p.instance, p.weight)),
};

/** What was thrown, as an answer; what is no refusal as it is. */
export function asRpcError(error: unknown): unknown {
  if (error instanceof GenerationMismatch) return new RpcError(OTHER_GENERATION, error.message, { generation: error.generation });
  if (error instanceof DocumentRefused) {
    const errors = error.errors.slice(0, MOST_ERRORS).map(({ path, message, expected, found }) => ({ path, message, expected, found }));
    return new RpcError(REFUSED, formatErrors(error.errors), { path: error.path, errors, more: error.errors.length - errors.length });
  }
  return error instanceof ChangeRefused ? new RpcError(REFUSED, error.message, { path: error.path }) : error;
}
