/** `npm run bench:control`: changes and questions while traffic runs. */
import { join } from 'node:path';
import { getuid } from 'node:process';
import { ControlClient } from '../../src/control/client.js';
import { Benchmark, parseOptions, sleep, until, type Figures } from './harness.js';
import { quantile } from './statistics.js';
import { Topology } from './topology.js';
import { READY, weirCommand, weirConfig, type WeirSetup } from './weir.js';
import { Running, bare, countsOf } from './yardsticks.js';

if (getuid?.() !== 0) {
  console.error('bench:control makes network namespaces: run it as root');
  process.exit(1);
}
const bench = new Benchmark('control', parseOptions('control'));
const { seconds, weir } = bench.options;
const INSTANCES = ['10.20.0.11', '10.20.0.12'];
const STREAMS = 1000;
const PACKETS_A_SECOND = 20_000;
const CHANGES = 5;

/** wl ── in0 [dut] und0 ── far */
const topology = new Topology('wl', 'dut', 'net', 'far');
topology.wire('wl', 'eth0', 'dut', 'in0');
topology.wire('dut', 'out0', 'net', 'eth0');
topology.wire('dut', 'und0', 'far', 'eth0', 1600);
topology.address('dut', 'und0', '10.20.0.1/24');
for (const [i, address] of INSTANCES.entries()) topology.ip('dut', 'neighbour', 'add', address, 'lladdr', `02:00:00:00:00:9${i}`, 'dev', 'und0', 'nud', 'permanent');
const arrived = (): number => topology.counts('far', 'eth0').rxPackets;

interface Live {
  readonly client: ControlClient;
  readonly startSeconds: number;
  /** That weir has used so far, all threads. */
  readonly cpuMs: () => number;
  /** Frames that did not arrive while the traffic began. */
  readonly lostAtStart: number;
  /** Ends the traffic and tells how many frames did not arrive since, and how many found weir's ring full (since its start). */
  readonly lost: () => Promise<{ readonly lost: number; readonly 'ring full': number }>;
}

/** weir with a steady stream of packets through it, while `work` goes on. */
async function underTraffic<T>(setup: WeirSetup, work: (live: Live) => Promise<T>): Promise<T> {
  const { file, socket } = weirConfig(setup);
  const before = performance.now();
  const program = await new Running(topology.inside('dut', weirCommand(weir, 'run', '--config', file))).ready(READY, 300_000);
  const startSeconds = (performance.now() - before) / 1000;
  const client = await ControlClient.connect(socket);
  const first = arrived();
  const firstSent = topology.counts('wl', 'eth0').txPackets;
  const generator = await new Running(topology.inside('wl', bare('generator', 'eth0', 200, STREAMS, 0, PACKETS_A_SECOND))).ready(/ready/);
  try {
    await until('traffic', () => arrived() - first > 2 * STREAMS, 60_000);
    await sleep(500);
    // What is missing now is lost or under way; the least of several looks is what is lost.
    let lostAtStart = Infinity;
    for (let looks = 0; looks < 50; looks++, await sleep(2)) {
      const sent = topology.counts('wl', 'eth0').txPackets - firstSent;
      lostAtStart = Math.min(lostAtStart, Math.max(0, sent - (arrived() - first)));
    }
    const lost: Live['lost'] = async () => {
      const { sent } = countsOf(await generator.stop());
      for (let before = -1, now = arrived(); before !== now; before = now, now = arrived()) await sleep(300);
      const { ports } = await client.call<{ ports: readonly { readonly rxDropped: number }[] }>('stats');
      return { lost: Math.max(0, (sent ?? NaN) - (arrived() - first) - lostAtStart), 'ring full': ports.reduce((sum, port) => sum + port.rxDropped, 0) };
    };
    return await work({ client, startSeconds, cpuMs: () => program.cpuNs() / 1e6, lostAtStart, lost });
  } finally {
    client.close();
    await generator.stop();
    await program.stop();
  }
}

/** The longest time in which nothing arrived, looked at every millisecond until `done`. */
async function longestPause(done: () => boolean): Promise<number> {
  let longest = 0;
  for (let before = arrived(), since = performance.now(); !done(); await sleep(1)) {
    const now = arrived();
    const time = performance.now();
    if (now !== before) [before, since] = [now, time];
    longest = Math.max(longest, time - since);
  }
  return longest;
}

