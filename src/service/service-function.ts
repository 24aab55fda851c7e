/** What a service function is: one module, one method, a bounded state object per stream. */
import { types } from 'node:util';
import type { Encapsulation } from '../dataplane/native.js';

export interface ServicePacket {
  /** The inner packet: with its Ethernet header under `nsh`, from the IP header on under `geneve`. Valid during the call. */
  readonly bytes: Uint8Array;
  readonly encapsulation: Encapsulation;
  /** Stream-affinity code, the same for both directions. */
  readonly code: number;
  readonly spi: number;
  readonly si: number;
}

export type Verdict = 'forward' | 'drop' | { readonly replace: Uint8Array };

export interface NodeIdentity {
  readonly service: string;
  readonly name: string;
}

export interface ServiceFunction<State = unknown> {
  readonly name: string;
  /** State of a stream that is seen for the first time. */
  newStream(): State;
  onPacket(packet: ServicePacket, stream: State, node: NodeIdentity): Verdict;
}

/** In bytes: with its stamp and the outer headers it still is one datagram. */
export const LONGEST_REPLACEMENT = 64_500;

/** An answer that is no verdict. Of `kind` there are few. */
export class NoVerdict extends Error {
  constructor(
    readonly kind: string,
    message = kind,
  ) {
    super(message);
  }
}

/** An answer as native code takes it: true forward, false drop, or the bytes. It may be anything; throws if it is no verdict. */
export function readVerdict(answer: unknown): boolean | Uint8Array {
  if (answer === 'forward') return true;
  if (answer === 'drop') return false;
  if (types.isPromise(answer)) {
    Promise.prototype.then.call(answer, undefined, () => undefined); // a rejection must not end the process
    throw new NoVerdict('answered a promise; it has to answer at once');
  }
  if (typeof answer !== 'object' || answer === null) {
    throw new NoVerdict('answered no verdict', `answered ${shown(answer)}; expected 'forward', 'drop' or {replace: bytes}`);
  }
  const { replace } = answer as { readonly replace?: unknown };
  if (!types.isUint8Array(replace)) throw new NoVerdict('answered no bytes', `answered an object whose "replace" is ${shown(replace)}; expected a Uint8Array`);
  const { length } = replace;
  if (!(length >= 1 && length <= LONGEST_REPLACEMENT)) {
    throw new NoVerdict('answered a wrong length', `answered a replacement of ${shown(length)} bytes; expected 1 to ${LONGEST_REPLACEMENT}`);
  }
  return replace;
}

function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 40));
  if (typeof value === 'function') return 'a function';
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}
