/** Small packets from many streams: capture, stamp, underlay; nothing comes back. */
import { availableParallelism } from 'node:os';
import { sleep, until, type Benchmark, type Contender, type Figures, type Metric } from '../harness.js';
import { OpenVSwitch, ovsInstalled } from '../ovs.js';
import { Topology } from '../topology.js';
import { startWeir, type WeirSetup } from '../weir.js';
import { Running, bare, countsOf, onCore } from '../yardsticks.js';

const INSTANCE = '10.20.0.11';
/** Nobody's: frames to it end where they arrive, at the same cost for every contender. */
const NOBODY = '02:00:00:00:00:99';
const GENERATOR_CORE = 0;
const FORWARDER_CORE = 1;

interface Traffic {
  readonly length: number;
  readonly streams: number;
  readonly order?: 'round-robin' | 'random';
  /** Frames of one stream in a row. */
  readonly burst?: number;
}

/**
 * Four frames of a stream in a row, by one write that the kernel cuts: so the generator is about twice as fast as a bare
 * forwarder, and it is the forwarder's rate that is seen.
 */
const SATURATING = 4;

/** wl ── in0 [dut] und0 ── far; out0 ── net is there because a capture has two sides. */
function smallTopology(): Topology {
  const topology = new Topology('wl', 'dut', 'net', 'far');
  topology.wire('wl', 'eth0', 'dut', 'in0');
  topology.wire('dut', 'out0', 'net', 'eth0');
  topology.wire('dut', 'und0', 'far', 'eth0', 1600);
  // The generator's bursts are cut and have their checksums before they arrive.
  topology.must('wl', 'ethtool', '-K', 'eth0', 'tx', 'off');
  topology.address('dut', 'und0', '10.20.0.1/24');
  topology.ip('dut', 'neighbour', 'add', INSTANCE, 'lladdr', NOBODY, 'dev', 'und0', 'nud', 'permanent');
  return topology;
}

/** Bytes that weir puts before a frame: once a super-frame, and before each datagram. */
interface Tunnel {
  readonly outer: number;
  readonly stamp: number;
}
const NSH: Tunnel = { outer: 42, stamp: 24 };

interface Forwarder {
  readonly program: Running;
  readonly stop: () => Promise<unknown>;
}

/** Packets that arrive at the far end while the generator sends what it can, and what the forwarder's CPU time was. */
async function measure(topology: Topology, forwarder: Forwarder, traffic: Traffic, seconds: number, tunnel: Tunnel | null = null): Promise<Figures> {
  const { length, streams, order = 'round-robin', burst = SATURATING } = traffic;
  // Datagrams that came as one super-frame are one packet to the interface, with one outer header.
  const far = (): number => {
    const { rxPackets, rxBytes } = topology.counts('far', 'eth0');
    return tunnel === null ? rxPackets : (rxBytes - rxPackets * tunnel.outer) / (length + tunnel.stamp);
  };
  const before = far();
  const generator = await new Running(topology.inside('wl', onCore(GENERATOR_CORE, bare('generator', 'eth0', length, streams, 0, 0, order, burst)))).ready(/ready/);
  try {
    // Every stream has been seen once or so before it counts.
    const offered = (): number => topology.counts('wl', 'eth0').txPackets;
    const first = offered();
    await until('frames at the far end', () => far() > before, 10_000);
    await until('every stream to have been sent', () => offered() - first > streams, 120_000);
    await sleep(700);
    const sample = (): [number, number, number, number] => [performance.now(), far(), offered(), forwarder.program.cpuNs()];
    const start = sample();
    await sleep(seconds * 1000);
    const end = sample();
    const [ms, packets, sent, cpu] = end.map((value, i) => value - (start[i] ?? 0)) as [number, number, number, number];
    return { rate: packets / ms / 1000, 'rate per core': (packets / cpu) * 1000, cpu: cpu / packets, busy: cpu / 1e6 / ms, offered: sent / ms / 1000 };
  } finally {
    const { send_errors } = countsOf(await generator.stop());
    if ((send_errors ?? 0) > 0) console.error(`generator: ${send_errors} frames not sent`);
    await forwarder.stop();
  }
}

const METRICS: Readonly<Record<string, Metric>> = {
  rate: { unit: 'M packets/s', better: 'higher' },
  'rate per core': { unit: 'M packets/CPU s', better: 'higher' },
  cpu: { unit: 'ns/packet', better: 'lower' },
  busy: { unit: 'cores', better: 'neither' },
  offered: { unit: 'M packets/s', better: 'neither' },
};

const SATURATED = 'Where `busy` is well below 1 the generator was the limit (`offered` says what it sent), or somebody else had the core: then compare packets a CPU second.';

