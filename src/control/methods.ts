/** What can be asked of a running dataplane: name, schema of its parameters, handler. */
import { Ajv2020 } from 'ajv/dist/2020.js';
import { parseAddress } from '../config/address.js';
import { durationMs } from '../config/normalise.js';
import { ChangeRefused, type Dataplane } from '../dataplane/dataplane.js';
import type { InstanceState } from '../dataplane/native.js';
import { chains, flows, services, stats, status, trace, type FlowFilter } from '../dataplane/views.js';
import { INVALID_PARAMS, METHOD_NOT_FOUND, REFUSED, RpcError } from './protocol.js';

export interface Context {
  readonly dataplane: Dataplane;
  /** Who asks, for the log. */
  readonly who: string;
  readonly shutdown: () => void;
}

interface Method {
  readonly description: string;
  readonly params: { readonly type: 'object'; readonly properties: Record<string, object>; readonly required?: readonly string[]; readonly additionalProperties: false };
  readonly run: (params: never, context: Context) => unknown;
}

const none = { type: 'object', properties: {}, additionalProperties: false } as const;
const text = { type: 'string', minLength: 1, maxLength: 255 };
const port = { type: 'integer', minimum: 0, maximum: 65535 };
const vlan = { type: 'integer', minimum: 0, maximum: 4094 };
const PROTOCOLS: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 };

interface TraceParams {
  capture?: string;
  protocol: string | number;
  source: string;
  source_port?: number;
  destination: string;
  destination_port?: number;
  vlan?: number[];
  direction?: 'out' | 'in';
}

function traceRequest(params: TraceParams, dataplane: Dataplane) {
  const { captures } = dataplane.configuration;
  const capture = params.capture ?? captures[0]?.name ?? '';
  if (!captures.some((candidate) => candidate.name === capture)) {
    throw new RpcError(INVALID_PARAMS, `there is no capture "${capture}"; there are: ${captures.map((c) => c.name).join(', ')}`, { path: 'capture' });
  }
  for (const key of ['source', 'destination'] as const) {
    if (parseAddress(params[key]) === null) throw new RpcError(INVALID_PARAMS, `${key}: expected an IP address, found "${params[key]}"`, { path: key, expected: 'an IP address', found: params[key] });
  }
  return {
    capture,
    vlan: [params.vlan?.[0] ?? 0, params.vlan?.[1] ?? 0] as const,
    protocol: typeof params.protocol === 'number' ? params.protocol : (PROTOCOLS[params.protocol] ?? 0),
    source: params.source,
    sourcePort: params.source_port ?? 0,
    destination: params.destination,
    destinationPort: params.destination_port ?? 0,
    direction: params.direction ?? 'out',
  };
}

export const METHODS: Readonly<Record<string, Method>> = {
  status: { description: 'What runs, since when, with how much in it.', params: none, run: (_: never, { dataplane }) => status(dataplane) },
  stats: { description: 'Every counter.', params: none, run: (_: never, { dataplane }) => stats(dataplane) },
  flows: {
    description: 'Live streams, filtered.',
    params: {
      type: 'object',
      properties: { chain: text, instance: text, address: text, port, protocol: { enum: Object.keys(PROTOCOLS) }, limit: { type: 'integer', minimum: 1, maximum: 100000 } },
      additionalProperties: false,
    },
    run: ({ limit, ...filter }: FlowFilter & { limit?: number }, { dataplane }) => flows(dataplane, filter, limit ?? 100),
  },
  chains: { description: 'Chains, their paths and streams.', params: none, run: (_: never, { dataplane }) => chains(dataplane) },
  services: { description: 'Services, their instances and states.', params: none, run: (_: never, { dataplane }) => services(dataplane) },
  trace: {
    description: 'What would happen to a stream, and why.',
    params: {
      type: 'object',
      required: ['protocol', 'source', 'destination'],
      properties: {
        capture: text,
        protocol: { anyOf: [{ enum: Object.keys(PROTOCOLS) }, { type: 'integer', minimum: 0, maximum: 255 }] },
        source: text,
        source_port: port,
        destination: text,
        destination_port: port,
        vlan: { type: 'array', items: vlan, maxItems: 2 },
        direction: { enum: ['out', 'in'] },
      },
      additionalProperties: false,
    },
    run: (params: TraceParams, { dataplane }) => trace(dataplane, traceRequest(params, dataplane)),
  },
  'chain.set': {
    description: 'Replaces the services of one chain under traffic.',
    params: {
      type: 'object',
      required: ['chain', 'services'],
      properties: { chain: text, services: { type: 'array', items: text, maxItems: 32 }, existing: { enum: ['keep', 'move'] } },
      additionalProperties: false,
    },
    run: (params: { chain: string; services: string[]; existing?: 'keep' | 'move' }, { dataplane, who }) =>
      dataplane.setChain(params.chain, params.services, params.existing ?? 'keep', who),
  },
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
  shutdown: {
    description: 'Ends the dataplane as SIGTERM does.',
    params: none,
    run: (_: never, { shutdown }) => {
      shutdown();
      return { stopping: true };
    },
  },
};

const ajv = new Ajv2020({ allErrors: true, strict: false });
const validators = new Map(Object.entries(METHODS).map(([name, method]) => [name, ajv.compile(method.params)]));

/** Checks and runs one request. Throws an RpcError. */
export async function call(name: string, params: unknown, context: Context): Promise<unknown> {
  const method = Object.hasOwn(METHODS, name) ? METHODS[name] : undefined;
  const validate = validators.get(name);
  if (method === undefined || validate === undefined) {
    throw new RpcError(METHOD_NOT_FOUND, `there is no method "${name}"; there are: ${Object.keys(METHODS).join(', ')}`);
  }
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
    if (error instanceof ChangeRefused) throw new RpcError(REFUSED, error.message, { path: error.path });
    throw error;
  }
}
