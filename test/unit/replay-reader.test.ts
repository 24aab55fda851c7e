/** The reader of plain pcap files against libpcap's, which reads what comes through a pipe: the same packets, the same complaints. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { replay } from '../../src/replay/replay.js';
import { steerAll, valid } from '../support/configuration.js';
import { ROOT, must } from '../support/lab.js';

const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const NANOSECONDS = 0xa1b23c4d;

const directory = mkdtempSync(join(tmpdir(), 'weir-reader-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const at = (name: string): string => join(directory, name);
t.setTimeout(240_000);
const configuration = valid(steerAll('nsh', 'flows: {max: 1000}'));
/** One for each case: what one reader leaves in a pipe would be the next one's. */
const pipes = Array.from({ length: 120 }, (_, i) => at(`pipe-${i}`));
t.before(() => must(['mkfifo', ...pipes]));

/** All that a replay shows of its input. */
async function seen(read: string, given: string): Promise<unknown> {
  const [write, out] = [at('stamped.pcap'), at('final.pcap')];
  rmSync(write, { force: true });
  rmSync(out, { force: true });
  try {
    const { progress, counters } = await replay({ configuration, read, write, out, workload: [] });
    // Versions of libpcap differ in what they call the limit.
    const complaint = progress.error?.replace(/(invalid packet capture length \d+), .*/, '$1') ?? null;
    return { ...progress, error: complaint, bytesRead: 0, bytesTotal: 0, counters, stamped: readFileSync(write), final: readFileSync(out) };
  } catch (error) {
    return (error as Error).message.replace(read, given);
  }
}

async function same(t: Test, what: string, bytes: Buffer): Promise<unknown> {
  const file = at('in.pcap');
  writeFileSync(file, bytes);
  const own = await seen(file, 'FILE');
  const fifo = pipes.pop();
  if (fifo === undefined) throw new Error('too few pipes');
  const feeder = spawn('sh', ['-c', 'exec cat "$0" > "$1"', file, fifo], { stdio: 'ignore' });
  const fed = new Promise((resolve) => feeder.once('close', resolve));
  const piped = await seen(fifo, 'FILE');
  feeder.kill();
  await fed;
  t.strictSame(own, piped, what);
  return own;
}

/** Offsets of the records' headers. */
function recordsOf(bytes: Buffer): number[] {
  const found: number[] = [];
  for (let offset = FILE_HEADER; offset + RECORD_HEADER <= bytes.length; offset += RECORD_HEADER + bytes.readUInt32LE(offset + 8)) found.push(offset);
  return found;
}

function swapped(bytes: Buffer): Buffer {
  const other = Buffer.from(bytes);
  const records = recordsOf(bytes);
  for (const offset of [0, 8, 12, 16, 20]) other.writeUInt32BE(bytes.readUInt32LE(offset), offset);
  for (const offset of [4, 6]) other.writeUInt16BE(bytes.readUInt16LE(offset), offset);
  for (const record of records) for (let offset = record; offset < record + RECORD_HEADER; offset += 4) other.writeUInt32BE(bytes.readUInt32LE(offset), offset);
  return other;
}

const changed = (bytes: Buffer, change: (copy: Buffer) => void): Buffer => {
  const copy = Buffer.from(bytes);
  change(copy);
  return copy;
};

t.test('plain files, in every form and broken in many ways, read as libpcap reads them', async (t) => {
  const dns = readFileSync(join(ROOT, 'pcaps/dns.pcap'));
  const curl = readFileSync(join(ROOT, 'pcaps/curl.pcap'));
  const records = recordsOf(curl);
  const middle = records[records.length >> 1] ?? 0;
  t.ok(records.length > 100, `${records.length} records`);

  for (const name of ['arp-ndp', 'curl', 'dns', 'fragments', 'icmp-errors', 'vlan']) await same(t, name, readFileSync(join(ROOT, `pcaps/${name}.pcap`)));
  await same(t, 'the other byte order', swapped(curl));
  await same(t, 'nanoseconds', changed(curl, (copy) => copy.writeUInt32LE(NANOSECONDS, 0)));
  await same(t, 'nanoseconds, the other byte order', swapped(changed(curl, (copy) => copy.writeUInt32LE(NANOSECONDS, 0))));
  await same(t, 'records longer than the snapshot length', changed(curl, (copy) => copy.writeUInt32LE(100, 16)));
  await same(t, 'snapshot length 0', changed(curl, (copy) => copy.writeUInt32LE(0, 16)));
  await same(t, 'an endless snapshot length', changed(curl, (copy) => copy.writeUInt32LE(0xffffffff, 16)));
  for (const minor of [0, 2, 3, 5]) await same(t, `version 2.${minor}`, changed(dns, (copy) => copy.writeUInt16LE(minor, 6)));
  await same(t, 'version 3.4', changed(dns, (copy) => copy.writeUInt16LE(3, 4)));
  await same(t, 'a frame check sequence said', changed(dns, (copy) => copy.writeUInt32LE(0x24000001, 20)));
  await same(t, 'another magic number', changed(dns, (copy) => copy.writeUInt32LE(0xa1b2cd34, 0)));
  for (const [field, name] of ['seconds', 'fraction', 'captured length', 'length'].entries())
    for (const value of [0, 1, 262_144, 262_145, 0x7fffffff, 0xffffffff]) await same(t, `${name} ${value}`, changed(curl, (copy) => copy.writeUInt32LE(value, middle + 4 * field)));
  for (const value of [999_999, 1_000_000]) await same(t, `microseconds ${value}`, changed(curl, (copy) => copy.writeUInt32LE(value, middle + 4)));
  for (const value of [0x80000000, 0xffffffff]) await same(t, `seconds ${value}, the other byte order`, swapped(changed(curl, (copy) => copy.writeUInt32LE(value, middle))));
  for (const length of [0, 3, 23, 24, 25, 39, 40, 41, middle, middle + 1, middle + 15, middle + 16, middle + 17, middle + 40, curl.length - 1]) await same(t, `cut after ${length} bytes`, curl.subarray(0, length));
  await same(t, 'cut within what the snapshot length leaves out', changed(curl, (copy) => copy.writeUInt32LE(20, 16)).subarray(0, middle + 16 + 40));
});

t.test('more than one read, with records over its end', async (t) => {
  const curl = readFileSync(join(ROOT, 'pcaps/curl.pcap'));
  const body = curl.subarray(FILE_HEADER);
  const long = Buffer.alloc(RECORD_HEADER + 200_000, 7);
  curl.copy(long, 0, FILE_HEADER, FILE_HEADER + 8);
  long.writeUInt32LE(200_000, 8);
  long.writeUInt32LE(200_000, 12);
  const file = Buffer.concat([curl, long, body, long, long, body, body, body, body]);
  const result = (await same(t, 'several chunks', file)) as { readonly packets: number };
  t.equal(result.packets, recordsOf(curl).length * 6 + 3);
});
