/** A control client: one connection, calls answered in order. */
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { Failure } from '../failure.js';
import { RpcError, type Response } from './protocol.js';
import { closedToMe } from './way.js';

/** Who listens on a control socket, and what starts it. */
export interface Listener {
  readonly name: string;
  readonly start: string;
}
const WEIR: Listener = { name: 'weir', start: 'weir run --config FILE' };

function notAdmitted(path: string): string {
  const closed = closedToMe(path);
  if (closed === null) return `${path} does not admit you: ask for access (control.mode, control.read_only_group), or use sudo.`;
  return `you can't enter ${closed}, where the socket is: ask to be let in (its group, or its mode: \`weir doctor\` says what readers need), or use sudo.`;
}

export class ControlClient {
  #next = 1;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #closed = false;
  /** Why weir hangs up, where it says so. */
  #refusal: Error | null = null;
  #onNotification: (method: string, params: unknown) => void = () => undefined;
  /** Resolves when the connection is over, whoever ended it. */
  readonly closed: Promise<void>;

  private constructor(private readonly socket: Socket) {
    const lines = createInterface({ input: socket, crlfDelay: Infinity });
    lines.on('line', (line) => this.#receive(line));
    lines.on('error', () => undefined); // the socket's, once more
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.#closed = true;
        this.#waiting.forEach(({ reject }) => reject(this.#lost));
        this.#waiting.clear();
        resolve();
      });
    });
    socket.on('error', () => undefined);
  }

  static async connect(path: string, { name, start } = WEIR): Promise<ControlClient> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', (error: NodeJS.ErrnoException) => {
        const why =
          error.code === 'ENOENT' || error.code === 'ECONNREFUSED'
            ? `nothing listens on ${path}: is ${name} running? Start it with \`${start}\`, or name its socket with --socket PATH.`
            : error.code === 'EACCES'
              ? notAdmitted(path)
              : `can't connect to ${path}: ${error.message}`;
        reject(new Failure(why));
      });
    });
    return new ControlClient(socket);
  }

  get #lost(): Error {
    return this.#refusal ?? new Failure('weir closed the connection');
  }

  #receive(line: string): void {
    let message: Response | { readonly method: string; readonly params?: unknown };
    try {
      message = JSON.parse(line) as typeof message;
    } catch {
      return; // a line cut short, where weir cut the connection
    }
    if ('method' in message) return this.#onNotification(message.method, message.params);
    const response = message;
    if (response.id === null && 'error' in response) this.#refusal = new RpcError(response.error.code, response.error.message, response.error.data);
    const waiter = typeof response.id === 'number' ? this.#waiting.get(response.id) : undefined;
    if (waiter === undefined) return;
    this.#waiting.delete(response.id as number);
    if ('error' in response) waiter.reject(new RpcError(response.error.code, response.error.message, response.error.data));
    else waiter.resolve(response.result);
  }

  /** What comes unasked: events, after `subscribe`. */
  notified(handler: (method: string, params: unknown) => void): void {
    this.#onNotification = handler;
  }

  call<T>(method: string, params: object = {}): Promise<T> {
    if (this.#closed) return Promise.reject(this.#lost);
    const id = this.#next++;
    const answer = new Promise<unknown>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    this.socket.write(`${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`);
    return answer as Promise<T>;
  }

  close(): void {
    this.socket.end();
  }

  /** Ends at once, also where weir does not answer any more. */
  abandon(): void {
    this.socket.destroy();
  }
}
