/**
 * One control connection: lines in, answers out in the order of the requests. One bad line never costs the connection, and whatever
 * a client asks for, it takes a bounded part of weir's memory and of the loop's turns.
 */
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../observe/log.js';
import type { Who } from '../observe/who.js';
import { mayCall, type Access } from './access.js';
import type { Pace } from './pace.js';
import { INTERNAL_ERROR, INVALID_REQUEST, LINE_TOO_LONG, NOT_ALLOWED, PARSE_ERROR, RpcError, failure, type Id, type Response } from './protocol.js';
import type { Subscription } from './subscription.js';
import type { Turns } from './turns.js';

/** A document of 100,000 policies has 15 to 30 MiB. */
const LINE_BYTES = 64 * 1024 * 1024;
/** Of those who may only ask. */
const QUESTION_BYTES = 256 * 1024;
/** Requests of one connection that wait for their answer, and what they may measure; beyond that, reading pauses. */
const MOST_WAITING = 64;
const MOST_WAITING_BYTES = 1024 * 1024;
const MOST_OF_BATCH = 100;
/** Answers of a batch leave together, since events may come between lines and not within one. An answer alone may be longer. */
const BATCH_BYTES = 4 * 1024 * 1024;
/** An answer so long costs as much as one more request. */
const BYTES_A_REQUEST = 64 * 1024;

/** What a request's connection knows. */
export interface Asker {
  readonly who: Who;
  readonly subscription: Subscription;
  /** Does it when the connection that asks is over. */
  readonly atEnd: (work: () => void) => void;
}

export interface Answering {
  readonly log: Logger;
  /** Throws an RpcError. */
  readonly answer: (method: string, params: unknown, asker: Asker) => Promise<unknown>;
}

export interface ConnectionOptions extends Answering {
  readonly who: Who;
  readonly access: Access;
  /** Of this user, over all connections. */
  readonly pace: Pace;
  /** Of all connections. */
  readonly turns: Turns;
  readonly subscription: Subscription;
}

export class Connection {
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #overlong = false;
  #answers: Promise<void> = Promise.resolve();
  #waiting = 0;
  #waitingBytes = 0;

  constructor(
    private readonly socket: Socket,
    private readonly options: ConnectionOptions,
  ) {}

