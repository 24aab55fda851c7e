/** Methods that explain decisions and change nothing. */
import { parseAddress } from '../config/address.js';
import { PROTOCOLS } from '../config/normalise.js';
import type { Dataplane } from '../dataplane/dataplane.js';
import { factsOf } from '../explain/facts.js';
import { subjectOf } from '../explain/subject.js';
import { trace, type TraceRequest } from '../explain/trace.js';
import type { Method } from './method.js';
import { INVALID_PARAMS, RpcError } from './protocol.js';

/** Parameters of `trace`: the packet that opens the stream. */
export interface TraceParams {
  readonly capture?: string;
  readonly protocol: string | number;
  readonly source: string;
  readonly source_port?: number;
  readonly destination: string;
  readonly destination_port?: number;
  readonly vlan?: readonly number[];
  readonly direction?: 'out' | 'in';
  /** Hexadecimal: an Ethernet frame of this stream. */
  readonly frame?: string;
  /** The side that the frame came from; default: that of the opener. */
  readonly frame_direction?: 'out' | 'in';
}

const text = { type: 'string', minLength: 1, maxLength: 255 };
const port = { type: 'integer', minimum: 0, maximum: 65535 };
const vlan = { type: 'integer', minimum: 0, maximum: 4094 };
const direction = { enum: ['out', 'in'] };

/** Throws an RpcError that names the wrong parameter. */
export function traceRequest(params: TraceParams, { captures }: Pick<Dataplane['configuration'], 'captures'>): TraceRequest {
  const capture = params.capture ?? captures[0]?.name ?? '';
  if (!captures.some((candidate) => candidate.name === capture)) {
    throw new RpcError(INVALID_PARAMS, `there is no capture "${capture}"; there are: ${captures.map((c) => c.name).join(', ')}`, { path: 'capture' });
  }
  for (const key of ['source', 'destination'] as const) {
    if (parseAddress(params[key]) === null) throw new RpcError(INVALID_PARAMS, `${key}: expected an IP address, found "${params[key]}"`, { path: key, expected: 'an IP address', found: params[key] });
  }
  const opened = params.direction ?? 'out';
  return {
    capture,
    vlan: [params.vlan?.[0] ?? 0, params.vlan?.[1] ?? 0] as const,
    protocol: typeof params.protocol === 'number' ? params.protocol : (PROTOCOLS[params.protocol] ?? 0),
    source: params.source,
    sourcePort: params.source_port ?? 0,
    destination: params.destination,
    destinationPort: params.destination_port ?? 0,
    direction: opened,
    ...(params.frame === undefined ? {} : { frame: { bytes: Buffer.from(params.frame, 'hex'), direction: params.frame_direction ?? opened } }),
  };
}

export const EXPLAIN_METHODS: Readonly<Record<string, Method>> = {
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
        direction,
        frame: { type: 'string', pattern: '^([0-9a-fA-F]{2})+$', maxLength: 2 * 70_000 },
        frame_direction: direction,
      },
      additionalProperties: false,
    },
    run: (params: TraceParams, { dataplane }) => trace(subjectOf(dataplane), traceRequest(params, dataplane.configuration)),
  },
  'explain.facts': {
    description: 'What decisions are made of, for `weir diff` to make them elsewhere.',
    params: { type: 'object', properties: {}, additionalProperties: false },
    run: (_: never, { dataplane }) => factsOf(dataplane),
  },
};
