/** A manager on this host: listens for members, keeps connections to other managers, drives the manager by a timer. */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { canonical } from '../config/address.js';
import { ownDirectory } from '../directory.js';
import { Failure } from '../failure.js';
import { Refusals } from '../mesh/refusals.js';
import type { Logger } from '../observe/log.js';
import { RecordFile } from '../state/record-file.js';
import { Channel, type Message, type Refusal } from './channel.js';
import type { ApplianceConfig } from './document.js';
import { HEARTBEAT_MS } from './link.js';
import { Manager, type Peer } from './manager.js';
import { isNewer, type Edition, type ManagerState } from './messages.js';

const TICK_MS = 20;
const MOST_CONNECTIONS = 512;
/** Of one address; a unit, a dispatcher and a manager may share a host, and a connection may just be made anew. */
const MOST_OF_ADDRESS = 16;
const RETRY_MS = 500;
/** What is said before the connection ends has to get there. */
const LAST_WORDS_MS = 200;

export interface ServerOptions {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly key: Uint8Array;
  readonly stateDir: string;
}

type Why = Refusal | 'refused' | 'too_many';

export class ManagerServer {
  readonly manager: Manager;
  readonly refusals: Refusals<Why>;
  readonly #record: RecordFile<ManagerState>;
  readonly #peers = new Map<Peer, Channel>();
  readonly #addresses = new Map<string, number>();
  readonly #dialled = new Map<string, { readonly say: () => void; readonly end: () => void }>();
  readonly #timers: NodeJS.Timeout[] = [];
  #saving: Promise<void> = Promise.resolve();
  #next: ManagerState | null = null;