export async function smallPackets(bench: Benchmark): Promise<void> {
  const { seconds, weir, quick } = bench.options;
  const topologies: Topology[] = [];
  const topology = (): Topology => {
    const next = smallTopology();
    topologies.push(next);
    return next;
  };

  const weirContender = (name: string, traffic: Traffic, cores = String(FORWARDER_CORE), more: Partial<WeirSetup> = {}): Contender => {
    const own = topology();
    const prefix = (argv: readonly string[]): string[] => own.inside('dut', ['taskset', '-c', cores, ...argv]);
    return {
      name,
      run: async () => {
        const program = await startWeir(weir, prefix, { instances: [INSTANCE], flows: 2_000_000, ...more });
        return measure(own, { program, stop: () => program.stop() }, traffic, seconds, NSH);
      },
    };
  };
  const forwarderContender = (traffic: Traffic): Contender => {
    const own = topology();
    return {
      name: 'bare forwarder',
      run: async () => {
        const program = await new Running(own.inside('dut', onCore(FORWARDER_CORE, bare('forwarder', 'in0', 'und0', 0)))).ready(/ready/);
        return measure(own, { program, stop: () => program.stop() }, traffic, seconds);
      },
    };
  };
  const ovsContender = (traffic: Traffic): Contender => {
    const own = topology();
    for (const [host, device] of [['wl', 'eth0'], ['dut', 'in0'], ['dut', 'und0'], ['far', 'eth0']] as const) own.offloadsOff(host, device);
    return {
      name: 'Open vSwitch',
      run: async () => {
        const ovs = await OpenVSwitch.start(own, 'dut', ['in0', 'und0'], (argv) => onCore(FORWARDER_CORE, argv));
        return measure(own, { program: ovs.daemon, stop: () => ovs.stop() }, traffic, seconds);
      },
    };
  };
  const done = (): void => {
    for (const own of topologies.splice(0)) own.remove();
  };

  for (const length of [64, 512, 1400]) {
    const name = `small-${length}`;
    if (!bench.wanted(name)) continue;
    const traffic = { length, streams: 1000 };
    await bench.run({
      name,
      title: `${length}-byte frames, 1,000 streams: capture → stamp → underlay`,
      metrics: METRICS,
      contenders: [weirContender('weir', traffic), forwarderContender(traffic), ...(ovsInstalled() ? [ovsContender(traffic)] : [])],
      claims: [
        { title: `${length} bytes: packets/s, of the bare forwarder's`, metric: 'rate', of: 'weir', against: 'bare forwarder', target: length === 64 ? 0.9 : null },
        { title: `${length} bytes: packets a CPU second, of the bare forwarder's`, metric: 'rate per core', of: 'weir', against: 'bare forwarder', target: null },
        { title: `${length} bytes: packets/s, of Open vSwitch's`, metric: 'rate', of: 'weir', against: 'Open vSwitch', target: null },
        { title: `${length} bytes: CPU a packet, times less than Open vSwitch`, metric: 'cpu', of: 'weir', against: 'Open vSwitch', target: length === 64 ? 2.5 : null },
      ],
      notes: [SATURATED],
    });
    done();
  }

  if (bench.wanted('small-64-apart')) {
    const traffic = { length: 64, streams: 1000, burst: 1 };
    await bench.run({
      name: 'small-64-apart',
      title: '64-byte frames, 1,000 streams, never two of one stream in a row',
      metrics: METRICS,
      contenders: [weirContender('weir', traffic), forwarderContender(traffic)],
      claims: [{ title: '64 bytes, none in a row: packets a CPU second, of the bare forwarder\'s', metric: 'rate per core', of: 'weir', against: 'bare forwarder', target: null }],
      notes: ['The generator is slower than both: only the CPU time counts.'],
    });
    done();
  }

  if (bench.wanted('streams')) {
    const many = quick ? 100_000 : 1_000_000;
    const few = 1000;
    await bench.run({
      name: 'streams',
      title: `64-byte frames, uniform random: ${many.toLocaleString('en')} streams open against 1,000`,
      metrics: METRICS,
      contenders: [many, few].map((streams) => weirContender(`${streams.toLocaleString('en')} streams`, { length: 64, streams, order: 'random', burst: 1 })),
      claims: [
        { title: `packets a CPU second with ${many.toLocaleString('en')} streams, of those with 1,000`, metric: 'rate per core', of: `${many.toLocaleString('en')} streams`, against: `${few.toLocaleString('en')} streams`, target: quick ? null : 0.5 },
      ],
      notes: ['No two frames in a row are of one stream here, so the generator is the limit: what counts is packets a CPU second.'],
    });
    done();
  }

  if (bench.wanted('workers')) {
    const cores = availableParallelism();
    const [one, two] = cores >= 4 ? ['1', '1,2'] : [`0-${cores - 1}`, `0-${cores - 1}`];
    const traffic = { length: 64, streams: 1000 };
    await bench.run({
      name: 'workers',
      title: '64-byte frames, 1,000 streams: two workers against one',
      metrics: METRICS,
      contenders: [weirContender('2 workers', traffic, two, { workers: 2 }), weirContender('1 worker', traffic, one)],
      claims: [{ title: 'packets/s with two workers, of that with one', metric: 'rate', of: '2 workers', against: '1 worker', target: cores >= 4 ? 1.5 : null }],
      notes: cores >= 4 ? [] : [`This machine has ${cores} cores and the generator keeps one of them busy: no target here.`],
    });
    done();
  }
}
