/** How a starting weir asks the running one to make way. */
import type { HandOverRequest } from '../dataplane/hand-over.js';
import type { Method } from './method.js';
import { REFUSED, RpcError } from './protocol.js';

export const TAKEOVER_METHODS: Readonly<Record<string, Method>> = {
  takeover: {
    description: 'Hands streams, rings and ports over to the process that asks (`weir run --takeover`), and ends. Only for root and the user that weir runs as.',
    params: {
      type: 'object',
      required: ['channel', 'generation'],
      properties: { channel: { type: 'string', pattern: '^weir-takeover-[0-9a-f]{32}$' }, generation: { type: 'integer', minimum: 0 } },
      additionalProperties: false,
    },
    run: async (request: HandOverRequest, { takeover, who }) => {
      if (takeover === undefined) throw new RpcError(REFUSED, 'this weir can not be taken over');
      await takeover(request, who);
      return { who: String(who) };
    },
  },
};