  private constructor(
    private readonly options: ServerOptions,
    private readonly server: Server,
    log: Logger,
  ) {
    const file = join(options.stateDir, 'appliance.json');
    this.#record = new RecordFile(file, 'weir_appliance', 1, (why) => new Failure(`the state file ${file} can't be used: ${why}. Delete it and apply the document again, or take it from another manager.`));
    this.refusals = new Refusals((reason, why) => log.warn({ refused: reason }, `${why}; refused, and from now on only counted`));
    this.manager = new Manager({ name: options.name, now: () => performance.now(), keep: (state) => this.#keep(state), log, others: (managers) => this.#dial(managers) });
  }

  /** Throws a Failure. */
  static async listen(options: ServerOptions, log: Logger): Promise<ManagerServer> {
    try {
      ownDirectory(options.stateDir, 0o700);
    } catch (error) {
      throw new Failure(`--state-dir: can't write to ${options.stateDir} (${(error as NodeJS.ErrnoException).code ?? String(error)}): make it writable for this user, or name another directory.`);
    }
    const server = createServer();
    const own = new ManagerServer(options, server, log);
    if (own.#record.writtenAtMs() !== null) own.manager.begin(own.#record.load());
    server.maxConnections = MOST_CONNECTIONS;
    server.on('connection', (socket) => own.#serve(socket));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: options.address, port: options.port }, resolve);
    }).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'EADDRNOTAVAIL') throw new Failure(`--listen: no interface of this host has the address ${options.address}: add it with \`ip address add\`.`);
      throw new Failure(`--listen: can't listen on ${options.address}, port ${options.port}: ${(error as Error).message}`);
    });
    server.on('error', (error) => log.error(error.message));
    own.#timers.push(setInterval(() => own.manager.tick(), TICK_MS), setInterval(() => own.#beat(), HEARTBEAT_MS));
    return own;
  }

  /** That it listens on. */
  get port(): number {
    const address = this.server.address();
    return address === null || typeof address === 'string' ? this.options.port : address.port;
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    for (const { end } of this.#dialled.values()) end();
    for (const channel of this.#peers.values()) channel.close();
    this.manager.starter.stop();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
    await this.#saving;
  }

  #serve(socket: Socket): void {
    const address = canonical((socket.remoteAddress ?? '').replace(/^::ffff:/, '').split('%')[0] ?? '');
    const count = (this.#addresses.get(address) ?? 0) + 1;
    if (count > MOST_OF_ADDRESS) {
      this.refusals.add('too_many', `${address} has over ${MOST_OF_ADDRESS} connections`);
      socket.destroy();
      return;
    }
    this.#addresses.set(address, count);
    socket.once('close', () => {
      const left = (this.#addresses.get(address) ?? 1) - 1;
      if (left === 0) this.#addresses.delete(address);
      else this.#addresses.set(address, left);
    });
    let refused = false;
    const peer: Peer = {
      address,
      send: (message) => channel.send(message),
      refuse: (why) => {
        if (refused) return;
        refused = true;
        this.refusals.add('refused', `${address}: ${why}`);
        channel.send({ type: 'refused', why });
        setTimeout(() => channel.close(), LAST_WORDS_MS);
      },
    };
    const channel = new Channel(socket, 'server', this.options.key, {
      received: (message) => {
        if (!refused) this.manager.received(message, peer);
      },
      closed: (why) => {
        if (why !== null) this.refusals.add(why.reason, `${address}: ${why.why}`);
        this.#peers.delete(peer);
        this.manager.gone(peer);
      },
    });
    this.#peers.set(peer, channel);
  }

  #beat(): void {
    const { edition } = this.manager;
    for (const channel of this.#peers.values()) channel.send({ type: 'beat', ...edition });
  }

  /** Keeps one connection to each of the other managers, by which this one says how it is. */
  #dial(managers: ApplianceConfig['managers']): void {
    const wanted = new Map(managers.map((manager) => [`${manager.address} ${manager.port}`, manager]));
    for (const [key, { end }] of this.#dialled) {
      if (wanted.has(key)) continue;
      end();
      this.#dialled.delete(key);
    }
    for (const [key, place] of wanted) if (!this.#dialled.has(key)) this.#dialled.set(key, this.#sayTo(place));
  }

  #sayTo({ address, port }: { readonly address: string; readonly port: number }): { readonly say: () => void; readonly end: () => void } {
    let over = false;
    let channel: Channel | null = null;
    let socket: Socket | undefined;
    let again: NodeJS.Timeout | undefined;
    let said: Edition | null = null;
    const say = (): void => {
      const { edition } = this.manager;
      const withState = said === null || isNewer(edition, said) || isNewer(said, edition);
      channel?.send(this.manager.report(withState) as unknown as Message);
      said = edition;
    };
    const open = (): void => {
      socket = connect({ host: address, port, localAddress: this.options.address });
      socket.once('error', () => undefined);
      socket.once('connect', () => {
        said = null;
        channel = new Channel(socket as Socket, 'client', this.options.key, {
          received: (message) => {
            if (message.type === 'refused') this.refusals.add('refused', `manager ${address} refuses this one: ${String(message['why'])}`);
          },
          closed: (why) => {
            channel = null;
            if (why !== null) this.refusals.add(why.reason, `manager ${address}: ${why.why}`);
          },
        });
        say();
      });
      socket.once('close', () => {
        if (!over) again = setTimeout(open, RETRY_MS);
      });
    };
    open();
    const timer = setInterval(say, HEARTBEAT_MS);
    const end = (): void => {
      over = true;
      clearInterval(timer);
      clearTimeout(again);
      channel?.close();
      socket?.destroy();
    };
    return { say, end };
  }

  /** The newest state is written; those between that were not begun are left out. */
  #keep(state: ManagerState): Promise<void> {
    this.#next = state;
    // Before any member hears of it, so that no other manager has to lead with less than members know.
    for (const { say } of this.#dialled.values()) say();
    this.#saving = this.#saving.then(async () => {
      const next = this.#next;
      if (next === null) return;
      this.#next = null;
      const prepared = await this.#record.prepare(JSON.stringify(next));
      await prepared.commit();
    });
    const done = this.#saving;
    this.#saving = this.#saving.catch(() => undefined);
    return done;
  }
}
