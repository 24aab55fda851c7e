/** What the node's thread and the function's thread say to each other, and the memory they share. */
import type { SyncReport } from '../mesh/hello.js';
import type { ServiceMap } from '../mesh/service-map.js';
import type { MetricValue } from './metrics.js';
import type { NodeIdentity } from './service-function.js';
import type { SyncData } from './sync-link.js';

export interface FunctionThreadData {
  /** Of the native node. */
  readonly handle: number;
  readonly function: string;
  readonly settings: string | null;
  /** In force before the thread was started anew: for when the file has become unreadable or wrong since. */
  readonly lastSettings?: unknown;
  readonly identity: NodeIdentity;
  /** Null: in no mesh. */
  readonly sync: SyncData | null;
  readonly maxStreams: number;
  readonly maxMemoryMb: number;
  /** 32-bit words: BEAT changes while the thread is alive, STEP is an index into STEPS. */
  readonly shared: SharedArrayBuffer;
}

export const BEAT = 0;
export const STEP = 1;
export const SHARED_BYTES = 8;

export type ToFunction = { readonly type: 'reload' | 'flush' | 'stop' } | { readonly type: 'map'; readonly map: ServiceMap; readonly renewed: string | null };

export type FromFunction =
  | { readonly type: 'ready'; readonly settings: unknown; readonly syncPort: number }
  /** It can't start. */
  | { readonly type: 'refused'; readonly message: string; readonly exitCode: 1 | 2 }
  | { readonly type: 'settings'; readonly settings: unknown }
  | { readonly type: 'metrics'; readonly values: readonly MetricValue[]; readonly sync: SyncReport | null }
  | { readonly type: 'stopped' }
  /** It can't go on. */
  | { readonly type: 'fatal'; readonly message: string };
