/** Starts and ends the processes of units by the hooks of a layout. Without hooks units are there when somebody starts them. */
import type { Logger } from '../observe/log.js';
import { runHook } from '../scale/hooks.js';
import type { ApplianceConfig } from './document.js';

const HOOK_MS = 30_000;
/** From the hook's end to the unit's first word. */
const READY_MS = 60_000;
/** One that could not be started is not tried again for so long. */
const PAUSE_MS = 30_000;

export class Starter {
  /** Units that a hook starts, or has started and that are not there yet; since when. */
  readonly #starting = new Map<string, number>();
  readonly #failed = new Map<string, { readonly atMs: number; readonly cause: string }>();
  readonly #ending = new Set<string>();
  readonly #ended = new AbortController();

  constructor(
    private readonly now: () => number,
    private readonly log: Logger,
  ) {}

  starting(unit: string): boolean {
    return this.#starting.has(unit);
  }

  /** Why it could not be started lately; null: it could, or was not to. */
  cause(unit: string): string | null {
    const failed = this.#failed.get(unit);
    return failed === undefined || this.now() - failed.atMs > PAUSE_MS ? null : failed.cause;
  }

  failed(unit: string): boolean {
    return this.cause(unit) !== null;
  }

  /** Starts those that are chosen and do not run. */
  follow({ service, units, layout }: ApplianceConfig, chosen: readonly string[], runs: (unit: string) => boolean): void {
    const { add } = layout;
    if (add === null) return;
    for (const { name, address } of units) {
      const sinceMs = this.#starting.get(name);
      if (runs(name) || !chosen.includes(name)) this.#starting.delete(name);
      else if (sinceMs !== undefined && this.now() - sinceMs > HOOK_MS + READY_MS) this.#fail(name, `it has not been heard of within ${(HOOK_MS + READY_MS) / 1000} s of being started`);
      if (sinceMs !== undefined || runs(name) || !chosen.includes(name) || this.failed(name) || this.#ending.has(name)) continue;
      this.#starting.set(name, this.now());
      this.log.info({ unit: name }, `unit ${name} is started`);
      void runHook(add, { action: 'add', service, instance: name, address }, HOOK_MS, this.#ended.signal).then((outcome) => {
        if (!outcome.ok) this.#fail(name, `its hook: ${outcome.cause}`);
        else if (outcome.address !== null && outcome.address !== address) this.#fail(name, `its hook says that it is at ${outcome.address}, and the document says ${address}`);
      });
    }
  }

  /** It has left the appliance. */
  end({ service, layout }: ApplianceConfig, unit: string, address: string): void {
    const { remove } = layout;
    if (remove === null || this.#ending.has(unit)) return;
    this.#ending.add(unit);
    void runHook(remove, { action: 'remove', service, instance: unit, address }, HOOK_MS, this.#ended.signal).then((outcome) => {
      this.#ending.delete(unit);
      if (outcome.ok) this.log.info({ unit }, `unit ${unit} is ended`);
      else this.log.error({ unit }, `unit ${unit} could not be ended: its hook: ${outcome.cause}`);
    });
  }

  stop(): void {
    this.#ended.abort();
  }

  #fail(unit: string, cause: string): void {
    this.#starting.delete(unit);
    this.#failed.set(unit, { atMs: this.now(), cause });
    this.log.error({ unit }, `unit ${unit} was not started: ${cause}; it is tried again in ${PAUSE_MS / 1000} s`);
  }
}
