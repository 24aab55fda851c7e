/** The sync of state in the function's thread: its socket, and a timer while there is something to say. */
import { createSocket, type Socket } from 'node:dgram';
import { isIpv4 } from '../config/address.js';
import { steadyMs } from '../mesh/clock.js';
import type { SyncReport } from '../mesh/hello.js';
import { MapView, type ServiceMap } from '../mesh/service-map.js';
import { StateSync, type SyncCounts, type StateSyncOptions } from '../mesh/sync/state-sync.js';
import type { Logger } from '../observe/log.js';
import type { Metrics } from './metrics.js';
import type { Stream } from './streams.js';

const TICK_MS = 2;
const RECEIVE_BUFFER = 4 << 20;

export interface SyncData {
  /** Of the node. */
  readonly address: string;
  readonly key: Uint8Array;
  /** Of this run of the function. */
  readonly session: string;
}

export class SyncLink {
  #sync: StateSync<Stream<unknown>> | null = null;
  #timer: NodeJS.Timeout | null = null;

  private constructor(
    private readonly socket: Socket,
    private readonly data: SyncData,
    private readonly log: Logger,
  ) {}

  static async open(data: SyncData, log: Logger): Promise<SyncLink> {
    const socket = createSocket({ type: isIpv4(data.address) ? 'udp4' : 'udp6', recvBufferSize: RECEIVE_BUFFER });
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind({ address: data.address, port: 0, exclusive: true }, resolve);
    });
    socket.removeAllListeners('error').on('error', () => undefined);
    return new SyncLink(socket, data, log);
  }

  get port(): number {
    return this.socket.address().port;
  }

  get counts(): SyncCounts | null {
    return this.#sync?.counts ?? null;
  }

  /** What weir is told; null where the map does not say that states are kept twice. */
  get report(): SyncReport | null {
    const counts = this.counts;
    if (counts === null || counts.mode === 'off') return null;
    const { lagMs, waitingStreams, fillLeft: fillStreams, unprotected } = counts;
    return { lagMs: Math.round(lagMs), waitingStreams, fillStreams, unprotected };
  }

  /** Makes the sync of a function's streams. */
  make(service: string, options: Pick<StateSyncOptions<Stream<unknown>>, 'store' | 'save' | 'codec'>): StateSync<Stream<unknown>> {
    const sync = new StateSync<Stream<unknown>>({
      ...options,
      now: steadyMs,
      send: ({ address, port }, datagram) => {
        if (port !== 0) this.socket.send(datagram, port, address, () => undefined);
      },
      key: this.data.key,
      session: this.data.session,
      service,
      tell: (reason, why) => this.log.warn({ refused: reason }, `sync: ${why}; refused, and from now on only counted`),
    });
    this.#sync = sync;
    this.socket.on('message', (datagram) => {
      sync.receive(datagram);
      this.arm();
    });
    return sync;
  }

  install(map: ServiceMap, renewed: string | null): void {
    if (renewed !== null) this.#sync?.renew(renewed);
    this.#sync?.install(new MapView(map));
    this.arm();
  }

  /** Has the timer run while there is something to wait for. */
  arm(): void {
    if (this.#timer !== null || this.#sync?.busy !== true) return;
    this.#timer = setInterval(() => {
      this.#sync?.tick();
      if (this.#sync?.busy === true || this.#timer === null) return;
      clearInterval(this.#timer);
      this.#timer = null;
    }, TICK_MS);
  }

  /** Its figures as metrics; gives what updates them. */
  measure(metrics: Metrics): () => void {
    const gauge = (name: string, help: string): { set: (value: number) => void } => metrics.gauge(`sync_${name}`, help);
    const rows = {
      recordsSent: gauge('records_sent', 'States said to the instance that would take over.'),
      recordsKept: gauge('records_kept', 'States of others that were kept.'),
      acknowledged: gauge('acknowledged', 'States that the other one has.'),
      saidAgain: gauge('said_again', 'States that had to be said again.'),
      unprotected: gauge('unprotected', 'States that nobody else could keep, though the packets were to wait for that.'),
      waitingStreams: gauge('waiting_streams', 'Streams with a change that the other one does not have yet.'),
      lagMs: gauge('lag_ms', 'How long the oldest of these has been waiting.'),
      fillLeft: gauge('fill_left', 'Streams whose state another instance is still to get.'),
    };
    const refused = gauge('refused', 'Messages and states refused.');
    return () => {
      const counts = this.counts;
      if (counts === null) return;
      for (const [name, row] of Object.entries(rows)) row.set(counts[name as keyof typeof rows]);
      let sum = 0;
      for (const [reason, count] of Object.entries(counts.refused)) {
        sum += count;
        gauge(`refused_${reason}`, `Of these: ${reason.replaceAll('_', ' ')}.`).set(count);
      }
      refused.set(sum);
    };
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.socket.close();
  }
}
