/** Answers of a function: what they may be, and what is said of others. */
import { types } from 'node:util';
import { LONGEST_REPLACEMENT } from './service-function.js';

/** An answer that is no verdict. Of `kind` there are few. */
export class NoVerdict extends Error {
  constructor(
    readonly kind: string,
    message = kind,
  ) {
    super(message);
  }
}

/** True forward, false drop, or the bytes that replace the packet. The answer may be anything; throws if it is no verdict. */
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
