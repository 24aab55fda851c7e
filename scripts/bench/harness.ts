/**
 * What every benchmark shares: options, rounds in which all contenders take turns, claims held against the targets of the
 * issue, tables and JSON.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ratios, summarise, type Summary } from './statistics.js';
import { figure, table } from './table.js';

export const ROOT = resolve(fileURLToPath(new URL('../..', import.meta.url)));
export const BARE = join(ROOT, 'build-native/bench');

export interface Options {
  readonly runs: number;
  readonly seconds: number;
  /** Names of cases, or beginnings of them; empty: all. */
  readonly only: readonly string[];
  readonly quick: boolean;
  readonly out: string;
  /** The checkout that is measured. */
  readonly weir: string;
}

const USAGE = `[--runs N] [--seconds S] [--only NAME]... [--quick] [--out FILE] [--weir DIRECTORY]
  --runs N          rounds (default 5, quick 1)
  --seconds S       length of one measurement (default 5, quick 1)
  --only NAME       only cases whose name begins so; may be repeated
  --quick           one short round, smaller inputs: does it work?
  --out FILE        where the JSON goes (default build-native/bench/results/BENCHMARK.json)
  --weir DIRECTORY  a built checkout to measure (default: this one)`;

export function parseOptions(benchmark: string, argv = process.argv.slice(2)): Options {
  const fail = (why: string): never => {
    console.error(`${why}\nusage: npm run bench:${benchmark} -- ${USAGE}`);
    process.exit(2);
  };
  let values;
  try {
    ({ values } = parseArgs({
      args: argv,
      options: {
        runs: { type: 'string' },
        seconds: { type: 'string' },
        only: { type: 'string', multiple: true, default: [] },
        quick: { type: 'boolean', default: false },
        out: { type: 'string' },
        weir: { type: 'string', default: ROOT },
        help: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    return fail((error as Error).message);
  }
  if (values.help) {
    console.log(`usage: npm run bench:${benchmark} -- ${USAGE}`);
    process.exit(0);
  }
  const number = (name: string, text: string | undefined, otherwise: number): number => {
    const value = text === undefined ? otherwise : Number(text);
    return value > 0 ? value : fail(`--${name}: expected a number above 0, found "${text}"`);
  };
  return {
    runs: Math.ceil(number('runs', values.runs, values.quick ? 1 : 5)),
    seconds: number('seconds', values.seconds, values.quick ? 1 : 5),
    only: values.only,
    quick: values.quick,
    out: resolve(values.out ?? join(BARE, `results/${benchmark}.json`)),
    weir: resolve(values.weir),
  };
}

/** What is measured, by name: the numbers of one round. */
export type Figures = Readonly<Record<string, number>>;

export interface Metric {
  readonly unit: string;
  readonly better: 'higher' | 'lower' | 'neither';
}

export interface Contender {
  readonly name: string;
  readonly run: () => Promise<Figures>;
}

/** A ratio that the issue asks for: how many times better `of` is than `against` (so for times and costs, how many times less). */
export interface RatioClaim {
  readonly title: string;
  readonly metric: string;
  readonly of: string;
  readonly against: string;
  readonly target: number | null;
}

/** A figure of its own that the issue asks for. */
export interface FigureClaim {
  readonly title: string;
  readonly metric: string;
  readonly of: string;
  /** What one unit of the claim is in units of the metric (1e6 for millions). */
  readonly scale?: number;
  readonly unit: string;
  readonly target: number | null;
}

export interface Case {
  readonly name: string;
  readonly title: string;
  readonly metrics: Readonly<Record<string, Metric>>;
  readonly contenders: readonly Contender[];
  readonly claims: readonly (RatioClaim | FigureClaim)[];
  readonly notes?: readonly string[];
}

export interface ClaimResult {
  readonly title: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  readonly value: Summary;
  readonly target: number | null;
  readonly reached: boolean | null;
}

export interface CaseResult {
  readonly name: string;
  readonly title: string;
  readonly metrics: Readonly<Record<string, Metric>>;
  readonly contenders: readonly { readonly name: string; readonly figures: Readonly<Record<string, Summary>> }[];
  readonly claims: readonly ClaimResult[];
  readonly notes: readonly string[];
  readonly failures: readonly string[];
}

export interface Results {
  readonly benchmark: string;
  readonly date: string;
  readonly machine: Readonly<Record<string, string | number>>;
  readonly weir: string;
  readonly options: { readonly runs: number; readonly seconds: number; readonly quick: boolean };
  readonly cases: readonly CaseResult[];
}

function machine(): Results['machine'] {
  return {
    cores: availableParallelism(),
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
  };
}

/** Version and, in a git checkout, commit of what is measured. */
function versionOf(directory: string): string {
  const { version } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as { version: string };
  try {
    const git = (...args: string[]): string => execFileSync('git', ['-C', directory, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    return `${version} ${git('rev-parse', '--short', 'HEAD')}${git('status', '--porcelain', '-uno') === '' ? '' : ' with changes'}`;
  } catch {
    return version;
  }
}

function resultOf(claim: RatioClaim | FigureClaim, metrics: Case['metrics'], measured: ReadonlyMap<string, readonly Figures[]>): ClaimResult | null {
  const values = (contender: string): number[] => (measured.get(contender) ?? []).map((figures) => figures[claim.metric] ?? NaN);
  const better = metrics[claim.metric]?.better === 'lower' ? 'lower' : 'higher';
  const own = values(claim.of);
  if (own.length === 0) return null;
  if (!('against' in claim)) {
    const value = summarise(own.map((figure) => figure / (claim.scale ?? 1)));
    const reached = claim.target === null ? null : better === 'higher' ? value.median >= claim.target : value.median <= claim.target;
    return { title: claim.title, unit: claim.unit, better, value, target: claim.target, reached };
  }
  const other = values(claim.against);
  if (other.length === 0) return null;
  const value = better === 'higher' ? ratios(own, other) : ratios(other, own);
  return { title: claim.title, unit: '×', better: 'higher', value, target: claim.target, reached: claim.target === null ? null : value.median >= claim.target };
}

function print({ title, metrics, contenders, claims, notes, failures }: CaseResult, runs: number): void {
  console.log(`\n${title}\n`);
  const names = Object.keys(metrics);
  const cell = ({ median, min, max }: Summary): string => (runs === 1 ? figure(median) : `${figure(median)} (${figure(min)}–${figure(max)})`);
  console.log(table(
    [runs === 1 ? 'one run' : `median (min–max) of ${runs}`, ...names.map((name) => `${name}, ${metrics[name]?.unit ?? ''}`)],
    contenders.map(({ name, figures }) => [name, ...names.map((metric) => (figures[metric] === undefined ? '–' : cell(figures[metric])))]),
  ));
  if (claims.length > 0) {
    console.log('');
    console.log(table(
      ['claim', runs === 1 ? 'value' : 'median (min–max)', 'target', ''],
      claims.map(({ title, unit, better, value, target, reached }) => [
        title,
        `${cell(value)} ${unit}`,
        target === null ? '–' : `${better === 'higher' ? '≥' : '≤'} ${figure(target)} ${unit}`,
        reached === null ? '' : reached ? 'reached' : 'MISSED',
      ]),
    ));
  }
  for (const note of notes) console.log(`\n${note}`);
  for (const failure of failures) console.log(`\nFAILED ${failure}`);
}

/** One benchmark run from start to end: cases one after another, JSON written after each. */
export class Benchmark {
  readonly #cases: CaseResult[] = [];
  readonly #results: () => Results;
  readonly #asked = new Set<string>();

  constructor(readonly name: string, readonly options: Options) {
    if (!existsSync(join(options.weir, 'dist/cli/main.js'))) throw new Error(`${options.weir} is not built: run scripts/setup there`);
    const { runs, seconds, quick } = options;
    const [date, weir, about] = [new Date().toISOString(), versionOf(options.weir), machine()];
    this.#results = () => ({ benchmark: name, date, machine: about, weir, options: { runs, seconds, quick }, cases: this.#cases });
    console.log(`bench:${name}, weir ${weir}; ${Object.entries(about).map(([key, value]) => `${key} ${value}`).join(', ')}; ${runs} runs of ${seconds} s`);
  }

  wanted(name: string): boolean {
    this.#asked.add(name);
    const { only } = this.options;
    return only.length === 0 || only.some((beginning) => name.startsWith(beginning));
  }

  /** Lets the contenders take turns, round by round, each round beginning with another one. */
  async run(work: Case): Promise<void> {
    if (!this.wanted(work.name)) return;
    const { runs } = this.options;
    const measured = new Map<string, Figures[]>(work.contenders.map(({ name }) => [name, []]));
    const failures: string[] = [];
    for (let round = 0; round < runs; round++) {
      for (let turn = 0; turn < work.contenders.length; turn++) {
        const contender = work.contenders[(round + turn) % work.contenders.length];
        if (contender === undefined || !measured.has(contender.name)) continue;
        if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${work.name}: round ${round + 1} of ${runs}, ${contender.name}`);
        try {
          measured.get(contender.name)?.push(await contender.run());
        } catch (error) {
          measured.delete(contender.name); // what fails once has no median
          failures.push(`${contender.name}, round ${round + 1}: ${(error as Error).message}`);
        }
      }
    }
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
    this.add({
      name: work.name,
      title: work.title,
      metrics: work.metrics,
      contenders: [...measured].filter(([, rounds]) => rounds.length > 0).map(([name, rounds]) => ({
        name,
        figures: Object.fromEntries(Object.keys(work.metrics).map((metric) => [metric, summarise(rounds.map((figures) => figures[metric] ?? NaN))])),
      })),
      claims: work.claims.map((claim) => resultOf(claim, work.metrics, measured)).filter((claim) => claim !== null),
      notes: work.notes ?? [],
      failures,
    });
  }

  private add(result: CaseResult): void {
    this.#cases.push(result);
    print(result, this.options.runs);
    mkdirSync(dirname(this.options.out), { recursive: true });
    writeFileSync(this.options.out, `${JSON.stringify(this.#results(), null, 1)}\n`);
    if (result.failures.length > 0) process.exitCode = 1;
  }

  /** Call last. */
  finish(): void {
    if (this.#cases.length === 0) {
      console.error(`--only ${this.options.only.join(', ')}: no such case. There are: ${[...this.#asked].join(', ')}`);
      process.exitCode = 2;
      return;
    }
    console.log(`\nwritten: ${this.options.out}`);
  }
}

export const sleep = (ms: number): Promise<void> => new Promise((wake) => setTimeout(wake, ms));

export async function until(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  for (const end = Date.now() + timeoutMs; !(await condition()); ) {
    if (Date.now() > end) throw new Error(`timed out waiting for ${what}`);
    await sleep(10);
  }
}
