/**
 * Tells the service manager's watchdog that weir lives, as long as every worker moves: one that hangs, in the kernel or in a loop,
 * stops it as surely as a JavaScript thread that hangs, and the manager starts weir anew.
 */
import type { Logger } from '../observe/log.js';

/** A thread without work still turns every 20 ms; much less than that would take an idle one for stuck. */
const LEAST_INTERVAL_MS = 200;

/** How often where the weir before does not say: good for `WatchdogSec=3` and more. systemd takes no notice of it where there is no watchdog. */
const SUCCESSOR_INTERVAL_MS = 1000;

/** How often to tell it, in milliseconds: a third of the time it waits (sd_watchdog_enabled(3)); null where there is none for this process. */
export function watchdogInterval({ WATCHDOG_USEC: microseconds, WATCHDOG_PID: pid }: Readonly<NodeJS.ProcessEnv>, ownPid = process.pid): number | null {
  if (microseconds === undefined || !/^[0-9]+$/.test(microseconds) || Number(microseconds) === 0) return null;
  if (pid !== undefined && pid !== '' && Number(pid) !== ownPid) return null;
  return Math.max(LEAST_INTERVAL_MS, Number(microseconds) / 3000);
}

/**
 * As watchdogInterval(), of a process that has taken over from another one: systemd gives its watchdog's time only to the process that it starts
 * as the main one, and this becomes it later. `before`: the interval of the other one, null where it had none, undefined where it did not say.
 */
export const successorInterval = (environment: Readonly<NodeJS.ProcessEnv>, before: number | null | undefined): number | null =>
  watchdogInterval(environment) ?? (before === undefined ? SUCCESSOR_INTERVAL_MS : before);

export interface Watched {
  /** Rounds of each worker so far; empty where there are no threads but this one. */
  readonly beats: () => readonly number[];
  readonly alive: () => void;
}

export class Watchdog {
  #before: readonly number[] = [];
  #stuck: readonly number[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(
    private readonly watched: Watched,
    private readonly log: Logger,
  ) {}

  start(intervalMs: number): void {
    this.look();
    this.#timer = setInterval(() => this.look(), intervalMs).unref();
  }

  /** One look: tells that all is well, unless a worker has not moved since the last one. */
  look(): void {
    const now = this.watched.beats();
    const stuck = now.flatMap((turns, worker) => (turns === this.#before[worker] ? [worker] : []));
    this.#before = now;
    const news = stuck.join() !== this.#stuck.join();
    this.#stuck = stuck;
    if (news && stuck.length > 0) this.log.error({ workers: stuck }, `worker ${stuck.join(' and ')} does not move: the watchdog is not told that all is well until it does`);
    else if (news) this.log.info('every worker moves again');
    if (stuck.length === 0) this.watched.alive();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}
