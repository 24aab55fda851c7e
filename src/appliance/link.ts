/** A member's side: one connection to each manager, kept up; says how it is, and takes its part from whichever manager leads. */
import { connect, type Socket } from 'node:net';
import type { Logger } from '../observe/log.js';
import { Channel, type Message } from './channel.js';
import { isNewer, NO_EDITION, sameEdition, type Edition, type Part, type Report } from './messages.js';

/** From one report to the next. */
export const HEARTBEAT_MS = 200;
const RETRY_MS = 250;
/** Of a manager that refuses. */
const REFUSED_RETRY_MS = 2000;
/** Without a word from it, the connection is made anew. */
const SILENT_MS = 3000;

export interface LinkOptions {
  readonly managers: readonly { readonly address: string; readonly port: number }[];
  /** Own, on the underlay: what connections come from. Null: any. */
  readonly address: string | null;
  readonly key: Uint8Array;
  readonly report: () => Report;
  /** Called with each part that is newer than the one before; those that come meanwhile wait, and only the newest is given. Rejects where it could not be done. */
  readonly take: (part: Part) => Promise<void>;
}

export class ManagerLink {
  readonly #connections: Connection[];
  #edition: Edition = NO_EDITION;
  #next: Part | null = null;
  #busy = false;
  /** Why the last part could not be taken; null: it was. */
  #failure: string | null = null;

  constructor(
    private readonly options: LinkOptions,
    private readonly log: Logger,
  ) {
    this.#connections = options.managers.map((place) => new Connection(place, options, (message) => this.#receive(message), log));
  }

  /** Of the part that was taken last. */
  get edition(): Edition {
    return this.#edition;
  }

  /** Says now how this member is, to all managers. */
  report(): void {
    for (const connection of this.#connections) connection.say();
  }

  close(): void {
    this.#next = null;
    for (const connection of this.#connections) connection.close();
  }

  #receive(message: Message): void {
    if (message.type !== 'unit_part' && message.type !== 'dispatcher_part') return;
    const part = message as unknown as Part;
    const latest = this.#next ?? this.#edition;
    if (!isNewer(part, latest)) {
      // The same once more is what it says to a connection that is new.
      if (!sameEdition(part, latest) && part.term < latest.term) this.log.warn({ term: part.term, ours: latest.term }, 'a manager that was succeeded by another one still speaks: its word does not count');
      return;
    }
    this.#next = part;
    void this.#work();
  }

  async #work(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    while (this.#next !== null) {
      const part = this.#next;
      try {
        await this.options.take(part);
        this.#edition = { term: part.term, revision: part.revision };
        this.#failure = null;
      } catch (error) {
        const { message } = error as Error;
        if (message !== this.#failure) this.log.error(`what the manager says can't be done, it is tried again: ${message}`);
        this.#failure = message;
        this.report();
        await new Promise((wake) => setTimeout(wake, RETRY_MS));
      }
      if (this.#next === part && sameEdition(this.#edition, part)) this.#next = null;
      this.report();
    }
    this.#busy = false;
  }
}

class Connection {
  #channel: Channel | null = null;
  #socket: Socket | null = null;
  #timer: NodeJS.Timeout;
  #again: NodeJS.Timeout | null = null;
  #heardMs = 0;
  #closed = false;
  /** What was said of it last; '-': nothing yet. */
  #told = '-';

  constructor(
    private readonly place: { readonly address: string; readonly port: number },
    private readonly options: LinkOptions,
    private readonly received: (message: Message) => void,
    private readonly log: Logger,
  ) {
    this.#timer = setInterval(() => this.#beat(), HEARTBEAT_MS);
    this.#open();
  }

  say(): void {
    this.#channel?.send(this.options.report() as unknown as Message);
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    if (this.#again !== null) clearTimeout(this.#again);
    this.#channel?.close();
    this.#socket?.destroy();
  }

  #beat(): void {
    if (this.#channel === null) return;
    if (performance.now() - this.#heardMs > SILENT_MS) return this.#channel.close();
    this.say();
  }

  #open(): void {
    const { address, key } = this.options;
    let pause = RETRY_MS;
    let refused = false;
    let connected = false;
    let heard = false;
    const socket: Socket = connect({ host: this.place.address, port: this.place.port, ...(address === null ? {} : { localAddress: address }) });
    const late = setTimeout(() => socket.destroy(), SILENT_MS);
    socket.once('error', () => undefined);
    this.#socket = socket;
    socket.once('connect', () => {
      clearTimeout(late);
      connected = true;
      this.#heardMs = performance.now();
      this.#channel = new Channel(socket, 'client', key, {
        received: (message) => {
          this.#heardMs = performance.now();
          heard = true;
          if (message.type !== 'refused') {
            if (message.type !== 'beat' || !refused) this.#tell('', '');
            return this.received(message);
          }
          refused = true;
          pause = REFUSED_RETRY_MS;
          this.#tell(String(message['why']), `manager ${this.place.address} refuses: ${String(message['why'])}`);
        },
        closed: (why) => {
          this.#channel = null;
          if (why !== null) {
            pause = REFUSED_RETRY_MS;
            this.#tell(why.reason, `manager ${this.place.address}: ${why.why}; nothing it says is taken`);
          } else if (!heard && !this.#closed && performance.now() - this.#heardMs <= SILENT_MS) {
            this.#tell('ended', `manager ${this.place.address} ends the connection before it has said anything: is --manager-key the same file there?`);
          } else if (!refused && !this.#closed) this.#tell('lost', `manager ${this.place.address} is gone: this goes on with what it has`);
        },
      });
      this.say();
    });
    socket.once('close', () => {
      clearTimeout(late);
      if (!connected && this.#told === '-') this.#tell('away', `manager ${this.place.address} can't be reached at port ${this.place.port}; it is tried again`);
      if (!this.#closed) this.#again = setTimeout(() => this.#open(), pause);
    });
  }

  /** Once for each cause, until all is well again. */
  #tell(cause: string, text: string): void {
    if (this.#told === cause) return;
    if (cause === '') this.log.info(`manager ${this.place.address} is there`);
    else this.log.warn(text);
    this.#told = cause;
  }
}