/** From the file to a program that native code has taken, in this process, without traffic. */
async function build(count: number): Promise<Figures> {
  const part = <T>(name: string): Promise<T> => import(join(weir, 'dist', name)) as Promise<T>;
  const { loadConfiguration } = await part<typeof import('../../src/config/load.js')>('config/load.js');
  const { compile, replayFacts } = await part<typeof import('../../src/program/compile.js')>('program/compile.js');
  const { newIds } = await part<typeof import('../../src/program/ids.js')>('program/ids.js');
  const { native } = await part<typeof import('../../src/dataplane/native.js')>('dataplane/native.js');
  const { file } = weirConfig({ instances: INSTANCES, policies: policies(count) });
  const engine = new native.Engine({ flowsMax: 1 });
  const begin = performance.now();
  const loaded = loadConfiguration(file);
  if (!loaded.ok) throw new Error(`the generated configuration is wrong: ${loaded.errors[0]?.message ?? ''}`);
  const read = performance.now();
  const program = compile(loaded.configuration, newIds(), replayFacts(loaded.configuration));
  const compiled = performance.now();
  engine.install(program);
  const installed = performance.now();
  return { load: read - begin, compile: compiled - read, install: installed - compiled, 'compile and install': installed - read };
}

/** All kinds of policies, none for the generator's packets but the last. */
function policies(count: number): string[] {
  const byte = (n: number): number => n & 255;
  const one = (i: number): string => {
    const port = 1000 + ((i * 7919) % 50_000);
    switch (i % 4) {
      case 0:
        return `match: {protocol: tcp, source: 10.${64 + (i % 64)}.${byte(i >> 6)}.0/24, destination_port: ${port}-${port + 100}}, chain: bench`;
      case 1:
        return `match: {protocol: tcp, destination: 172.${16 + (i % 16)}.${byte(i >> 4)}.${byte(i >> 12)}, destination_port: ${port}}, chain: bench`;
      case 2:
        return `match: {source: "fd01:${(i & 0xffff).toString(16)}::/32", destination: "fd02:0:${(i >> 4).toString(16)}::/48"}, action: pass`;
      default:
        return `match: {protocol: tcp, source_port: ${port}-${port + 10}}, action: drop`;
    }
  };
  return [...Array.from({ length: count - 1 }, (_, i) => `{name: p${i}, ${one(i)}}`), '{name: all, match: {}, chain: bench}'];
}

/** One line of the document by each of the ways that there are, CHANGES times each, from the request on the socket to the answer. */
async function change(count: number): Promise<Figures> {
  return underTraffic({ instances: INSTANCES, policies: policies(count) }, async ({ client, startSeconds, cpuMs, lostAtStart, lost }) => {
    let done = false;
    const pause = longestPause(() => done);
    const { document } = await client.call<{ document: { readonly policies: readonly object[] } }>('config.get');
    const timed = async (method: string, parameters: (i: number) => object): Promise<number[]> => {
      const times: number[] = [];
      for (let i = 0; i < CHANGES; i++) {
        const asked = parameters(i);
        const before = performance.now();
        const { generation } = await client.call<{ generation: number }>(method, asked);
        times.push(performance.now() - before);
        if (generation <= last) throw new Error(`${method} changed nothing`);
        last = generation;
        await sleep(50);
      }
      return times;
    };
    let last = 1;
    const chain = await timed('chain.set', (i) => ({ chain: 'bench', services: i % 2 === 0 ? ['s2'] : ['s1', 's2'], existing: 'move' }));
    const patch = await timed('config.patch', (i) => ({ patch: { default: i % 2 === 0 ? 'drop' : 'pass' } }));
    const policy = await timed('policy.add', (i) => ({ policy: { name: `added${i}`, match: { protocol: 'tcp', destination_port: 1 + i }, action: 'drop' }, before: 'all' }));
    // The whole document again, with one policy of it changed; what was added goes.
    const cpuBefore = cpuMs();
    const apply = await timed('config.apply', (i) => ({ document: { ...document, policies: document.policies.with(count >> 1, { name: `changed${i}`, match: { destination_port: 1 + i }, action: 'drop' }) } }));
    const cpuOfApply = (cpuMs() - cpuBefore) / CHANGES;
    done = true;
    return {
      start: startSeconds,
      chain: quantile(chain, 0.5),
      patch: quantile(patch, 0.5),
      policy: quantile(policy, 0.5),
      apply: quantile(apply, 0.5),
      'CPU of apply': cpuOfApply,
      slowest: Math.max(...chain, ...patch, ...policy, ...apply),
      pause: await pause,
      ...(await lost()),
      'lost at start': lostAtStart,
    };
  });
}

