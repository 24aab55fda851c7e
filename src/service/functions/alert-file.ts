/** Alerts on their way to a file, a JSON object a line. Bounded: a disk that can't keep up loses alerts, never packets. */
import { appendFile } from 'node:fs/promises';
import type { Logger } from '../../observe/log.js';

const MOST_WAITING = 10_000;

export class AlertFile {
  #waiting: string[] = [];
  #writing: Promise<void> | null = null;
  #lost = 0;
  #complained = false;

  constructor(
    readonly path: string,
    private readonly log: Logger,
  ) {}

  /** Alerts for which there was no room, or that could not be written. */
  get lost(): number {
    return this.#lost;
  }

  add(alert: object): void {
    if (this.#waiting.length >= MOST_WAITING) {
      this.#lost++;
      return;
    }
    this.#waiting.push(`${JSON.stringify(alert)}\n`);
    this.#writing ??= this.#write();
  }

  /** Fulfilled when all that was added before has been written. */
  async flush(): Promise<void> {
    await this.#writing;
  }

  /** The file is opened anew each time, so that it may be moved away. */
  async #write(): Promise<void> {
    while (this.#waiting.length > 0) {
      await new Promise(setImmediate); // whatever this batch of packets brings goes together
      const lines = this.#waiting;
      this.#waiting = [];
      try {
        await appendFile(this.path, lines.join(''), { mode: 0o640 });
        this.#complained = false;
      } catch (error) {
        this.#lost += lines.length;
        if (!this.#complained) this.log.error(`ids: can't write alerts: ${(error as Error).message}`);
        this.#complained = true;
      }
    }
    this.#writing = null;
  }
}
