/** What can be asked of a running dataplane: name, schema of its parameters, handler. */
import { durationMs } from '../config/normalise.js';
import type { InstanceState } from '../dataplane/native.js';
import { chains, flows, services, stats, status, type FlowFilter } from '../dataplane/views.js';
import { CHANGE_METHODS } from './change-methods.js';
import { CONDITION_METHODS } from './condition-methods.js';
import { EVENT_METHODS } from './event-methods.js';
import { EXPLAIN_METHODS } from './explain-methods.js';
import { flowFilter } from './flow-filter.js';
import { LOAD_METHODS } from './load-methods.js';
import { MESH_METHODS } from './mesh-methods.js';
import { OBSERVE_METHODS } from './observe-methods.js';
import type { Method } from './method.js';
import { TAKEOVER_METHODS } from './takeover-methods.js';
import { STEER_METHODS } from './steer-methods.js';

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
    run: ({ limit, cursor, ...filter }: FlowFilter & { limit?: number; cursor?: number }, { dataplane }) => flows(dataplane, flowFilter(dataplane, filter), limit ?? 100, cursor),
  },
  chains: { description: 'Chains, their paths and streams.', params: none, run: (_: never, { dataplane }) => chains(dataplane) },
  services: { description: 'Services, their instances and states.', params: none, run: (_: never, { dataplane }) => services(dataplane) },
  ...LOAD_METHODS,
  ...EXPLAIN_METHODS,
  ...CHANGE_METHODS,
  ...STEER_METHODS,
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
  ...TAKEOVER_METHODS,
  ...OBSERVE_METHODS,
  ...MESH_METHODS,
  shutdown: {
    description: 'Ends the dataplane as SIGTERM does.',
    params: none,
    run: (_: never, { shutdown, who }) => {
      shutdown(who);
      return { stopping: true, who: String(who) };
    },
  },
};
