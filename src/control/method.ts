/** What a method of the control socket is, and what it is given. */
import type { Dataplane } from '../dataplane/dataplane.js';
import type { Who } from '../observe/who.js';
import type { Subscription } from './subscription.js';

export interface Context {
  readonly dataplane: Dataplane;
  readonly who: Who;
  /** Of the connection that asks. */
  readonly subscription: Subscription;
  readonly shutdown: (who: Who) => void;
}

export interface Method {
  readonly description: string;
  readonly params: { readonly type: 'object'; readonly properties: Record<string, object>; readonly required?: readonly string[]; readonly additionalProperties: false };
  readonly run: (params: never, context: Context) => unknown;
}
