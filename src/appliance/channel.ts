/**
 * What managers, dispatchers and units of an appliance talk over: a TCP connection of lines. Each side greets with a random number, and
 * each line after that is a JSON text authenticated with HMAC-SHA-256 under the appliance's key over both numbers, the side and the line's
 * number: what was recorded can't be played again, nor sent back to its sender. docs/wire.md has it in full.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Socket } from 'node:net';

const GREETING = 'weir-appliance/1';
const NONCE_BYTES = 16;
const MAC_DIGITS = 64;
/** Of a line: a part for 256 units with 16 maps has some 200 KiB, settings of a function may have more. */
const MOST_BYTES = 8 * 2 ** 20;
/** Of somebody who has not shown yet that he has the key. */
const MOST_BYTES_OF_STRANGERS = 64 * 1024;
/** From the connection to the first line that is good. */
const PATIENCE_MS = 5000;
/** What may wait for a peer that does not read. */
const MOST_WAITING_BYTES = 4 * MOST_BYTES;

export type Message = Readonly<Record<string, unknown>> & { readonly type: string };
export type Refusal = 'malformed' | 'forged' | 'slow' | 'too_long';

export interface ChannelEvents {
  readonly received: (message: Message) => void;
  /** Once. `refused`: why this side ended it; null where the other side did, or close() was called. */
  readonly closed: (refused: { readonly reason: Refusal; readonly why: string } | null) => void;
}

export class Channel {
  readonly #nonce = randomBytes(NONCE_BYTES).toString('hex');
  #peerNonce: string | null = null;
  #sent = 0;
  #got = 0;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #waiting: string[] = [];
  #over = false;
  readonly #patience: NodeJS.Timeout;

  constructor(
    private readonly socket: Socket,
    private readonly side: 'client' | 'server',
    private readonly key: Uint8Array,
    private readonly events: ChannelEvents,
  ) {
    socket.setNoDelay(true);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#end(null));
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    this.#patience = setTimeout(() => this.#end({ reason: 'slow', why: `it has said nothing that is good for ${PATIENCE_MS} ms` }), PATIENCE_MS).unref();
    socket.write(`${GREETING} ${this.#nonce}\n`);
  }

  /** Said in order; lost where the connection ends. */
  send(message: Message): void {
    const text = JSON.stringify(message);
    if (this.#over) return;
    if (this.#peerNonce === null) this.#waiting.push(text);
    else this.#write(text);
  }

  close(): void {
    this.#end(null);
  }

  #write(text: string): void {
    if (this.socket.writableLength > MOST_WAITING_BYTES) return this.#end({ reason: 'slow', why: 'it does not read what it is told' });
    this.socket.write(`${this.#mac(this.side, this.#sent++, text)} ${text}\n`);
  }

  /** The client's number stands first, whoever speaks. */
  #mac(side: 'client' | 'server', number: number, text: string): string {
    const numbers = this.side === 'client' ? `${this.#nonce} ${this.#peerNonce}` : `${this.#peerNonce} ${this.#nonce}`;
    return createHmac('sha256', this.key).update(`${numbers} ${side} ${number} `).update(text).digest('hex');
  }

  #receive(chunk: Buffer): void {
    let rest = chunk;
    for (let end = rest.indexOf(10); end >= 0 && !this.#over; end = rest.indexOf(10)) {
      const line = Buffer.concat([...this.#pending, rest.subarray(0, end)]);
      this.#pending = [];
      this.#pendingBytes = 0;
      rest = rest.subarray(end + 1);
      this.#line(line);
    }
    if (this.#over) return;
    this.#pending.push(rest);
    this.#pendingBytes += rest.length;
    const most = this.#got === 0 ? MOST_BYTES_OF_STRANGERS : MOST_BYTES;
    if (this.#pendingBytes > most) this.#end({ reason: 'too_long', why: `a line of over ${most} bytes` });
  }

  #line(line: Buffer): void {
    const malformed = (why: string): void => this.#end({ reason: 'malformed', why });
    const text = line.toString('utf8');
    if (this.#peerNonce === null) {
      const [, nonce] = new RegExp(`^${GREETING} ([0-9a-f]{${NONCE_BYTES * 2}})$`).exec(text) ?? [];
      if (nonce === undefined) return malformed('it does not greet as members of an appliance do');
      this.#peerNonce = nonce;
      for (const waiting of this.#waiting.splice(0)) this.#write(waiting);
      return;
    }
    const body = text.slice(MAC_DIGITS + 1);
    const mac = Buffer.from(text.slice(0, MAC_DIGITS), 'latin1');
    const expected = Buffer.from(this.#mac(this.side === 'client' ? 'server' : 'client', this.#got, body), 'latin1');
    if (mac.length !== expected.length || !timingSafeEqual(mac, expected)) return this.#end({ reason: 'forged', why: "a line that was not made with the appliance's key" });
    this.#got++;
    clearTimeout(this.#patience);
    let message: unknown;
    try {
      message = JSON.parse(body);
    } catch {
      return malformed('a line that is no JSON');
    }
    if (message === null || typeof message !== 'object' || typeof (message as Message).type !== 'string') return malformed('a message without a type');
    this.events.received(message as Message);
  }

  #end(refused: { readonly reason: Refusal; readonly why: string } | null): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#patience);
    this.socket.destroy();
    this.events.closed(refused);
  }
}