async function ask(method: string, parameters: object): Promise<Figures> {
  return underTraffic({ instances: INSTANCES }, async ({ client, lost }) => {
    const micros: number[] = [];
    for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
      const before = performance.now();
      await client.call(method, parameters);
      micros.push((performance.now() - before) * 1000);
    }
    return { median: quantile(micros, 0.5), '99 %': quantile(micros, 0.99), ...(await lost()) };
  });
}

const frames = { unit: 'frames', better: 'lower' } as const;
const counts = bench.options.quick ? [1000, 10_000] : [1000, 10_000, 100_000];
const named = (count: number): string => `${count.toLocaleString('en')} policies`;
const most = counts.at(-1) ?? 0;
const ms = { unit: 'ms', better: 'lower' } as const;
await bench.run({
  name: 'compile',
  title: 'From configuration file to installed program, no traffic',
  metrics: { load: ms, compile: ms, install: ms, 'compile and install': ms },
  contenders: counts.map((count) => ({ name: named(count), run: () => build(count) })),
  claims: [{ title: `compile and install, ${named(most)}`, metric: 'compile and install', of: named(most), unit: 'ms', target: most === 100_000 ? 1000 : null }],
  notes: ['`load` is YAML, schema and meaning; `install` is the native check and its indices, before the pointer is swapped.'],
});
const APPLY_MS = new Map([[10_000, 100], [100_000, 1000]]);
await bench.run({
  name: 'change',
  title: `One line is changed under ${PACKETS_A_SECOND.toLocaleString('en')} packets/s: asked on the control socket, a new program compiled, kept and swapped in`,
  metrics: {
    start: { unit: 's until ready', better: 'lower' },
    chain: { unit: `ms, chain.set, median of ${CHANGES}`, better: 'lower' },
    patch: { unit: `ms, config.patch, median of ${CHANGES}`, better: 'lower' },
    policy: { unit: `ms, policy.add, median of ${CHANGES}`, better: 'lower' },
    apply: { unit: `ms, config.apply, median of ${CHANGES}`, better: 'lower' },
    'CPU of apply': { unit: 'ms each, all of weir, traffic too', better: 'lower' },
    slowest: { unit: 'ms, of all', better: 'lower' },
    pause: { unit: 'ms without a frame', better: 'lower' },
    lost: frames,
    'lost at start': frames,
    'ring full': frames,
  },
  contenders: counts.map((count) => ({ name: named(count), run: () => change(count) })),
  claims: counts.flatMap((count) => [
    { title: `one policy changed by config.apply of the whole, ${named(count)}`, metric: 'apply', of: named(count), unit: 'ms', target: APPLY_MS.get(count) ?? null },
    ...(['chain', 'patch', 'policy'] as const).map((metric) => ({ title: `one line changed: ${metric}, ${named(count)}`, metric, of: named(count), unit: 'ms', target: APPLY_MS.get(count) ?? null })),
    { title: `frames lost by ${4 * CHANGES} changes, ${named(count)}`, metric: 'lost', of: named(count), unit: 'frames', target: 0 },
  ]),
  notes: [
    '`pause` is the longest time in which no frame came out, seen every millisecond from outside: on a busy machine it has the observer\'s own pauses in it.',
    '`lost`: frames that the generator sent and the far end never got, from the first change to the last.',
    '`ring full`: what weir\'s receive ring had no room for since the start, whoever kept the thread from reading it.',
  ],
});

const QUESTIONS: readonly (readonly [string, object])[] = [
  ['status', {}],
  ['stats', {}],
  ['flows', { limit: 100 }],
  ['trace', { protocol: 'udp', source: '10.64.0.0', destination: '10.9.1.3', source_port: 16384, destination_port: 9 }],
];
await bench.run({
  name: 'requests',
  title: `Control requests one after another under ${PACKETS_A_SECOND.toLocaleString('en')} packets/s`,
  metrics: { median: { unit: 'µs', better: 'lower' }, '99 %': { unit: 'µs', better: 'lower' }, lost: frames, 'ring full': frames },
  contenders: QUESTIONS.map(([method, parameters]) => ({ name: method, run: () => ask(method, parameters) })),
  claims: [],
});
topology.remove();
bench.finish();
process.exit();
