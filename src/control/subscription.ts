/**
 * The events that one connection asked for, as notifications. What waits for a client that does not read is bounded; past that
 * the client is cut off: an event is never lost in silence, and nobody waits for the slowest.
 */
import type { Socket } from 'node:net';
import type { EventKind, Events, WeirEvent } from '../observe/events.js';

/** Lines that may wait in this process for one client, beside what its socket holds in the kernel (about 200 KiB). */
export const MOST_WAITING_EVENTS = 8192;
export const MOST_WAITING_BYTES = 2 * 1024 * 1024;

const lines = new WeakMap<WeirEvent, Buffer>();

/** One buffer for all subscribers. */
function lineOf(event: WeirEvent): Buffer {
  const known = lines.get(event);
  if (known !== undefined) return known;
  const line = Buffer.from(`${JSON.stringify({ jsonrpc: '2.0', method: 'event', params: event })}\n`);
  lines.set(event, line);
  return line;
}

export class Subscription {
  #kinds: ReadonlySet<EventKind> = new Set();
  #stop: (() => void) | null = null;
  #waiting = 0;
  #waitingBytes = 0;

  constructor(
    private readonly socket: Socket,
    private readonly events: Events,
    /** Told once, when the client is cut off. */
    private readonly onCutOff: (waiting: { readonly events: number; readonly bytes: number }) => void,
  ) {}

  get kinds(): readonly EventKind[] {
    return [...this.#kinds];
  }

  /** Replaces what was asked for before. */
  start(kinds: readonly EventKind[]): void {
    this.#kinds = new Set(kinds);
    this.#stop ??= this.events.listen((event) => this.#send(event));
  }

  stop(): void {
    this.#kinds = new Set();
    this.#stop?.();
    this.#stop = null;
  }

  #send(event: WeirEvent): void {
    if (!this.#kinds.has(event.kind) || !this.socket.writable) return;
    const line = lineOf(event);
    this.#waiting++;
    this.#waitingBytes += line.length;
    if (this.#waiting > MOST_WAITING_EVENTS || this.#waitingBytes > MOST_WAITING_BYTES) {
      this.stop();
      this.onCutOff({ events: this.#waiting, bytes: this.#waitingBytes });
      // Not end(): that would wait for what the client does not read.
      this.socket.destroy();
      return;
    }
    this.socket.write(line, () => {
      this.#waiting--;
      this.#waitingBytes -= line.length;
    });
  }
}
