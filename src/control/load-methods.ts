/** The load of instances: what they report, or what a controller collected and says here. */
import { ChangeRefused } from '../config/refused.js';
import { durationMs } from '../config/forms.js';
import { services } from '../dataplane/views.js';
import type { LoadValues } from '../load/report.js';
import { asRpcError } from './change-methods.js';
import type { Context, Method } from './method.js';

const name = { type: 'string', minLength: 1, maxLength: 255 };
const amount = { type: 'number' };

interface SetLoad {
  readonly service: string;
  readonly instance: string;
  readonly packets_per_second?: number;
  readonly bytes_per_second?: number;
  readonly cpu?: number;
  readonly streams?: number;
  readonly queue?: number;
  readonly valid?: string;
}

const LONGEST_MS = 600_000;

export const LOAD_METHODS: Readonly<Record<string, Method>> = {
  load: {
    description: 'What instances say of their load, and what weir measures.',
    params: { type: 'object', properties: {}, additionalProperties: false },
    run: (_: never, { dataplane }: Context) => ({
      strangers: dataplane.placement.load.strangers,
      services: services(dataplane).map(({ name: service, placement, instances }) => ({
        name: service,
        placement,
        instances: instances.map(({ name: instance, state, weight, factor, load, measured }) => ({ name: instance, state, weight, factor, ...load, measured })),
      })),
    }),
  },
  'load.set': {
    description: 'The load of an instance, as somebody else collected it.',
    params: {
      type: 'object',
      required: ['service', 'instance'],
      properties: { service: name, instance: name, packets_per_second: amount, bytes_per_second: amount, cpu: amount, streams: amount, queue: amount, valid: { type: 'string', pattern: '^[0-9]+(ms|s|m|h)$' } },
      additionalProperties: false,
    },
    run: (params: SetLoad, { dataplane }: Context) => {
      const { service, instance, packets_per_second: packets = null, bytes_per_second: bytes = null, cpu = null, streams = null, queue = null, valid = '10s' } = params;
      // What says nothing would still hold off what the instance itself reports.
      if ([packets, bytes, cpu, streams, queue].every((figure) => figure === null)) throw asRpcError(new ChangeRefused('no figure is given: at least one of cpu, packets_per_second, bytes_per_second, streams, queue', 'cpu'));
      const values: LoadValues = { packetsPerSecond: packets, bytesPerSecond: bytes, cpu, streams, queue };
      const validMs = durationMs(valid);
      if (validMs === 0 || validMs > LONGEST_MS) throw asRpcError(new ChangeRefused(`expected a duration of at most 10m, found "${valid}"`, 'valid'));
      const wrong = dataplane.placement.load.set(`${service}/${instance}`, values, validMs);
      if (wrong !== null) throw asRpcError(new ChangeRefused(wrong, 'instance'));
      return { instance: `${service}/${instance}`, valid_ms: validMs };
    },
  },
};
