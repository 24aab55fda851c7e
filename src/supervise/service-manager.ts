/** What a service manager (systemd) is told: sd_notify(3). Without one, nothing. */
import { native } from '../dataplane/native.js';
import type { Logger } from '../observe/log.js';

export class ServiceManager {
  #warned = false;

  constructor(
    private readonly socket: string | undefined,
    private readonly log: Logger,
  ) {}

  /** The socket is for this process and none that it starts. */
  static fromEnvironment(environment: NodeJS.ProcessEnv, log: Logger): ServiceManager {
    const socket = environment['NOTIFY_SOCKET'];
    delete environment['NOTIFY_SOCKET'];
    return new ServiceManager(socket === '' ? undefined : socket, log);
  }

  get isThere(): boolean {
    return this.socket !== undefined;
  }

  /** Whoever reads the manager's status sees `status`. After a takeover this process is the service's main one. */
  ready(status: string): void {
    this.#say('READY=1', `MAINPID=${process.pid}`, `STATUS=${plain(status)}`);
  }

  status(status: string): void {
    this.#say(`STATUS=${plain(status)}`);
  }

  reloading(): void {
    this.#say('RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
  }

  stopping(status: string): void {
    this.#say('STOPPING=1', `STATUS=${plain(status)}`);
  }

  alive(status: string): void {
    this.#say('WATCHDOG=1', `STATUS=${plain(status)}`);
  }

  #say(...lines: readonly string[]): void {
    if (this.socket === undefined) return;
    const refused = native.notify(this.socket, lines.join('\n'));
    if (refused === null || this.#warned) return;
    this.#warned = true;
    this.log.warn(`the service manager can't be told anything ($NOTIFY_SOCKET): ${refused}`);
  }
}

/** One line: what follows would be another message. */
const plain = (text: string): string => text.replace(/\s+/g, ' ').slice(0, 500);
