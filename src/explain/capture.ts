/** Streams and single packets of a capture, read by the replay that native code has: no second parser. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { native, type NativeFlow, type NativeProgram, type NativeReplay } from '../dataplane/native.js';
import { Failure } from '../failure.js';
import { decodePacket } from './decode.js';
import type { GivenFrame } from './final-frame.js';

const SLICE_PACKETS = 20_000;
const PAGE = 4096;
const YEAR_MS = 31_536_000_000;
const MOST_STREAMS = 1 << 22;
const PCAP_HEADER = 24;
const RECORD_HEADER = 16;

/** Everything crosses, and no stream ends: the table is a list of the capture's streams. */
const LISTENING: NativeProgram = {
  generation: 1,
  affinityKey: new Uint8Array(16),
  defaultAction: 'pass',
  mssClamp: false,
  idle: { tcp: YEAR_MS, other: YEAR_MS, closed: YEAR_MS },
  underlays: [{ ipv4: null, ipv6: null, mac: '02:00:00:00:00:01', mtu: 1500 }],
  captures: [{ name: 'capture', tenant: 0, mtu: 1500 }],
  proxyPorts: [],
  services: [],
  instances: [],
  paths: [],
  chains: [],
  virtualAddresses: [],
  moves: [],
  rules: new Uint8Array(0),
};

function open(read: string, workload: readonly string[], out: string | null, program: NativeProgram): NativeReplay {
  try {
    return new native.Replay({ flowsMax: MOST_STREAMS, read, write: null, out, workload, program });
  } catch (error) {
    throw new Failure(`${(error as Error).message}.`);
  }
}

export function* allFlows(replay: Pick<NativeReplay, 'flows'>): Generator<NativeFlow> {
  for (let cursor = 0; cursor >= 0; ) {
    const page = replay.flows(cursor, PAGE);
    yield* page.flows;
    cursor = page.next;
  }
}

export interface CaptureStreams {
  readonly streams: readonly NativeFlow[];
  readonly packets: number;
  /** 5-tuples that were opened again after their end: of these only the last turn is in the list. */
  readonly reopened: number;
  /** Null: the file was read to its end. */
  readonly error: string | null;
}

/**
 * Every stream of a capture, also those that would have timed out within it. With a program of one's own, decided by that one (its idle
 * times are not used). Throws a Failure when the file can't be read.
 */
export async function streamsOf(read: string, workload: readonly string[], program: NativeProgram = LISTENING): Promise<CaptureStreams> {
  const replay = open(read, workload, null, { ...program, idle: LISTENING.idle });
  let progress;
  do {
    progress = replay.step(SLICE_PACKETS);
    await new Promise((resolve) => setImmediate(resolve));
  } while (!progress.done);
  const { streams } = replay.counters();
  if (streams.evicted > 0) throw new Failure(`${read} has more than ${MOST_STREAMS} streams: cut it to pieces with editcap.`);
  return { streams: [...allFlows(replay)], packets: progress.packets, reopened: streams.opened - streams.active, error: progress.error };
}

export interface PacketOfCapture {
  readonly frame: GivenFrame;
  /** Null: no stream of weir's, it crosses. */
  readonly stream: NativeFlow | null;
}

const keyOf = ({ vlan, protocol, source, sourcePort, destination, destinationPort }: NativeFlow): string => [vlan, protocol, source, sourcePort, destination, destinationPort].join(' ');
const rise = (before: Readonly<Record<string, number>>, after: Readonly<Record<string, number>>): string | undefined => Object.keys(after).find((reason) => after[reason] !== before[reason]);

/** Packet number N, counted from 1 as Wireshark does, and the stream that it is part of after those before it. Throws a Failure. */
export async function packetOf(read: string, number: number, workload: readonly string[]): Promise<PacketOfCapture> {
  const directory = mkdtempSync(join(tmpdir(), 'weir-packet-'));
  try {
    const out = join(directory, 'out.pcap');
    const replay = open(read, workload, out, LISTENING);
    let before = 0;
    while (before < number - 1) {
      const progress = replay.step(Math.min(SLICE_PACKETS, number - 1 - before));
      before = progress.packets;
      if (progress.done) break;
      await new Promise((resolve) => setImmediate(resolve));
    }
    const known = new Map([...allFlows(replay)].map((flow) => [keyOf(flow), flow.packets]));
    const was = replay.counters();
    const progress = replay.step(1);
    const is = replay.counters();
    if (progress.packets !== number) throw new Failure(`--packet: ${read} has ${progress.packets} packets${progress.error === null ? '' : ` that can be read (${progress.error})`}, there is no ${number}.`);
    const stream = [...allFlows(replay)].find((flow) => flow.packets !== known.get(keyOf(flow))) ?? null;
    replay.close();
    const bytes = is.crossed.packets > was.crossed.packets ? record(readFileSync(out), was.crossed.packets) : null;
    if (bytes === null) {
      const reason = rise(was.dropped, is.dropped);
      throw new Failure(`--packet: packet ${number} of ${read} ${reason === undefined ? 'holds no Ethernet frame or IP packet, or is a fragment that comes before its first one' : `is dropped: ${reason}`}.`);
    }
    return { frame: { bytes, direction: stream === null ? 'out' : directionOf(bytes, stream) }, stream };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Record `index` of a file that weir wrote itself: pcap, little-endian or the machine's, without surprises. */
function record(file: Buffer, index: number): Buffer | null {
  const little = file[0] === 0x4d || file[0] === 0xd4;
  const u32 = (at: number): number => (little ? file.readUInt32LE(at) : file.readUInt32BE(at));
  let at = PCAP_HEADER;
  for (let i = 0; at + RECORD_HEADER <= file.length; i++) {
    const length = u32(at + 8);
    if (i === index) return file.subarray(at + RECORD_HEADER, at + RECORD_HEADER + length);
    at += RECORD_HEADER + length;
  }
  return null;
}

/** An ICMP error may come from anywhere, but goes to the one whose packet it quotes. */
function directionOf(bytes: Uint8Array, stream: NativeFlow): 'out' | 'in' {
  const packet = decodePacket(bytes);
  const back = stream.opened === 'out' ? 'in' : 'out';
  if (packet === null) return stream.opened;
  if (stream.source === stream.destination && packet.ports !== null) return packet.ports.source === stream.sourcePort ? stream.opened : back;
  return packet.source === stream.source || packet.destination === stream.destination ? stream.opened : back;
}
