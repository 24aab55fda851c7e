/** `npm run bench:replay`: a large capture through the pipeline, against tcprewrite changing the MACs of the same file. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, statfsSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { atEnd } from './cleanup.js';
import { Benchmark, parseOptions, type Contender } from './harness.js';
import { weirCommand } from './weir.js';
import { onCore, run } from './yardsticks.js';

const CORE = 1;
const STREAMS = 10_000;
/** A usual mix ("IMIX"): lengths of frames, seven small to four middle to one large. */
const LENGTHS = [64, 64, 64, 64, 64, 64, 64, 576, 576, 576, 576, 1400] as const;

/** Memory, so that no disk is measured; what is written there is in the page cache by nature. */
function memoryDirectory(bytes: number): string {
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    if (bavail * bsize > bytes) return '/dev/shm';
  } catch {
    // no such file system here
  }
  return tmpdir();
}

/** UDP packets of many streams, a tenth of them answers. The same file for the same number. */
function writeCapture(file: string, packets: number): void {
  const out = openSync(file, 'w');
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65535, 16);
  header.writeUInt32LE(1, 20); // Ethernet
  writeSync(out, header);
  const chunk = Buffer.alloc(1 << 22);
  let used = 0;
  let draw = 1;
  const below = (n: number): number => {
    draw = (Math.imul(draw, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((draw / 2 ** 32) * n);
  };
  for (let i = 0; i < packets; i++) {
    if (used + 1500 > chunk.length) {
      writeSync(out, chunk, 0, used);
      used = 0;
    }
    const length = LENGTHS[below(LENGTHS.length)] ?? 64;
    const stream = below(STREAMS);
    const answer = i >= STREAMS && below(10) === 0;
    const micros = i; // one a microsecond
    chunk.fill(0, used, used + 16 + length);
    chunk.writeUInt32LE(1_700_000_000 + Math.floor(micros / 1e6), used);
    chunk.writeUInt32LE(micros % 1e6, used + 4);
    chunk.writeUInt32LE(length, used + 8);
    chunk.writeUInt32LE(length, used + 12);
    const at = used + 16;
    chunk.writeUIntBE(answer ? 0x02_00_00_00_00_01 : 0x02_00_00_00_00_02, at, 6);
    chunk.writeUIntBE(answer ? 0x02_00_00_00_00_02 : 0x02_00_00_00_00_01, at + 6, 6);
    chunk.writeUInt16BE(0x0800, at + 12);
    const ip = at + 14;
    chunk[ip] = 0x45;
    chunk.writeUInt16BE(length - 14, ip + 2);
    chunk[ip + 8] = 64;
    chunk[ip + 9] = 17;
    const workload = 0x0a01_0000 + (stream % 200);
    chunk.writeUInt32BE(answer ? 0x0a02_0003 : workload, ip + 12);
    chunk.writeUInt32BE(answer ? workload : 0x0a02_0003, ip + 16);
    let sum = 0;
    for (let word = ip; word < ip + 20; word += 2) sum += chunk.readUInt16BE(word);
    sum = (sum & 0xffff) + (sum >>> 16);
    chunk.writeUInt16BE(~(sum + (sum >>> 16)) & 0xffff, ip + 10);
    const port = 10_000 + Math.floor(stream / 200);
    chunk.writeUInt16BE(answer ? 53 : port, ip + 20);
    chunk.writeUInt16BE(answer ? port : 53, ip + 22);
    chunk.writeUInt16BE(length - 34, ip + 24);
    used += 16 + length;
  }
  writeSync(out, chunk, 0, used);
  closeSync(out);
}

const options = parseOptions('replay');
const bench = new Benchmark('replay', options);
const packets = options.quick ? 200_000 : 3_000_000;
const directory = mkdtempSync(join(memoryDirectory(packets * 1400), 'weir-bench-replay-'));
atEnd(() => rmSync(directory, { recursive: true, force: true }));
const file = (name: string): string => join(directory, name);
writeCapture(file('in.pcap'), packets); // just written, so it is in the page cache
writeCapture(file('one.pcap'), 1);
const bytes = statSync(file('in.pcap')).size;

writeFileSync(file('weir.yaml'), [
  'underlay: {interface: eth1}',
  'captures: [{name: bench, in: a, out: b}]',
  'services: {s: {instances: [{name: i1, address: 10.20.0.11}, {name: i2, address: 10.20.0.12}]}}',
  'chains: {bench: [s]}',
  'policies: [{name: all, match: {}, chain: bench}]',
  '',
].join('\n'));

interface Spent {
  readonly seconds: number;
  /** User and kernel. */
  readonly cpuSeconds: number;
}
const spent = async (command: readonly string[]): Promise<Spent> => {
  const before = performance.now();
  const output = await run(['bash', '-c', 'TIMEFORMAT="CPU %U %S"; time "$0" "$@"', ...onCore(CORE, command)]);
  const seconds = (performance.now() - before) / 1000;
  const [, user, kernel] = /CPU (\S+) (\S+)/.exec(output) ?? [];
  return { seconds, cpuSeconds: Number(user) + Number(kernel) };
};
/** `command` takes a capture and where to write. Its start is what it needs for one packet, measured right before. */
const contender = (name: string, output: string, command: (input: string, output: string) => readonly string[]): Contender => ({
  name,
  run: async () => {
    rmSync(file(output), { force: true });
    const start = await spent(command(file('one.pcap'), file(output)));
    rmSync(file(output), { force: true });
    const all = await spent(command(file('in.pcap'), file(output)));
    const written = statSync(file(output)).size;
    rmSync(file(output), { force: true });
    if (written < bytes) throw new Error(`${output} has ${written} bytes of at least ${bytes}`);
    return {
      rate: packets / (all.seconds - start.seconds) / 1e6,
      whole: packets / all.seconds / 1e6,
      cpu: ((all.cpuSeconds - start.cpuSeconds) * 1e9) / packets,
      start: start.seconds * 1000,
    };
  },
});
const replay = (option: string) => (input: string, output: string): string[] =>
  weirCommand(options.weir, 'replay', '--config', file('weir.yaml'), '--read', input, '--workload', '10.1.0.0/16', option, output);
const rewrite = (input: string, output: string): string[] => ['tcprewrite', '--enet-dmac=02:00:00:00:00:22', '--enet-smac=02:00:00:00:00:11', '-i', input, '-o', output];
const installed = spawnSync('tcprewrite', ['--version']).error === undefined;
if (!installed) console.log('tcprewrite is not installed (apt-get install tcpreplay): left out.');

await bench.run({
  name: 'replay',
  title: `${packets.toLocaleString('en')} packets (${Math.round(bytes / 1e6)} MB) from page cache, pcap in, pcap out, one core`,
  metrics: {
    rate: { unit: 'M packets/s, start not counted', better: 'higher' },
    whole: { unit: 'M packets/s, start counted', better: 'higher' },
    cpu: { unit: 'ns of CPU a packet, start not counted', better: 'lower' },
    start: { unit: 'ms for one packet', better: 'lower' },
  },
  contenders: [
    contender('weir replay --out', 'final.pcap', replay('--out')),
    contender('weir replay --write', 'stamped.pcap', replay('--write')),
    ...(installed ? [contender('tcprewrite', 'rewritten.pcap', rewrite)] : []),
  ],
  claims: [
    { title: 'replay, through the chain and out: times tcprewrite', metric: 'rate', of: 'weir replay --out', against: 'tcprewrite', target: 2 },
    { title: 'the same by CPU time', metric: 'cpu', of: 'weir replay --out', against: 'tcprewrite', target: null },
    { title: 'the same, start counted', metric: 'whole', of: 'weir replay --out', against: 'tcprewrite', target: null },
    { title: 'replay, stamped frames written: times tcprewrite', metric: 'rate', of: 'weir replay --write', against: 'tcprewrite', target: null },
  ],
  notes: ['Every packet passes capture, one emulated instance and the way back, whichever file is written.'],
});
bench.finish();
