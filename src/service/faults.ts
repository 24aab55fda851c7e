/** What a function does wrong, for its log: the first of each kind at once, all further ones as one line a minute. */
import type { Logger } from '../observe/log.js';
import { NoVerdict } from './verdict.js';

/** Kinds of faults told apart: their names come from the function. */
const MOST_KINDS = 16;
const MINUTE = 60_000;

export type After = (work: () => void, milliseconds: number) => void;
const later: After = (work, milliseconds) => void setTimeout(work, milliseconds).unref();

export interface Fault {
  readonly kind: string;
  readonly message: string;
  readonly stack?: string | undefined;
}

/** What was thrown may be anything, also what throws when it is looked at. */
export function faultOf(step: string, error: unknown): Fault {
  try {
    if (error instanceof NoVerdict) return { kind: `onPacket() ${error.kind}`, message: `onPacket() ${error.message}` };
    const message = `${step} threw ${String(error).slice(0, 300)}`;
    if (!(error instanceof Error)) return { kind: `${step} threw`, message };
    return { kind: `${step} threw ${String(error.name).slice(0, 50)}`, message, stack: String(error.stack).slice(0, 3000) };
  } catch {
    return { kind: `${step} threw`, message: `${step} threw something that can't be shown` };
  }
}

export class FaultLog {
  readonly #known = new Set<string>();
  #more = new Map<string, number>();
  #last = '';
  #total = 0;

  constructor(
    private readonly log: Logger,
    private readonly name: string,
    private readonly after: After = later,
  ) {}

  /** Faults so far. */
  get total(): number {
    return this.#total;
  }

  /** Whether it was logged at once. */
  add({ kind, message, stack }: Fault): boolean {
    this.#total++;
    if (!this.#known.has(kind) && this.#known.size < MOST_KINDS) {
      this.#known.add(kind);
      this.log.error({ stack }, `function ${this.name}: ${message}`);
      return true;
    }
    if (this.#more.size === 0) this.after(() => this.#tell(), MINUTE);
    const counted = this.#known.has(kind) ? kind : 'others';
    this.#more.set(counted, (this.#more.get(counted) ?? 0) + 1);
    this.#last = message;
    return false;
  }

  #tell(): void {
    const kinds = Object.fromEntries(this.#more);
    const faults = [...this.#more.values()].reduce((sum, n) => sum + n, 0);
    this.#more = new Map();
    this.log.error({ kinds }, `function ${this.name}: ${faults} more fault${faults === 1 ? '' : 's'}, the last one: ${this.#last}`);
  }
}
