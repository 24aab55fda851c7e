/** What can be asked of a running dataplane: name, schema of its parameters, handler. */
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { durationMs } from '../config/normalise.js';
import type { InstanceState } from '../dataplane/native.js';
import { chains, flows, services, stats, status, type FlowFilter } from '../dataplane/views.js';
import { CHANGE_METHODS, asRpcError } from './change-methods.js';
import { CONDITION_METHODS } from './condition-methods.js';
import { EVENT_METHODS } from './event-methods.js';
import { EXPLAIN_METHODS } from './explain-methods.js';
import type { Context, Method } from './method.js';
import { INVALID_PARAMS, METHOD_NOT_FOUND, RpcError } from './protocol.js';

const none = { type: 'object', properties: {}, additionalProperties: false } as const;
const text = { type: 'string', minLength: 1, maxLength: 255 };
const port = { type: 'integer', minimum: 0, maximum: 65535 };
const PROTOCOLS: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 };

export const METHODS: Readonly<Record<string, Method>> = {
  status: { description: 'What runs, since when, with how much in it.', params: none, run: (_: never, { dataplane }) => status(dataplane) },
  stats: { description: 'Every counter.', params: none, run: (_: never, { dataplane }) => stats(dataplane) },
  flows: {
    description: 'Live streams, filtered.',
    params: {
      type: 'object',
      properties: { chain: text, instance: text, address: text, port, protocol: { enum: Object.keys(PROTOCOLS) }, limit: { type: 'integer', minimum: 1, maximum: 100000 }, cursor: { type: 'integer', minimum: 0 } },
      additionalProperties: false,
    },
    run: ({ limit, cursor, ...filter }: FlowFilter & { limit?: number; cursor?: number }, { dataplane }) => flows(dataplane, filter, limit ?? 100, cursor),
  },
  chains: { description: 'Chains, their paths and streams.', params: none, run: (_: never, { dataplane }) => chains(dataplane) },
  services: { description: 'Services, their instances and states.', params: none, run: (_: never, { dataplane }) => services(dataplane) },
  ...EXPLAIN_METHODS,
  ...CHANGE_METHODS,
  'instance.set': {
    description: 'Sets the state of one instance.',
    params: {
      type: 'object',
      required: ['service', 'instance', 'state'],
      properties: { service: text, instance: text, state: { enum: ['up', 'draining', 'down'] }, deadline: { type: 'string', pattern: '^[0-9]+(ms|s|m|h)$' } },
      additionalProperties: false,
    },
    run: (params: { service: string; instance: string; state: InstanceState; deadline?: string }, { dataplane, who }) =>
      dataplane.setInstance(params.service, params.instance, params.state, params.deadline === undefined ? null : durationMs(params.deadline), who),
  },
  ...CONDITION_METHODS,
  ...EVENT_METHODS,
  shutdown: {
    description: 'Ends the dataplane as SIGTERM does.',
    params: none,
    run: (_: never, { shutdown, who }) => {
      shutdown(who);
      return { stopping: true, who: String(who) };
    },
  },
};

const ajv = new Ajv2020({ allErrors: true, strict: false });
/** Compiled when a method is first called. */
const validators = new Map<string, ValidateFunction>();

function validatorOf(name: string, method: Method): ValidateFunction {
  const known = validators.get(name) ?? ajv.compile(method.params);
  validators.set(name, known);
  return known;
}

/** Checks and runs one request. Throws an RpcError. */
export async function call(name: string, params: unknown, context: Context): Promise<unknown> {
  const method = Object.hasOwn(METHODS, name) ? METHODS[name] : undefined;
  if (method === undefined) {
    throw new RpcError(METHOD_NOT_FOUND, `there is no method "${name}"; there are: ${Object.keys(METHODS).join(', ')}`);
  }
  const validate = validatorOf(name, method);
  const given = params ?? {};
  if (Array.isArray(given)) throw new RpcError(INVALID_PARAMS, `${name}: parameters are given by name, in an object`);
  if (!validate(given)) {
    const problems = (validate.errors ?? [])
      .filter((error) => error.keyword !== 'anyOf')
      .map((error) => {
        const extra = (error.params as { additionalProperty?: string }).additionalProperty;
        const path = [error.instancePath.slice(1).replaceAll('/', '.'), extra].filter((part) => part !== undefined && part !== '').join('.');
        const allowed = (error.params as { allowedValues?: unknown[] }).allowedValues;
        return { path, message: allowed === undefined ? String(error.message) : `must be one of ${allowed.join(', ')}` };
      });
    throw new RpcError(INVALID_PARAMS, `${name}: ${problems.map((p) => `${p.path === '' ? 'parameters' : p.path} ${p.message}`).join('; ')}`, { problems });
  }
  try {
    return await method.run(given as never, context);
  } catch (error) {
    throw asRpcError(error);
  }
}
