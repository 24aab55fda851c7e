/** Writes the first inputs of the fuzz targets (native/fuzz/corpus), made of pcaps/ and of packets of the formats' vectors. What fuzzing itself finds is added to them. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PCAPS = join(ROOT, 'pcaps');
const CORPUS = join(ROOT, 'native/fuzz/corpus');
const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const LINK_ETHERNET = 1;
const MOST_BYTES = 600;
const KINDS_OF_A_FILE = 12;

function save(target: string, bytes: Buffer): void {
  const directory = join(CORPUS, target);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, createHash('sha1').update(bytes).digest('hex').slice(0, 16)), bytes);
}

/** Records of a capture file: header and frame, each. */
function* records(file: Buffer): Generator<Buffer> {
  for (let at = FILE_HEADER; at + RECORD_HEADER <= file.length; ) {
    const length = file.readUInt32LE(at + 8);
    yield file.subarray(at, at + RECORD_HEADER + length);
    at += RECORD_HEADER + length;
  }
}

/** What two frames have in common that are of one kind to whoever reads them. */
function kind(frame: Buffer): string {
  let at = 12;
  let tags = '';
  while ([0x8100, 0x88a8].includes(frame.readUInt16BE(at))) tags += frame.toString('hex', at, (at += 4) - 2);
  const type = frame.readUInt16BE(at);
  const ip = frame.subarray(at + 2);
  if (type === 0x0800) return `${tags} 4 ${ip[9]} ${(ip.readUInt16BE(6) & 0x3fff) !== 0} ${ip[9] === 6 ? ip[33] : ip[20]} ${ip.length > 200}`;
  if (type === 0x86dd) return `${tags} 6 ${ip[6]} ${ip[6] === 6 ? ip[53] : ip[40]} ${ip.length > 200}`;
  return `${tags} ${type}`;
}

function framesOf(file: Buffer): Buffer[] {
  const found = new Map<string, Buffer>();
  for (const record of records(file)) {
    const frame = record.subarray(RECORD_HEADER);
    if (frame.length < 34 || frame.length > MOST_BYTES || found.has(kind(frame))) continue;
    found.set(kind(frame), frame);
    if (found.size === KINDS_OF_A_FILE) break;
  }
  return [...found.values()];
}

const hex = (...parts: string[]): Buffer => Buffer.from(parts.join(''), 'hex');
const word = (n: number): Buffer => Buffer.from([n >> 8, n & 255]);

// The vectors of docs/wire.md as their instance sends them back.
const INNER = '4500002000010000401160ba0a01000208080808cf84270f000c0e5877656972';
const NSH = hex('02000000000102000000000b08004500006200004000401126580a14000b0a140001', 'f55112b6004e00000c000004000000000fc40203000002fe00000804f1737551', '0200000000bb0200000000aa0800', INNER);
const GENEVE = hex('02000000000102000000000b08004500006400004000401126560a14000b0a140001', 'f55117c10050000008000800000000000108010200000000000000000108020200000000', '0002ff0001080301f1737551', INNER);
const NSH6 = hex('02000000000102000000000b86dd60000000004e1140', 'fd20000000000000000000000000000b', 'fd200000000000000000000000000001', 'f55112b6004e00000c000004000000000fc40203000002fe00000804f1737551', '0200000000bb0200000000aa0800', INNER);
for (const stamped of [NSH, GENEVE, NSH6]) {
  save('stamp', Buffer.concat([Buffer.from([0]), stamped]));
  save('stamp', Buffer.concat([Buffer.from([4, 0, 70]), stamped, stamped.subarray(42)]));
}
save('stamp', Buffer.concat([Buffer.from([1]), NSH.subarray(42)]));
save('stamp', Buffer.concat([Buffer.from([9]), GENEVE.subarray(42)]));
save('stamp', Buffer.concat([Buffer.from([1]), hex('0c000004000000000fc60103000005ffcafebabe000000000000000000000000')]));

/** A step of the pipeline's target: a frame into a port. */
const step = (port: number, frame: Buffer, options = 0): Buffer => Buffer.concat([Buffer.from([0, port | options]), word(frame.length), frame]);
const ALL_COME_BACK = Buffer.from([7]);
const UNKNOWN_OFFLOAD = 0x10;
const PROGRAMS = [0x00, 0x01, 0x02, 0x04, 0x08, 0x10, 0x21, 0x44, 0x48, 0x0d];

