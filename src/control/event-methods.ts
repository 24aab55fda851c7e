/** The methods of events: `subscribe` and `unsubscribe` for this connection, `events` for those that were. */
import { EVENT_KINDS, KEPT_EVENTS, type EventKind } from '../observe/events.js';
import type { Context, Method } from './method.js';

const kinds = { type: 'array', items: { enum: EVENT_KINDS }, minItems: 1, uniqueItems: true };

export const EVENT_METHODS: Readonly<Record<string, Method>> = {
  subscribe: {
    description: 'Sends events of some kinds, or of all, to this connection.',
    params: { type: 'object', properties: { events: kinds }, additionalProperties: false },
    run: ({ events = EVENT_KINDS }: { events?: readonly EventKind[] }, { dataplane, subscription }: Context) => {
      subscription.start(events);
      return { events: subscription.kinds, last: dataplane.events.last };
    },
  },
  unsubscribe: {
    description: 'Sends no more events to this connection.',
    params: { type: 'object', properties: {}, additionalProperties: false },
    run: (_: never, { subscription }: Context) => {
      subscription.stop();
      return { events: [] };
    },
  },
  events: {
    description: `The last events, ${KEPT_EVENTS} at most.`,
    params: {
      type: 'object',
      properties: { since: { type: 'integer', minimum: 0 }, limit: { type: 'integer', minimum: 0, maximum: KEPT_EVENTS }, events: kinds },
      additionalProperties: false,
    },
    run: ({ events, ...which }: { since?: number; limit?: number; events?: readonly EventKind[] }, { dataplane }: Context) =>
      dataplane.events.history({ ...which, ...(events === undefined ? {} : { kinds: events }) }),
  },
};
