/** Steerings: a flow identifier and a chain in one request, the way a controller programs a host's filter. */
import type { PlainDocument } from '../config/configuration.js';
import { DocumentRefused } from '../config/refused.js';
import { schema } from '../config/schema.js';
import { CHAIN_OPTIONS, LONGEST_NAME, chainOf, deleteSteering, nameOf, placeOf, setSteering, steerings } from '../config/steering.js';
import { flowsOn } from '../dataplane/views.js';
import { CHANGE_OPTIONS, changeOptions, type ChangeOptions } from './change-methods.js';
import type { Context, Method } from './method.js';

const name = { type: 'string', pattern: `^[A-Za-z0-9][A-Za-z0-9._-]{0,${LONGEST_NAME - 1}}$` };
const chain = schema.properties.chains.additionalProperties.anyOf[1].properties;
const options = Object.fromEntries(CHAIN_OPTIONS.map((key) => [key, chain[key]]));

interface SetParams extends ChangeOptions {
  readonly name?: string;
  readonly match: Record<string, unknown>;
  readonly services: readonly string[];
  readonly priority?: number;
  readonly options?: Record<string, unknown>;
}

/** Errors of a document, as errors of the request that would have made it. */
function asRequest(error: unknown, steering: string, policy: number): unknown {
  if (!(error instanceof DocumentRefused)) return error;
  const key = chainOf(steering);
  const from: readonly (readonly [document: string, request: string])[] = [
    [`chains.${key}.services`, 'services'],
    [`chains.${key}[`, 'services['],
    [`chains.${key}.`, 'options.'],
    [`chains.${key}`, 'services'],
    [`policies[${policy}].match`, 'match'],
    [`policies[${policy}].`, ''],
    [`policies[${policy}]`, 'match'],
  ];
  const renamed = error.errors.map((one) => {
    const [document, request] = from.find(([prefix]) => one.path.startsWith(prefix)) ?? ['', ''];
    return { ...one, file: 'request', path: request + one.path.slice(document.length) };
  });
  return new DocumentRefused(renamed);
}

async function set(params: SetParams, { dataplane, who }: Context): Promise<unknown> {
  const steering = params.name ?? nameOf(params.match);
  let policy = 0;
  const edit = (document: PlainDocument): PlainDocument => {
    policy = placeOf(document, steering);
    return setSteering(params)(document);
  };
  try {
    const answer = await dataplane.edit(edit, changeOptions(params), who);
    return { ...answer, steering, chain: chainOf(steering), policy: chainOf(steering) };
  } catch (error) {
    throw asRequest(error, steering, policy);
  }
}

export const STEER_METHODS: Readonly<Record<string, Method>> = {
  'steer.set': {
    description: 'Has the streams that match visit these services; the same request again changes nothing.',
    params: {
      type: 'object',
      required: ['match', 'services'],
      properties: {
        name,
        match: { type: 'object' },
        services: { type: 'array', items: { type: 'string', minLength: 1, maxLength: 255 }, minItems: 1, maxItems: 32 },
        priority: schema.properties.policies.items.properties.priority,
        options: { type: 'object', properties: options, additionalProperties: false },
        ...CHANGE_OPTIONS,
      },
      additionalProperties: false,
    },
    run: set,
  },
  'steer.delete': {
    description: 'Takes a steering away, by its name or its match.',
    params: { type: 'object', properties: { name: { type: 'string', minLength: 1, maxLength: 255 }, match: { type: 'object' }, ...CHANGE_OPTIONS }, additionalProperties: false },
    run: (params: ChangeOptions & { name?: string; match?: Record<string, unknown> }, { dataplane, who }: Context) => dataplane.edit(deleteSteering(params), changeOptions(params), who),
  },
  'steer.list': {
    description: 'The steerings, with the streams that are on each.',
    params: { type: 'object', properties: {}, additionalProperties: false },
    run: (_: never, { dataplane }: Context) => {
      const on = flowsOn(dataplane);
      return {
        generation: dataplane.generation,
        steerings: steerings(dataplane.configuration.source.document).map((steering) => ({ ...steering, chain: chainOf(steering.name), policy: chainOf(steering.name), ...on(chainOf(steering.name)) })),
      };
    },
  },
};