let turn = 0;
for (const name of readdirSync(PCAPS).filter((file) => /\.pcap(ng)?$/.test(file))) {
  const file = readFileSync(join(PCAPS, name));
  if (name.endsWith('ng')) {
    save('capture', file.subarray(0, 1200));
    continue;
  }
  // Three records are enough to read a file; two of them whole.
  const some = [...records(file)].filter((record) => record.length < 400).slice(0, 3);
  save('capture', Buffer.concat([file.subarray(0, FILE_HEADER), ...some]).subarray(0, -5));
  save('capture', Buffer.concat([file.subarray(0, FILE_HEADER), ...some]));
  if (file.readUInt32LE(20) !== LINK_ETHERNET) continue;
  const frames = framesOf(file);
  for (const frame of frames) {
    save('frame', Buffer.concat([Buffer.from([0]), frame]));
    const program = PROGRAMS[turn++ % PROGRAMS.length] ?? 0;
    save('pipeline', Buffer.concat([Buffer.from([program, turn & 0xff]), step(1, frame), ALL_COME_BACK, step(2, frame, turn % 3 === 0 ? UNKNOWN_OFFLOAD : 0), ALL_COME_BACK]));
  }
  // All kinds of one file one after another: an exchange.
  const exchange = frames.slice(0, 6).map((frame, i) => Buffer.concat([step(1 + (i % 2), frame), Buffer.from([3])]));
  save('pipeline', Buffer.concat([Buffer.from([PROGRAMS[turn++ % PROGRAMS.length] ?? 0, 0xff]), ...exchange, ALL_COME_BACK]));
}
// A stamp that was never sent, and a probe.
save('pipeline', Buffer.concat([Buffer.from([0, 0]), step(1, hex('0200000000bb0200000000aa0800', INNER)), step(0, NSH), Buffer.from([5, 3])]));

// A packet of full size with DF, over an underlay that fragments: its fragments come back in order, turned about, damaged and late, twice.
const FRAGMENTING = 0x3f;
const datagram = Buffer.concat([hex('0200000000bb0200000000aa0800', '4500002000014000401160ba0a01000208080808cf84270f000c0e5877656972'), Buffer.alloc(60, 'w')]);
const long = Buffer.concat([Buffer.from([0, 1 | 0x40]), word(0x8000 | (2 << 11) | datagram.length), datagram]);
for (const program of [0x00, 0x01, 0x10, 0x21, 0x31, 0x04]) {
  save('pipeline', Buffer.concat([Buffer.from([program, FRAGMENTING]), long, Buffer.from([3, 0, 3, 4]), long, Buffer.from([3, 32, 9, 1, 3, 32, 3, 40, 7]), long, Buffer.from([3, 32, 5, 200, 3, 2, 255, 255])]));
}

/** A step of the fragments' target. */
const fragment = (offset: number, given: number, { ipv6 = false, sender = 0, id = 0, more = true, fill = 1 } = {}): Buffer =>
  Buffer.concat([Buffer.from([3 | ((Number(ipv6) | (sender << 1) | (id << 3) | (more ? 32 : 0)) << 2), fill, offset / 40]), word(given)]);
for (const ipv6 of [false, true]) {
  const [a, b, c] = [fragment(0, 50, { ipv6 }), fragment(400, 50, { ipv6 }), fragment(800, 123, { ipv6, more: false })];
  save('fragments', Buffer.concat([a, b, c]));
  save('fragments', Buffer.concat([c, a, a, b, a]));
  save('fragments', Buffer.concat([b, fragment(200, 50, { ipv6 }), a, Buffer.from([1, 255, 255]), a, b, c]));
  save('fragments', Buffer.concat([c, fragment(800, 123, { ipv6, more: false, fill: 2 }), fragment(1000, 5, { ipv6 }), fragment(9600, 5, { ipv6, id: 1 }), a, fragment(0, 50, { ipv6, sender: 1 })]));
  save('fragments', Buffer.concat([Buffer.from([2 | (Number(ipv6) << 2), 5, 152, 6, 0]), Buffer.from([2 | ((Number(ipv6) | 6) << 2), 0, 0, 31, 255])]));
}
save('fragments', Buffer.concat([Buffer.from([0, 0, 58]), hex('02000000000102000000000b0800', '4500002c0001200040110000', '0a14000b0a140001', 'f55112b6004e00000c000004000000000fc40203000002fe')]));

/** A program of the loader's target: rows of it as program_fuzz.cc reads them, and rules. */
const rule = Buffer.alloc(64);
rule.set(hex('00000000000000000000ffff0a000000'), 0);
rule[32] = 104;
rule[34] = 255;
rule.writeUInt16LE(65535, 38);
rule.writeUInt16LE(80, 40);
rule.writeUInt16LE(443, 42);
rule.writeUInt16LE(65535, 44);
rule.writeUInt16LE(65535, 46);
rule[48] = 2;
const leg = (port: number): number[] => [port, 0, 0];
const instance = (id: number, service: number, last: number, flags: number): number[] => [id, service, 0, last, flags, 1, id, ...leg(3), ...leg(4)];
for (const [encapsulation, attached] of [[0, false], [1, true]] as const) {
  const program = [
    0, 0, 2, // underlay address, flags
    1, 0, // captures: one, of tenant 0
    2, // proxy ports
    2, 0, 0, 1, 1, // services
    2, ...instance(0, 0, 1, 1), ...instance(1, 1, 2, attached ? 9 : 1),
    2, 1, 0, encapsulation | 2 | 0x20, 0, 1, 2, 1, encapsulation | 0x10, 0, // paths
    2, 0, 1, 1, 2, // chains
    1, 1, 3, // a virtual address
    1, 3, 1, // a move
  ];
  for (const rules of [0, 1, 12]) save('program', Buffer.concat([Buffer.from(program), ...Array.from({ length: rules }, (_, i) => { const row = Buffer.from(rule); row[31] = i; row.writeUInt32LE(i, 56); row[34] = i % 2 ? 6 : 255; return row; })]));
}
