/** What `weir run` does beside moving packets: it tells the service manager, reloads its file at SIGHUP, serves metrics. */
import { MetricsServer } from '../control/metrics-server.js';
import type { Dataplane } from '../dataplane/dataplane.js';
import { metricsText } from '../dataplane/metrics.js';
import type { Logger } from '../observe/log.js';
import { ServiceManager } from '../supervise/service-manager.js';
import { Watchdog, successorInterval, watchdogInterval } from '../supervise/watchdog.js';
import { VERSION } from '../version.js';
import { documentOf } from './documents.js';

/** Of the weir that has just handed over, what Supervision has to know. */
export interface Predecessor {
  /** See successorInterval(). */
  readonly watchdogMs: number | null | undefined;
}

const STATUS_MS = 10_000;
const PATIENCE_MS = 5000;

export class Supervision {
  readonly #manager: ServiceManager;
  readonly #watchdog: Watchdog;
  /** How often the watchdog has to be told; null where there is none. */
  readonly watchdogMs: number | null;
  #metrics: MetricsServer | null = null;
  #status: NodeJS.Timeout | null = null;
  #reload: Promise<void> = Promise.resolve();

  private constructor(
    private readonly dataplane: Dataplane,
    private readonly file: string,
    private readonly log: Logger,
    predecessor: Predecessor | null,
  ) {
    this.#manager = ServiceManager.fromEnvironment(process.env, log);
    this.watchdogMs = predecessor === null ? watchdogInterval(process.env) : this.#manager.isThere ? successorInterval(process.env, predecessor.watchdogMs) : null;
    this.#watchdog = new Watchdog({ beats: () => dataplane.runner.beats?.() ?? [], alive: () => this.#manager.alive(this.#state()) }, log);
  }

  /**
   * Throws a Failure when the metrics' address can't be had. `file`: what SIGHUP reads again. `predecessor`: has just handed
   * over, and may still have that address for a moment.
   */
  static async start(dataplane: Dataplane, file: string, log: Logger, predecessor: Predecessor | null = null): Promise<Supervision> {
    const supervision = new Supervision(dataplane, file, log, predecessor);
    const { metrics } = dataplane.configuration;
    if (metrics !== null) supervision.#metrics = await MetricsServer.listen(metrics, () => metricsText(dataplane, VERSION), log, predecessor === null ? 0 : PATIENCE_MS);
    return supervision;
  }

  #state(): string {
    const { active } = this.dataplane.runner.counters().streams;
    return `generation ${this.dataplane.generation}, ${active} streams`;
  }

  ready(): void {
    this.#manager.ready(this.#state());
    if (this.watchdogMs !== null) this.#watchdog.start(this.watchdogMs);
    else this.#status = setInterval(() => this.#manager.status(this.#state()), STATUS_MS).unref();
  }

  /** Applies the file as `weir apply` would; a file that is not good changes nothing. */
  reload(): Promise<void> {
    this.#reload = this.#reload.then(async () => {
      this.#manager.reloading();
      let result: string;
      try {
        const { generation, changed } = await this.dataplane.apply(documentOf(this.file), {}, 'SIGHUP');
        result = `generation ${generation}: ${changed}`;
        this.log.info({ config: this.file, generation }, `${this.file} is loaded: ${changed}`);
      } catch (error) {
        result = `${this.file} was not loaded`;
        this.log.error({ config: this.file }, `${this.file} was not loaded, and nothing changed: ${(error as Error).message}`);
      }
      this.#manager.ready(result);
    });
    return this.#reload;
  }

  stopping(why: string): void {
    this.#manager.stopping(why);
    this.#watchdog.stop();
    if (this.#status !== null) clearInterval(this.#status);
    this.#metrics?.close();
  }
}
