/** A node tells forwarders how busy it is: one authenticated datagram each interval. */
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { isIpv4 } from '../config/address.js';
import { encodeReport, type LoadReport, type LoadValues } from '../load/report.js';

/** What a node counts; null: it does not know. */
export interface LoadSource {
  readonly received: () => { readonly packets: number; readonly bytes: number };
  readonly streams?: () => number | null;
  readonly queue?: () => number | null;
}

/** Rates between two readings. */
export class LoadMeter {
  #packets: number;
  #bytes: number;
  #cpuMicros: number;
  #atMs: number;

  constructor(
    private readonly source: LoadSource,
    private readonly nowMs: () => number = () => performance.now(),
    private readonly cpuMicros: () => number = () => {
      const { user, system } = process.cpuUsage();
      return user + system;
    },
  ) {
    const { packets, bytes } = source.received();
    [this.#packets, this.#bytes, this.#cpuMicros, this.#atMs] = [packets, bytes, cpuMicros(), nowMs()];
  }

  /** Since the last call. */
  read(): LoadValues {
    const { packets, bytes } = this.source.received();
    const [cpuMicros, atMs] = [this.cpuMicros(), this.nowMs()];
    const seconds = Math.max(1, atMs - this.#atMs) / 1000;
    const values: LoadValues = {
      packetsPerSecond: Math.max(0, packets - this.#packets) / seconds,
      bytesPerSecond: Math.max(0, bytes - this.#bytes) / seconds,
      cpu: Math.max(0, cpuMicros - this.#cpuMicros) / seconds / 1e4,
      streams: this.source.streams?.() ?? null,
      queue: this.source.queue?.() ?? null,
    };
    [this.#packets, this.#bytes, this.#cpuMicros, this.#atMs] = [packets, bytes, cpuMicros, atMs];
    return values;
  }
}

export interface ReportOptions {
  readonly service: string;
  readonly name: string;
  /** Own address on the underlay: reports count only from there. */
  readonly address: string;
  readonly to: readonly { readonly address: string; readonly port: number }[];
  readonly key: Uint8Array;
  readonly intervalMs: number;
}

/** Sends until the function that it returns is called. A forwarder that is not there is no error: it may come. */
export function sendReports(options: ReportOptions, read: () => LoadValues): () => void {
  const { service, name, address, to, key, intervalMs } = options;
  const socket = createSocket(isIpv4(address) ? 'udp4' : 'udp6');
  socket.on('error', () => undefined);
  socket.bind({ address, port: 0, exclusive: true });
  // An interface that is down for a while costs the reports of that while.
  const send = (datagram: Buffer, port: number, forwarder: string): void => {
    try {
      socket.send(datagram, port, forwarder, () => undefined);
    } catch {
      // the socket could not be bound
    }
  };
  const session = randomBytes(8).readBigUInt64BE();
  let sequence = 0;
  const timer = setInterval(() => {
    const report: LoadReport = { ...read(), service, name, session, atMs: Date.now(), sequence: sequence++ >>> 0, intervalMs };
    const datagram = encodeReport(report, key);
    for (const { address: forwarder, port } of to) send(datagram, port, forwarder);
  }, intervalMs);
  return () => {
    clearInterval(timer);
    socket.close();
  };
}
