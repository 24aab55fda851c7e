/** `npm run bench:engine`: the pipeline in memory on one core, by stage, by streams, by rules. No network, no privilege. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { freemem } from 'node:os';
import { join } from 'node:path';
import { Benchmark, parseOptions, type Contender, type Metric } from './harness.js';
import { countsOf, onCore, run } from './yardsticks.js';

const CORE = 1;
/** Of engine_bench's process, frames and index included. */
const BYTES_A_STREAM = 220;

const options = parseOptions('engine');
const sources = join(options.weir, 'native/bench');
if (!existsSync(sources)) {
  console.error(`bench:engine is built from the sources of what it measures, and there is no ${sources}`);
  process.exit(2);
}
const bench = new Benchmark('engine', options);
execFileSync('make', ['-s', '-j2', '-C', sources, 'engine'], { stdio: 'inherit' });

const program = join(options.weir, 'build-native/bench/engine_bench');
const measure = async (...args: (string | number)[]): Promise<Record<string, number>> => countsOf(await run(onCore(CORE, [program, ...args.map(String)])));
const ns: Metric = { unit: 'ns', better: 'lower' };

async function streams(): Promise<void> {
  const sizes = options.quick ? [1000, 100_000] : [1000, 100_000, 1_000_000, 4_000_000, 16_000_000];
  const affordable = sizes.filter((size) => size * BYTES_A_STREAM < freemem());
  const named = (size: number): string => `${size.toLocaleString('en')} streams`;
  const contender = (name: string, size: number, encapsulation: string): Contender => ({
    name,
    run: async () => {
      const counts = await measure('streams', size, options.seconds, encapsulation);
      const figure = (key: string): number => counts[key] ?? NaN;
      return {
        parse: figure('parse_ns'),
        hash: figure('hash_ns'),
        lookup: figure('lookup_ns'),
        whole: figure('hit_ns'),
        rate: figure('packets_per_second') / 1e6,
        setup: figure('streams_per_second') / 1e6,
      };
    },
  });
  const most = options.quick ? 100_000 : 1_000_000;
  await bench.run({
    name: 'streams',
    title: 'In-memory pipeline: 64-byte UDP packets of streams at random, parse → hit → stamp',
    metrics: { parse: ns, hash: ns, lookup: ns, whole: ns, rate: { unit: 'M packets/s', better: 'higher' }, setup: { unit: 'M new streams/s', better: 'higher' } },
    contenders: [...affordable.map((size) => contender(named(size), size, 'nsh')), contender(`${named(most)}, geneve`, most, 'geneve')],
    claims: [
      { title: `in memory, ${named(most)}`, metric: 'rate', of: named(most), unit: 'M packets/s', target: 5 },
      { title: `in memory, ${named(most)}, geneve`, metric: 'rate', of: `${named(most)}, geneve`, unit: 'M packets/s', target: null },
      { title: `in memory: ${named(most)}, of the rate with 1,000`, metric: 'rate', of: named(most), against: named(1000), target: 0.5 },
      { title: `flow setup, up to ${named(most)}`, metric: 'setup', of: named(most), unit: 'M streams/s', target: 1 },
    ],
    notes: [
      'Stages are measured alone, a batch of 256 at a time; `whole` is everything together, so it is more than their sum where stamping is dear and less where stages overlap.',
      ...(affordable.length < sizes.length ? [`Left out for want of memory: ${sizes.filter((size) => !affordable.includes(size)).map(named).join(', ')}.`] : []),
    ],
  });
}

async function rules(): Promise<void> {
  const counts = [0, 1000, 100_000];
  const named = (count: number): string => `${count.toLocaleString('en')} rules`;
  await bench.run({
    name: 'rules',
    title: 'Classifier: a packet that no rule matches (prefixes, ranges, wildcards, IPv4 and IPv6)',
    metrics: { miss: ns, compile: { unit: 'ms', better: 'lower' } },
    contenders: counts.map((count) => ({
      name: named(count),
      run: async () => {
        const figures = await measure('rules', count, Math.min(options.seconds, 2));
        return { miss: figures['miss_ns'] ?? NaN, compile: figures['compile_ms'] ?? NaN };
      },
    })),
    claims: [
      { title: 'classifier miss, 100,000 rules', metric: 'miss', of: named(100_000), scale: 1000, unit: 'µs', target: 2 },
      { title: 'native compile, 100,000 rules', metric: 'compile', of: named(100_000), unit: 'ms', target: null },
    ],
  });
}

async function expiry(): Promise<void> {
  const sizes = (options.quick ? [100_000] : [1_000_000, 16_000_000]).filter((size) => size * BYTES_A_STREAM < freemem());
  const named = (size: number): string => `${size.toLocaleString('en')} streams`;
  const us = (what: string): Metric => ({ unit: `µs, ${what}`, better: 'lower' });
  await bench.run({
    name: 'expiry',
    title: 'All streams are over at once: how long packets wait while one step of the expiry is done, new streams opening meanwhile',
    metrics: { median: us('median of all steps'), '99.9 %': us('CPU time'), longest: us('CPU time'), 'longest on the clock': us('with what else ran'), 'over 50': { unit: 'steps over 50 µs of CPU', better: 'lower' }, machine: { unit: 'spins over 50 µs of CPU', better: 'lower' }, whole: { unit: 's until all are closed', better: 'neither' } },
    contenders: sizes.map((size) => ({
      name: named(size),
      run: async () => {
        const figures = await measure('expiry', size);
        const figure = (key: string): number => figures[key] ?? NaN;
        return { median: figure('median_us'), '99.9 %': figure('most_999_us'), longest: figure('longest_cpu_us'), 'longest on the clock': figure('longest_us'), 'over 50': figure('over_50_us'), machine: figure('machine_over_50_us'), whole: figure('expiry_seconds') };
      },
    })),
    claims: sizes.flatMap((size) => [
      { title: `longest step of expiry, ${named(size)}`, metric: 'longest', of: named(size), unit: 'µs', target: 50 },
      { title: `99.9 % of its steps, ${named(size)}`, metric: '99.9 %', of: named(size), unit: 'µs', target: null },
    ]),
    notes: ['CPU time leaves out other processes, and has in it interrupts and what the hypervisor took meanwhile. `machine` says how often that happened in a loop of a few microseconds without any memory, run once after each step.'],
  });
}

await streams();
await rules();
await expiry();
bench.finish();
