/** Accounts of `meter` as files. Each is written under another name and then put in its place, so that a reader never sees half of one. */
import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { NodeIdentity } from '../service-function.js';
import type { Accounts, HostCount, StreamCount } from './meter.js';

export type ExportFormat = 'csv' | 'json';

/** Rows written at once: packets are answered in between. */
const CHUNK = 500;

interface StreamRow {
  readonly code: string;
  readonly protocol: number;
  readonly source: string;
  readonly source_port: number;
  readonly destination: string;
  readonly destination_port: number;
  readonly first_seen: string;
  readonly last_seen: string;
  readonly packets: number;
  readonly bytes: number;
  readonly answer_packets: number;
  readonly answer_bytes: number;
  /** Empty while it lives. */
  readonly end: string;
}

interface HostRow {
  /** `others` stands for all that have no account of their own. */
  readonly address: string;
  readonly streams: number;
  readonly sent_packets: number;
  readonly sent_bytes: number;
  readonly received_packets: number;
  readonly received_bytes: number;
}

const streamRow = (s: StreamCount): StreamRow => ({
  code: `0x${s.code.toString(16).padStart(8, '0')}`,
  protocol: s.protocol,
  source: s.sourceAddress,
  source_port: s.sourcePort,
  destination: s.destinationAddress,
  destination_port: s.destinationPort,
  first_seen: new Date(s.firstMs).toISOString(),
  last_seen: new Date(s.lastMs).toISOString(),
  packets: s.packets,
  bytes: s.bytes,
  answer_packets: s.answerPackets,
  answer_bytes: s.answerBytes,
  end: s.end,
});

const hostRow = (h: HostCount): HostRow => ({
  address: h.address === '' ? 'others' : h.address,
  streams: h.streams,
  sent_packets: h.sentPackets,
  sent_bytes: h.sentBytes,
  received_packets: h.receivedPackets,
  received_bytes: h.receivedBytes,
});

const STREAM_COLUMNS = 'code,protocol,source,source_port,destination,destination_port,first_seen,last_seen,packets,bytes,answer_packets,answer_bytes,end';
const HOST_COLUMNS = 'address,streams,sent_packets,sent_bytes,received_packets,received_bytes';

/** No field of ours needs quoting. */
const csvLine = (row: object): string => `${Object.values(row).join(',')}\n`;

function* chunks<T>(rows: Iterable<T>, line: (row: T) => string): Generator<string> {
  let text = '';
  let n = 0;
  for (const row of rows) {
    text += line(row);
    if (++n % CHUNK !== 0) continue;
    yield text;
    text = '';
  }
  if (text !== '') yield text;
}

async function replaceFile(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  const draft = `${path}.new`;
  try {
    const file = await open(draft, 'w', 0o640);
    try {
      await write(file);
    } finally {
      await file.close();
    }
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

async function writeAll(file: FileHandle, parts: Iterable<string>): Promise<void> {
  for (const part of parts) await file.write(part);
}

export async function exportMeter(directory: string, format: ExportFormat, node: NodeIdentity, accounts: Accounts): Promise<void> {
  if (format === 'csv') {
    await replaceFile(join(directory, 'streams.csv'), async (file) => {
      await file.write(`${STREAM_COLUMNS}\n`);
      await writeAll(file, chunks(accounts.streams, (stream) => csvLine(streamRow(stream))));
    });
    await replaceFile(join(directory, 'hosts.csv'), async (file) => {
      await file.write(`${HOST_COLUMNS}\n`);
      await writeAll(file, chunks(accounts.hosts, (host) => csvLine(hostRow(host))));
    });
    return;
  }
  const list = <T>(rows: Iterable<T>, row: (value: T) => object): Generator<string> => {
    let first = true;
    return chunks(rows, (value) => {
      const text = `${first ? '' : ','}\n${JSON.stringify(row(value))}`;
      first = false;
      return text;
    });
  };
  await replaceFile(join(directory, 'meter.json'), async (file) => {
    const head = { service: node.service, instance: node.name, time: new Date().toISOString(), streams_not_kept: accounts.lost };
    await file.write(`${JSON.stringify(head).slice(0, -1)},"streams":[`);
    await writeAll(file, list(accounts.streams, streamRow));
    await file.write('],"hosts":[');
    await writeAll(file, list(accounts.hosts, hostRow));
    await file.write(']}\n');
  });
}
