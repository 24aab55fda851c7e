/** The control socket: JSON-RPC lines in, answers out in the order of the requests. One bad line never costs the connection. */
import { chmodSync, mkdirSync, renameSync, rmSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { getegid, geteuid } from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { Failure } from '../failure.js';
import type { Logger } from '../observe/log.js';
import type { Who } from '../observe/who.js';
import { accessOf, groupId, mayCall, socketMode, type Access, type Admission } from './access.js';
import type { Dataplane } from '../dataplane/dataplane.js';
import type { Events } from '../observe/events.js';
import type { HandOverRequest } from '../dataplane/hand-over.js';
import { call } from './call.js';
import { METHODS } from './methods.js';
import type { Pace } from './pace.js';
import { peerOf } from './peer.js';
import { INTERNAL_ERROR, INVALID_REQUEST, LINE_TOO_LONG, NOT_ALLOWED, PARSE_ERROR, RpcError, failure, type Id, type Response } from './protocol.js';
import { Subscription } from './subscription.js';
import { MOST_CONNECTIONS_OF_USER, Users } from './users.js';

/** A document of 100,000 policies has 15 to 30 MiB. */
const LINE_BYTES = 64 * 1024 * 1024;
/** Of those who may only ask. */
const QUESTION_BYTES = 256 * 1024;
/** Requests of one connection that wait for their answer; beyond that, reading pauses. */
const MOST_WAITING = 64;
const MOST_CONNECTIONS = 256;

export interface SocketOptions {
  readonly path: string;
  readonly mode: number;
  /** Name or number of a group whose members may ask and change nothing. */
  readonly readOnlyGroup?: string | null;
  readonly log: Logger;
  /** Takes the place of another weir's socket, in one step. */
  readonly replace?: boolean;
}

export interface ControlOptions extends SocketOptions {
  readonly dataplane: Dataplane;
  readonly shutdown: (who: Who) => void;
  readonly takeover?: ((request: HandOverRequest, who: Who) => Promise<void>) | undefined;
}

/** What a request's connection knows. */
export interface Asker {
  readonly who: Who;
  readonly subscription: Subscription;
  /** Does it when the connection that asks is over. */
  readonly atEnd: (work: () => void) => void;
}

interface Answering {
  readonly events: Events;
  /** Throws an RpcError. */
  readonly answer: (method: string, params: unknown, asker: Asker) => Promise<unknown>;
}

export class ControlServer {
  #connections = 0;
  readonly #sockets = new Set<Socket>();
  readonly #users = new Users();

  private constructor(
    private readonly server: Server,
    private readonly options: SocketOptions & Answering,
    private readonly admission: Admission,
  ) {}

  /** Of a dataplane. */
  static listen({ dataplane, shutdown, takeover, ...options }: ControlOptions): Promise<ControlServer> {
    const { log } = options;
    return ControlServer.serve({ ...options, events: dataplane.events, answer: (method, params, asker) => call(METHODS, method, params, { dataplane, shutdown, takeover, log, ...asker }) });
  }

  /** Of anything that answers. Throws a Failure. */
  static async serve(options: SocketOptions & Answering): Promise<ControlServer> {
    const { readOnlyGroup = null, mode } = options;
    const group = readOnlyGroup === null ? null : groupId(readOnlyGroup);
    if (readOnlyGroup !== null && group === null) throw new Failure(`control.read_only_group: there is no group "${readOnlyGroup}" on this host: sudo groupadd --system ${readOnlyGroup}`, 2);
    mkdirSync(dirname(options.path), { recursive: true });
    const replaces = options.replace === true;
    const path = replaces ? `${options.path}.${process.pid}` : options.path;
    if (!replaces) await removeStale(path);
    const server = createServer();
    const control = new ControlServer(server, options, { readOnlyGroup: group, mode, user: geteuid?.() ?? 0, group: getegid?.() ?? 0 });
    server.maxConnections = MOST_CONNECTIONS;
    server.on('connection', (socket) => control.#serve(socket));
    // Nobody may connect before the mode is right: the socket is born with none.
    const before = process.umask(0o777);
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(path, resolve);
      });
    } catch (error) {
      throw new Failure(`can't open the control socket ${options.path}: ${(error as Error).message}`);
    } finally {
      process.umask(before);
    }
    chmodSync(path, socketMode({ mode, readOnlyGroup: group }));
    if (replaces) renameSync(path, options.path);
    return control;
  }

  #serve(socket: Socket): void {
    const peer = peerOf(socket, `control connection ${++this.#connections}`);
    const { who } = peer;
    const { events, log } = this.options;
    const access = accessOf(peer, this.admission);
    const unlimited = who.uid === 0 || who.uid === this.admission.user;
    const user = access === 'none' ? null : this.#users.enter(who.uid, access, unlimited);
    if (access === 'none' || user === null) {
      const why = access === 'none' ? `${who} may not use this socket` : `${who} has ${MOST_CONNECTIONS_OF_USER} connections, and no user may have more`;
      log.warn({ who }, `a control connection was refused: ${why}`);
      socket.on('error', () => socket.destroy());
      socket.end(`${JSON.stringify(failure(null, new RpcError(NOT_ALLOWED, why)))}\n`, () => socket.destroy());
      return;
    }
    const subscription = new Subscription(socket, events, (waiting) => {
      log.warn({ who, waiting }, `${who} did not read its events and was cut off: ${waiting.events} of them, ${waiting.bytes} bytes, were waiting`);
    });
    const connection = new Connection(socket, this.options, who, access, user.pace, subscription);
    this.#sockets.add(socket);
    socket.on('close', () => {
      this.#sockets.delete(socket);
      user.leave();
      subscription.stop();
    });
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: Buffer) => connection.receive(chunk));
  }

  /** Stops listening (and removes the socket file), lets answers under way out, and closes. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    for (const socket of this.#sockets) socket.end();
    setTimeout(() => this.#sockets.forEach((socket) => socket.destroy()), 500).unref();
    // Node removes a socket under the name with which it was made.
    if (this.options.replace === true) rmSync(this.options.path, { force: true });
    await closed;
  }
}

class Connection {
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #overlong = false;
  #answers: Promise<void> = Promise.resolve();
  #waiting = 0;

  constructor(
    private readonly socket: Socket,
    private readonly options: SocketOptions & Answering,
    private readonly who: Who,
    private readonly access: Access,
    private readonly pace: Pace,
    private readonly subscription: Subscription,
  ) {}

  get #mostBytes(): number {
    return this.access === 'all' ? LINE_BYTES : QUESTION_BYTES;
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
    if (overlong) this.#enqueue(() => Promise.resolve(failure(null, new RpcError(LINE_TOO_LONG, `a request is at most ${this.#mostBytes} bytes long`))));
    else if (text !== '') this.#enqueue(() => this.#answerLine(text));
  }

  /** Answers leave in the order of the requests; a client that does not read stops being read from. */
  #enqueue(work: () => Promise<Response | Response[] | null>): void {
    if (++this.#waiting >= MOST_WAITING) this.socket.pause();
    this.#answers = this.#answers.then(async () => {
      const answer = await work();
      if (answer !== null && !this.socket.destroyed) {
        const flushed = this.socket.write(`${JSON.stringify(answer)}\n`);
        if (!flushed) await flush(this.socket);
      }
      this.#waiting--;
      if (this.#waiting < MOST_WAITING && this.socket.isPaused()) this.socket.resume();
    });
  }

  async #answerLine(text: string): Promise<Response | Response[] | null> {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      return failure(null, new RpcError(PARSE_ERROR, `the line is not JSON: ${(error as Error).message}`));
    }
    if (!Array.isArray(value)) return this.#answer(value);
    if (value.length === 0) return failure(null, new RpcError(INVALID_REQUEST, 'a batch holds at least one request'));
    const answers: Response[] = [];
    for (const request of value) {
      const answer = await this.#answer(request);
      if (answer !== null) answers.push(answer);
    }
    return answers.length > 0 ? answers : null;
  }

  async #answer(request: unknown): Promise<Response | null> {
    const waitMs = this.pace.take();
    if (waitMs > 0) await sleep(waitMs);
    const fields = (request !== null && typeof request === 'object' ? request : {}) as Record<string, unknown>;
    const { jsonrpc, id, method, params } = fields;
    const validId = id === undefined || id === null || typeof id === 'string' || typeof id === 'number';
    const answerId: Id = validId ? ((id as Id | undefined) ?? null) : null;
    if (jsonrpc !== '2.0' || typeof method !== 'string' || !validId) {
      return failure(answerId, new RpcError(INVALID_REQUEST, 'a request is {"jsonrpc": "2.0", "id": …, "method": "…", "params": {…}}'));
    }
    if (!mayCall(this.access, method)) return id === undefined ? null : failure(answerId, new RpcError(NOT_ALLOWED, `${this.who} may ask and change nothing: "${method}" is not for it`));
    const { log, answer } = this.options;
    const atEnd = (work: () => void): void => void (this.socket.destroyed ? work() : this.socket.once('close', work));
    try {
      const result = await answer(method, params, { who: this.who, subscription: this.subscription, atEnd });
      return id === undefined ? null : { jsonrpc: '2.0', id: answerId, result };
    } catch (error) {
      if (!(error instanceof RpcError)) log.error({ method, error: (error as Error).stack }, 'a control request failed');
      const rpc = error instanceof RpcError ? error : new RpcError(INTERNAL_ERROR, `internal error: ${(error as Error).message}`);
      return id === undefined ? null : failure(answerId, rpc);
    }
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

/** Removes a socket file that nobody listens on; a living one is an error. */
async function removeStale(path: string): Promise<void> {
  const state = await new Promise<'absent' | 'stale' | 'alive'>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve('alive');
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ENOENT' ? 'absent' : 'stale'));
  });
  if (state === 'alive') throw new Failure(`another weir answers on ${path}: stop it (\`weir shutdown --socket ${path}\`), or give this one another socket (control.socket, or --socket).`);
  if (state === 'stale') {
    try {
      unlinkSync(path);
    } catch (error) {
      throw new Failure(`can't remove the stale control socket ${path}: ${(error as Error).message}`);
    }
  }
}
