/** Named numbers of a function, for whoever shows them. */

const MOST_METRICS = 200;
const NAME = /^[a-zA-Z_][a-zA-Z0-9_]{0,99}$/;
const LONGEST_HELP = 200;

export interface Counter {
  add(n?: number): void;
}

export interface Gauge {
  set(value: number): void;
}

export interface MetricValue {
  readonly name: string;
  readonly type: 'counter' | 'gauge';
  readonly help: string;
  readonly value: number;
}

class Metric implements Counter, Gauge {
  value = 0;

  constructor(
    readonly name: string,
    readonly type: 'counter' | 'gauge',
    readonly help: string,
  ) {}

  add(n = 1): void {
    if (!(n >= 0)) throw new TypeError(`counter ${this.name}: expected a number of 0 or more, found ${String(n)}`);
    this.value += n;
  }

  set(value: number): void {
    if (typeof value !== 'number') throw new TypeError(`gauge ${this.name}: expected a number, found ${typeof value}`);
    this.value = value;
  }
}

export class Metrics {
  readonly #metrics = new Map<string, Metric>();

  counter(name: string, help: string): Counter {
    return this.#metric(name, 'counter', help);
  }

  gauge(name: string, help: string): Gauge {
    return this.#metric(name, 'gauge', help);
  }

  /** In the order in which they were made. */
  read(): MetricValue[] {
    return [...this.#metrics.values()].map(({ name, type, help, value }) => ({ name, type, help, value }));
  }

  #metric(name: string, type: 'counter' | 'gauge', help: string): Metric {
    const known = this.#metrics.get(name);
    if (known !== undefined) {
      if (known.type !== type) throw new TypeError(`metric ${name} is a ${known.type}, not a ${type}`);
      return known;
    }
    if (typeof name !== 'string' || !NAME.test(name)) throw new TypeError(`expected a metric's name of letters, digits and _, found ${JSON.stringify(name)}`);
    if (this.#metrics.size >= MOST_METRICS) throw new RangeError(`no more than ${MOST_METRICS} metrics`);
    const metric = new Metric(name, type, String(help).slice(0, LONGEST_HELP));
    this.#metrics.set(name, metric);
    return metric;
  }
}
