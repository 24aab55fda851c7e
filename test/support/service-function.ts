/** A service function on packets in memory: the same handler that a node's thread runs, without a network. */
import { pino } from 'pino';
import { native } from '../../src/dataplane/native.js';
import type { After } from '../../src/service/faults.js';
import { Handler, slabViews } from '../../src/service/handler.js';
import type { ServiceFunction } from '../../src/service/service-function.js';

export interface Line {
  readonly level: number;
  readonly msg: string;
  readonly stack?: string;
  readonly kinds?: Record<string, number>;
  readonly [key: string]: unknown;
}

export interface TestPacket {
  /** With an Ethernet header, unless `kind` says otherwise. */
  readonly bytes: Uint8Array;
  readonly code: number;
  readonly spi?: number;
  readonly si?: number;
  /** Bits: 1 geneve, 2 begins with an Ethernet header. */
  readonly kind?: number;
}

/** 'error': it has no verdict. */
export type Answer = 'forward' | 'drop' | 'error' | Uint8Array;

export class FunctionUnderTest {
  readonly lines: Line[] = [];
  /** Of timers for the log. */
  readonly waits: number[] = [];
  readonly handler: Handler;
  nowMs = 1_750_000_000_000;
  #due: (() => void)[] = [];
  readonly #slab = slabViews(new ArrayBuffer(native.slabLayout.verdictsAt + native.slabLayout.packets + 2 ** 20), native.slabLayout);

  constructor(service: ServiceFunction, settings: unknown = {}, options: { readonly maxStreams?: number } = {}) {
    const log = pino({ base: null }, { write: (line: string) => void this.lines.push(JSON.parse(line) as Line) });
    const after: After = (work, wait) => {
      this.waits.push(wait);
      this.#due.push(work);
    };
    this.handler = new Handler(service, { identity: { service: 's', name: 'n' }, log, layout: native.slabLayout, after, nowMs: () => this.nowMs, ...options });
    this.handler.configure(settings);
    this.handler.start();
  }

  /** What timers for the log have waited for. */
  minute(): void {
    const due = this.#due;
    this.#due = [];
    due.forEach((work) => work());
  }

  /** In slabs as native code makes them. */
  handle(packets: readonly TestPacket[]): Answer[] {
    const { packets: most } = native.slabLayout;
    const answers: Answer[] = [];
    for (let at = 0; at < packets.length; at += most) answers.push(...this.#handleSlab(packets.slice(at, at + most)));
    return answers;
  }

  metric(name: string): number {
    return this.handler.metrics.read().find((metric) => metric.name === name)?.value ?? NaN;
  }

  #handleSlab(packets: readonly TestPacket[]): Answer[] {
    const { rows, bytes } = this.#slab;
    const { verdictsAt, packets: most } = native.slabLayout;
    let at = verdictsAt + most;
    packets.forEach((packet, i) => {
      rows.set([at, packet.bytes.length, packet.code | 0, ((packet.spi ?? 2) << 8) | (packet.si ?? 255), packet.kind ?? 2], i * 5);
      bytes.set(packet.bytes, at);
      bytes[verdictsAt + i] = 0;
      at += packet.bytes.length;
    });
    const replacements = this.handler.handle(this.#slab, packets.length) ?? [];
    return packets.map((_, i): Answer => {
      const verdict = bytes[verdictsAt + i];
      if (verdict !== 3) return verdict === 1 ? 'forward' : verdict === 2 ? 'drop' : 'error';
      const index = replacements.findIndex((value, position) => position % 2 === 0 && value === i);
      return replacements[index + 1] as Uint8Array;
    });
  }
}
