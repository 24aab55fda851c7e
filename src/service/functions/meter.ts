/**
 * `meter`: counts packets and bytes of each stream and of each host, both directions, and writes them out as CSV or JSON: every so often, on
 * SIGUSR2, and before the node stops. Forwards everything.
 */
import { durationMs } from '../../config/forms.js';
import { ownDirectory } from '../../directory.js';
import { addressText } from '../bytes.js';
import type { Packet } from '../packet.js';
import type { FunctionNode, ServiceFunction } from '../service-function.js';
import { exportMeter, type ExportFormat } from './meter-export.js';
import type { MeterSettings } from './meter-settings.js';
import { schema } from './meter-settings.js';

/** Ended streams that wait for the next export. */
const MOST_ENDED = 100_000;

/** Of a host: what it sent and received. `address` is empty in the record of all hosts beyond `max_hosts`. */
export class HostCount {
  sentPackets = 0;
  sentBytes = 0;
  receivedPackets = 0;
  receivedBytes = 0;
  streams = 0;

  constructor(readonly address: string) {}
}

/** Of a stream: `forward` is the direction of its first packet. Bytes are those of IP packets. */
export class StreamCount {
  packets = 0;
  bytes = 0;
  answerPackets = 0;
  answerBytes = 0;
  lastMs: number;
  end = '';

  constructor(
    readonly code: number,
    readonly protocol: number,
    readonly source: HostCount,
    readonly sourceAddress: string,
    readonly sourcePort: number,
    readonly destination: HostCount,
    readonly destinationAddress: string,
    readonly destinationPort: number,
    readonly firstMs: number,
  ) {
    this.lastMs = firstMs;
  }
}

/** What there is to write out. */
export interface Accounts {
  /** Live ones, and those that ended since the last export. */
  readonly streams: Iterable<StreamCount>;
  readonly hosts: Iterable<HostCount>;
  /** Ended streams there was no room for. */
  readonly lost: number;
}

export function meter(): ServiceFunction<StreamCount, MeterSettings> {
  const live = new Set<StreamCount>();
  let ended: StreamCount[] = [];
  let lost = 0;
  const hosts = new Map<string, HostCount>();
  const others = new HostCount('');
  let maxHosts = 10_000;
  let target: { readonly directory: string; readonly format: ExportFormat } | null = null;
  let everyMs = 0;
  let endTimer: () => void = () => undefined;
  let exporting: Promise<void> | null = null;
  let [packets, bytes] = [0, 0];

  const host = (address: string): HostCount => {
    let found = hosts.get(address);
    if (found === undefined) {
      if (hosts.size >= maxHosts) return others;
      found = new HostCount(address);
      hosts.set(address, found);
    }
    return found;
  };

  const write = (node: FunctionNode): Promise<void> => {
    if (target === null) return Promise.resolve();
    const { directory, format } = target;
    // One at a time: a slow disk must not pile them up.
    exporting ??= (async () => {
      const over = ended;
      ended = [];
      const accounts: Accounts = { streams: [...over, ...live], hosts: others.streams > 0 ? [...hosts.values(), others] : [...hosts.values()], lost };
      lost = 0;
      try {
        await exportMeter(directory, format, node, accounts);
      } finally {
        exporting = null;
      }
    })();
    return exporting;
  };

  return {
    name: 'meter',
    schema,
    configure(settings, node) {
      const { export: out } = settings;
      if (out !== undefined) ownDirectory(out.directory, 0o777);
      target = out === undefined ? null : { directory: out.directory, format: out.format ?? 'csv' };
      maxHosts = settings.max_hosts ?? 10_000;
      const interval = out?.interval === undefined ? 0 : durationMs(out.interval);
      if (interval === everyMs) return;
      everyMs = interval;
      endTimer();
      const timed = (): void => void write(node).catch((error: Error) => node.log.error(`meter: can't export: ${error.message}`));
      endTimer = interval === 0 ? () => undefined : node.every(interval, timed);
    },
    start(node) {
      const [allPackets, allBytes] = [node.gauge('meter_packets', 'Packets seen.'), node.gauge('meter_bytes', 'Bytes of IP packets seen.')];
      const known = node.gauge('meter_hosts', 'Hosts with an account of their own.');
      node.every(1000, () => {
        allPackets.set(packets);
        allBytes.set(bytes);
        known.set(hosts.size);
      });
    },
    state: {
      version: 1,
      fields: { packets: 'uint', bytes: 'uint', answer_packets: 'uint', answer_bytes: 'uint', first_ms: 'uint', last_ms: 'uint' },
      save: ({ packets, bytes, answerPackets, answerBytes, firstMs, lastMs }) => ({ packets, bytes, answer_packets: answerPackets, answer_bytes: answerBytes, first_ms: Math.trunc(firstMs), last_ms: Math.trunc(lastMs) }),
      load(fields, { code, protocol, source: from, sourcePort, destination: to, destinationPort }) {
        const n = (name: string): number => Number(fields[name] ?? 0);
        const [source, destination] = [host(from), host(to)];
        const stream = new StreamCount(code, protocol, source, from, sourcePort, destination, to, destinationPort, n('first_ms'));
        stream.packets = n('packets');
        stream.bytes = n('bytes');
        stream.answerPackets = n('answer_packets');
        stream.answerBytes = n('answer_bytes');
        stream.lastMs = n('last_ms');
        source.streams++;
        if (destination !== source) destination.streams++;
        add(source, destination, stream.packets, stream.bytes);
        add(destination, source, stream.answerPackets, stream.answerBytes);
        live.add(stream);
        return stream;
      },
    },
    newStream(packet, node) {
      const [from, to] = ends(packet);
      const [source, destination] = [host(from), host(to)];
      source.streams++;
      if (destination !== source) destination.streams++;
      const stream = new StreamCount(packet.code, packet.tupleProtocol, source, from, packet.tupleFromPort, destination, to, packet.tupleToPort, node.nowMs);
      live.add(stream);
      return stream;
    },
    onPacket(packet, stream, node) {
      const length = packet.version === 0 ? packet.length : packet.end - packet.ip;
      packets++;
      bytes += length;
      stream.lastMs = node.nowMs;
      let { source: sender, destination: receiver } = stream;
      if (packet.original) {
        stream.packets++;
        stream.bytes += length;
      } else {
        stream.answerPackets++;
        stream.answerBytes += length;
        [sender, receiver] = [receiver, sender];
      }
      sender.sentPackets++;
      sender.sentBytes += length;
      receiver.receivedPackets++;
      receiver.receivedBytes += length;
      return 'forward';
    },
    onStreamEnd(stream, why) {
      live.delete(stream);
      if (why === 'moved') return; // it goes on where it has moved to
      stream.end = why;
      if (target === null) return;
      if (ended.length < MOST_ENDED) ended.push(stream);
      else lost++;
    },
    async flush(node) {
      await exporting?.catch(() => undefined); // what it does not have comes with the next one
      await write(node);
    },
  };
}

function add(sender: HostCount, receiver: HostCount, packets: number, bytes: number): void {
  sender.sentPackets += packets;
  sender.sentBytes += bytes;
  receiver.receivedPackets += packets;
  receiver.receivedBytes += bytes;
}

function ends(packet: Packet): [string, string] {
  if (packet.version === 0) return ['', ''];
  return [addressText(packet.memory, packet.tupleFrom, packet.version), addressText(packet.memory, packet.tupleTo, packet.version)];
}
