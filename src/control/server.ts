/** The control socket: who may connect, and what each connection is given. */
import { chmodSync, renameSync, rmSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { getegid, geteuid } from 'node:process';
import { ownDirectory } from '../directory.js';
import { Failure } from '../failure.js';
import type { Logger } from '../observe/log.js';
import type { Who } from '../observe/who.js';
import { accessOf, groupId, socketMode, type Admission } from './access.js';
import type { Dataplane } from '../dataplane/dataplane.js';
import type { Events } from '../observe/events.js';
import type { HandOverRequest } from '../dataplane/hand-over.js';
import { call } from './call.js';
import { Connection, type Answering } from './connection.js';
import { METHODS } from './methods.js';
import { named, peerOf } from './peer.js';
import { NOT_ALLOWED, RpcError, failure } from './protocol.js';
import { Subscription } from './subscription.js';
import { Turns } from './turns.js';
import { MOST_CONNECTIONS_OF_USER, Users } from './users.js';

const MOST_CONNECTIONS = 256;
/** Refused ones that may still read why. */
const MOST_TURNED_AWAY = 16;
const TURNED_AWAY_MS = 200;

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

interface Served extends SocketOptions, Answering {
  readonly events: Events;
}

export class ControlServer {
  #connections = 0;
  #turnedAway = 0;
  readonly #sockets = new Set<Socket>();
  readonly #users = new Users();
  readonly #turns = new Turns();

  private constructor(
    private readonly server: Server,
    private readonly options: Served,
    private readonly admission: Admission,
  ) {}

  /** Of a dataplane. */
  static listen({ dataplane, shutdown, takeover, ...options }: ControlOptions): Promise<ControlServer> {
    const { log } = options;
    return ControlServer.serve({ ...options, events: dataplane.events, answer: (method, params, asker) => call(METHODS, method, params, { dataplane, shutdown, takeover, log, ...asker }) });
  }

  /** Of anything that answers. Throws a Failure. */
  static async serve(options: Served): Promise<ControlServer> {
    const { readOnlyGroup = null, mode } = options;
    const group = readOnlyGroup === null ? null : groupId(readOnlyGroup);
    if (readOnlyGroup !== null && group === null) throw new Failure(`control.read_only_group: there is no group "${readOnlyGroup}" on this host: sudo groupadd --system ${readOnlyGroup}`, 2);
    try {
      ownDirectory(dirname(options.path), 0o777);
    } catch (error) {
      throw new Failure(`can't open the control socket ${options.path}: ${(error as Error).message}`);
    }
    const replaces = options.replace === true;
    const path = replaces ? `${options.path}.${process.pid}` : options.path;
    // What bears this process's number was left by one that is dead.
    if (replaces) rmSync(path, { force: true });
    else await removeStale(path);
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
    const { uid } = peer.who;
    const { events, log, answer } = this.options;
    const access = accessOf(peer, this.admission);
    const unlimited = uid === 0 || uid === this.admission.user;
    const user = access === 'none' ? null : this.#users.enter(uid, access, unlimited);
    if (access === 'none' || user === null) {
      const why = access === 'none' ? `${peer.who} may not use this socket` : `${peer.who} has ${MOST_CONNECTIONS_OF_USER} connections, and no user may have more`;
      log.warn({ who: peer.who }, `a control connection was refused: ${why}`);
      return this.#turnAway(socket, access === 'none' ? `${why}: ask for access (its group, or control.read_only_group), or use sudo` : why);
    }
    const who = named(peer.who);
    const subscription = new Subscription(socket, events, (waiting) => {
      log.warn({ who, waiting }, `${who} did not read its events and was cut off: ${waiting.events} of them, ${waiting.bytes} bytes, were waiting`);
    });
    const connection = new Connection(socket, { log, answer, who, access, pace: user.pace, turns: this.#turns, subscription });
    this.#sockets.add(socket);
    socket.on('close', () => {
      this.#sockets.delete(socket);
      user.leave();
      subscription.stop();
    });
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: Buffer) => connection.receive(chunk));
  }

  /** Who asks something just when the connection closes would lose the line that says why: its end is heard first, for as long as few wait for theirs. */
  #turnAway(socket: Socket, why: string): void {
    socket.on('error', () => socket.destroy());
    socket.end(`${JSON.stringify(failure(null, new RpcError(NOT_ALLOWED, why)))}\n`);
    if (this.#turnedAway === MOST_TURNED_AWAY) return socket.destroySoon();
    const patience = setTimeout(() => socket.destroy(), TURNED_AWAY_MS);
    this.#turnedAway++;
    socket.on('close', () => {
      clearTimeout(patience);
      this.#turnedAway--;
    });
    socket.resume();
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