  get #mostBytes(): number {
    return this.options.access === 'all' ? LINE_BYTES : QUESTION_BYTES;
  }

  get #full(): boolean {
    return this.#waiting >= MOST_WAITING || this.#waitingBytes >= MOST_WAITING_BYTES;
  }

  receive(chunk: Buffer): void {
    let rest = chunk;
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      this.#keep(rest.subarray(0, end));
      rest = rest.subarray(end + 1);
      this.#line();
    }
    this.#keep(rest);
  }

  #keep(part: Buffer): void {
    this.#pendingBytes += part.length;
    if (this.#pendingBytes > this.#mostBytes) {
      this.#overlong = true;
      this.#pending = [];
    } else if (part.length > 0) {
      this.#pending.push(part);
    }
  }

  #line(): void {
    const text = Buffer.concat(this.#pending).toString('utf8').trim();
    const overlong = this.#overlong;
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#overlong = false;
    if (overlong) this.#enqueue(0, () => this.#refuse(LINE_TOO_LONG, `a request is at most ${this.#mostBytes} bytes long`));
    else if (text !== '') this.#enqueue(text.length, () => this.#answerLine(text));
  }

  /** Answers leave in the order of the requests; a client that does not read stops being read from. */
  #enqueue(bytes: number, work: () => Promise<string | null>): void {
    this.#waiting++;
    this.#waitingBytes += bytes;
    if (this.#full) this.socket.pause();
    this.#answers = this.#answers
      .then(work)
      .then((text) => this.#write(text))
      // Nobody waits for this promise: what it threw would end weir.
      .catch((error: unknown) => this.#write(JSON.stringify(this.#failed(null, null, error))))
      .then(() => {
        this.#waiting--;
        this.#waitingBytes -= bytes;
        if (!this.#full && this.socket.isPaused()) this.socket.resume();
      });
  }

  async #write(text: string | null): Promise<void> {
    if (text === null || !this.socket.writable) return;
    const line = Buffer.from(`${text}\n`);
    this.options.pace.owe(Math.floor(line.length / BYTES_A_REQUEST));
    if (!this.socket.write(line)) await flush(this.socket);
  }

  /** Waits until it is this user's turn to be answered once more; false where the client has gone. */
  async #mayAnswer(): Promise<boolean> {
    // What is not answered is not counted either: another connection of this user would wait for it.
    if (!this.socket.writable) return false;
    const waitMs = this.options.pace.take();
    if (waitMs > 0) await sleep(waitMs);
    await this.options.turns.take();
    return this.socket.writable;
  }

  async #refuse(code: number, why: string): Promise<string | null> {
    return (await this.#mayAnswer()) ? JSON.stringify(failure(null, new RpcError(code, why))) : null;
  }

  async #answerLine(text: string): Promise<string | null> {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      return this.#refuse(PARSE_ERROR, `the line is not JSON: ${(error as Error).message}`);
    }
    if (!Array.isArray(value)) return (await this.#mayAnswer()) ? this.#answer(value) : null;
    if (value.length === 0) return this.#refuse(INVALID_REQUEST, 'a batch holds at least one request');
    if (value.length > MOST_OF_BATCH) return this.#refuse(INVALID_REQUEST, `a batch holds at most ${MOST_OF_BATCH} requests, and this one has ${value.length}: send several`);
    const answers: string[] = [];
    let bytes = 0;
    for (const request of value) {
      if (!(await this.#mayAnswer())) return null;
      const answer = await this.#answer(request, bytes >= BATCH_BYTES);
      if (answer === null) continue;
      answers.push(answer);
      bytes += Buffer.byteLength(answer);
    }
    return answers.length > 0 ? `[${answers.join(',')}]` : null;
  }

  /** `noRoom`: nothing is done that would have to be answered. */
  async #answer(request: unknown, noRoom = false): Promise<string | null> {
    const { who, access, subscription, answer } = this.options;
    const fields = (request !== null && typeof request === 'object' ? request : {}) as Record<string, unknown>;
    const { jsonrpc, id, method, params } = fields;
    const validId = id === undefined || id === null || typeof id === 'string' || typeof id === 'number';
    const answerId: Id = validId ? ((id as Id | undefined) ?? null) : null;
    const refuse = (code: number, why: string): string => JSON.stringify(failure(answerId, new RpcError(code, why)));
    if (jsonrpc !== '2.0' || typeof method !== 'string' || !validId) return refuse(INVALID_REQUEST, 'a request is {"jsonrpc": "2.0", "id": …, "method": "…", "params": {…}}');
    if (!mayCall(access, method)) return id === undefined ? null : refuse(NOT_ALLOWED, `${who} may ask and change nothing: "${method}" is not for it`);
    if (noRoom && id !== undefined) return refuse(LINE_TOO_LONG, `the answers of a batch have at most ${BATCH_BYTES} bytes: send this request alone, it was not done`);
    const atEnd = (work: () => void): void => void (this.socket.destroyed ? work() : this.socket.once('close', work));
    let response: Response;
    try {
      response = { jsonrpc: '2.0', id: answerId, result: await answer(method, params, { who, subscription, atEnd }) };
    } catch (error) {
      response = error instanceof RpcError ? failure(answerId, error) : this.#failed(answerId, method, error);
    }
    if (id === undefined) return null;
    try {
      return JSON.stringify(response);
    } catch (error) {
      // V8 has no strings of more than 512 MiB.
      return JSON.stringify(this.#failed(answerId, method, error, "the answer can't be written: "));
    }
  }

  /** What is wrong with weir and not with the request. */
  #failed(id: Id, method: string | null, error: unknown, what = ''): Response {
    const { stack, message } = error instanceof Error ? error : new Error(String(error));
    this.options.log.error({ method, error: stack }, 'a control request failed');
    return failure(id, new RpcError(INTERNAL_ERROR, `internal error: ${what}${message}`));
  }
}

/** Waits until the socket takes more, or is gone. */
function flush(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('drain', done).off('close', done);
      resolve();
    };
    socket.on('drain', done).on('close', done);
  });
}
