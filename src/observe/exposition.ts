/** The Prometheus text format (version 0.0.4): families of samples with labels. */

export type Labels = Readonly<Record<string, string | number>>;

export interface Histogram {
  /** Upper end of each bucket, ascending; what is over the last is only in `count`. */
  readonly bounds: readonly number[];
  /** Observations by bucket (not cumulated), one more than bounds: the last is what is over all of them. */
  readonly counts: readonly number[];
  readonly sum: number;
}

const escapeValue = (text: string): string => text.replace(/\\/g, '\\\\').replace(/\n/g, '\\n').replace(/"/g, '\\"');
const escapeHelp = (text: string): string => text.replace(/\\/g, '\\\\').replace(/\n/g, '\\n');

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeValue(String(value))}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function numberText(value: number): string {
  return Number.isNaN(value) ? 'NaN' : value === Infinity ? '+Inf' : value === -Infinity ? '-Inf' : String(value);
}

export class Exposition {
  readonly #lines: string[] = [];

  /** One family. `rows`: samples with their labels; a family without rows is left out. */
  family(type: 'counter' | 'gauge', name: string, help: string, rows: readonly (readonly [Labels, number])[]): this {
    if (rows.length === 0) return this;
    this.#head(name, type, help);
    for (const [labels, value] of rows) this.#lines.push(`${name}${labelText(labels)} ${numberText(value)}`);
    return this;
  }

  counter(name: string, help: string, value: number): this {
    return this.family('counter', name, help, [[{}, value]]);
  }

  gauge(name: string, help: string, value: number): this {
    return this.family('gauge', name, help, [[{}, value]]);
  }

  histogram(name: string, help: string, { bounds, counts, sum }: Histogram): this {
    this.#head(name, 'histogram', help);
    let total = 0;
    bounds.forEach((bound, i) => this.#lines.push(`${name}_bucket{le="${numberText(bound)}"} ${(total += counts[i] ?? 0)}`));
    total += counts[bounds.length] ?? 0;
    this.#lines.push(`${name}_bucket{le="+Inf"} ${total}`, `${name}_sum ${numberText(sum)}`, `${name}_count ${total}`);
    return this;
  }

  #head(name: string, type: string, help: string): void {
    this.#lines.push(`# HELP ${name} ${escapeHelp(help)}`, `# TYPE ${name} ${type}`);
  }

  toString(): string {
    return `${this.#lines.join('\n')}\n`;
  }
}
