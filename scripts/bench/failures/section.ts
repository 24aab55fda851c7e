import { Lab, type Running } from '../../../test/support/lab.js';

export interface WriteOptions {
  readonly runs: number;
  /** Only cases whose name has this in it; the others stay what they were. */
  readonly match: string;
  /** What the section says so far; empty at first. */
  readonly before: string;
  readonly said: (line: string) => void;
}

/** One part of docs/failures.md, with a program that measures it. */
export interface Section {
  /** Between `<!-- name -->` and `<!-- /name -->`. */
  readonly name: string;
  readonly title: string;
  /** Measures, and returns the text between title and the next section. */
  readonly write: (options: WriteOptions) => Promise<string>;
}

export const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN;

/** What the runs of one case come to: cells of its row after name and runs, and a line for whoever waits. */
export interface Summary {
  readonly cells: readonly (string | number)[];
  readonly said: string;
}

type Row = readonly (string | number)[] | string;

/** A row for each case: measured so often in one lab, or as it was where it does not match. */
export async function rowsOf<Case extends { readonly name: string }, Cost>(cases: readonly Case[], { runs, match, before, said }: WriteOptions, measure: (lab: Lab, one: Case) => Promise<Cost>, summary: (costs: readonly Cost[]) => Summary): Promise<readonly Row[]> {
  const known = rowsKept(before);
  const rows: Row[] = [];
  const lab = await Lab.up();
  try {
    for (const one of cases) {
      if (!one.name.includes(match)) {
        const line = known.get(one.name);
        if (line !== undefined) rows.push(line);
        continue;
      }
      const costs: Cost[] = [];
      for (let run = 0; run < runs; run++) costs.push(await measure(lab, one));
      const { cells, said: text } = summary(costs);
      rows.push([one.name, runs, ...cells]);
      said(`${one.name}: ${text}`);
    }
  } finally {
    await lab.down();
  }
  return rows;
}

export interface GapCost {
  readonly gapMs: number;
  readonly lost: number;
  readonly twice: number;
}

/** Ends numbered.py that receives, and has what it says. */
export async function gapOf(receiver: Running): Promise<GapCost> {
  const { missing: lost, twice, longest_gap_ms: gapMs } = JSON.parse((await receiver.stop()).stdout.split('\n')[1] ?? '{}') as { missing: number; twice: number; longest_gap_ms: number };
  return { gapMs, lost, twice };
}

/** Head of the columns of gapsOf(). */
export const GAP_HEAD = ['ms, median', 'ms, worst', 'lost, median', 'lost, worst', 'twice'] as const;

export function gapsOf(costs: readonly GapCost[]): Summary {
  const gaps = costs.map(({ gapMs }) => gapMs);
  const lost = costs.map(({ lost: packets }) => packets);
  return {
    cells: [median(gaps).toFixed(0), Math.max(...gaps).toFixed(0), median(lost), Math.max(...lost), Math.max(...costs.map(({ twice }) => twice))],
    said: `${gaps.map((ms) => ms.toFixed(0)).join(', ')} ms; lost ${lost.join(', ')}`,
  };
}

/** The rows of a section so far, by their first cell. */
const rowsKept = (before: string): ReadonlyMap<string, string> => new Map(before.split('\n').map((line) => [line.split(' | ')[0]?.replace(/^\| /, '') ?? '', line]));

const line = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`;

/** A row that is a text is one that was kept. */
export const tableOf = (head: readonly string[], rows: readonly Row[]): string =>
  [line(head), line(head.map(() => '---')), ...rows.map((row) => (typeof row === 'string' ? row : line(row)))].join('\n');
