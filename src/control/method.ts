/** What a method of the control socket is, and what it is given. */
import type { Dataplane } from '../dataplane/dataplane.js';
import type { HandOverRequest } from '../dataplane/hand-over.js';
import type { Logger } from '../observe/log.js';
import type { Who } from '../observe/who.js';
import type { Subscription } from './subscription.js';

export interface Context {
  readonly dataplane: Dataplane;
  readonly log: Logger;
  readonly who: Who;
  /** Of the connection that asks. */
  readonly subscription: Subscription;
  readonly shutdown: (who: Who) => void;
  /** Hands over to the process that asks; absent where that can't be done. */
  readonly takeover?: ((request: HandOverRequest, who: Who) => Promise<void>) | undefined;
  /** Does it when the connection that asks is over. */
  readonly atEnd: (work: () => void) => void;
}

/** `Context`: what the one that answers has. */
export interface AnyMethod<Context = never> {
  readonly description: string;
  readonly params: { readonly type: 'object'; readonly properties: Record<string, object>; readonly required?: readonly string[]; readonly additionalProperties: false };
  readonly run: (params: never, context: Context) => unknown;
}

/** Of a dataplane. */
export type Method = AnyMethod<Context>;
