/**
 * What routers say of the ways to instances ("fragmentation needed", "packet too big"): an instance is held to it for ten minutes, then
 * longer packets are tried again (RFC 1191 section 6.3, RFC 8201 section 4). Anybody may forge such a word, so none goes below what
 * native code lets through, and none is for longer.
 */
import type { Facts } from '../program/compile.js';
import { readSignals } from '../health/rows.js';
import { wayMtu } from '../program/way-mtu.js';
import type { NativeInstance, NativeProgram } from './native.js';
import type { NeighbourFacts } from './watch.js';

const HELD_MS = 600_000;
/** An instance whose way changes again and again has an event for it once in so long. */
const TOLD_AGAIN_MS = 60_000;

interface Learnt {
  readonly mtu: number;
  readonly untilMs: number;
  /** The way that it was said of. */
  readonly mac: string | null;
  readonly underlay: number;
}

/** That an instance's packets may be shorter or longer than before. */
export interface WayChange {
  /** `service/name`. */
  readonly instance: string;
  readonly cause: `path MTU: ${string}`;
  /** An event is due. */
  readonly told: boolean;
}

export class PathMtus {
  /** By address. */
  readonly #learnt = new Map<string, Learnt>();
  /** By instance id: when a router said something that was looked at last, and when that was told. */
  readonly #heard = new Map<number, number>();
  readonly #told = new Map<number, number>();

  /** What a program says of neighbours and the ways to them. */
  facts(neighbours: NeighbourFacts): Pick<Facts, 'macOf' | 'underlayOf' | 'mtuOf'> {
    return {
      macOf: (address) => neighbours.macOf(address),
      underlayOf: (address) => neighbours.underlayOf?.(address) ?? null,
      mtuOf: (address) => {
        const known = [neighbours.mtuOf?.(address), this.#learnt.get(address)?.mtu].filter((mtu) => mtu != null);
        return known.length === 0 ? null : Math.min(...known);
      },
    };
  }

  /** Takes up what native code heard and gives up what is over. What it returns is for another program to follow. */
  look(signals: Float64Array, program: Pick<NativeProgram, 'underlays' | 'instances'>, nameOf: (id: number) => string, nowMs: number): readonly WayChange[] {
    const rows = readSignals(signals);
    const changes: WayChange[] = [];
    const addresses = new Set<string>();
    for (const instance of program.instances) {
      const { id, address, attach } = instance;
      if (address === null || attach !== null) continue;
      addresses.add(address);
      const { toldAt = 0, toldMtu = 0 } = rows.get(id) ?? {};
      const isNews = toldMtu > 0 && toldAt !== this.#heard.get(id);
      if (isNews) this.#heard.set(id, toldAt);
      const cause = (isNews ? this.#lower(instance, address, toldMtu, program, nowMs) : null) ?? this.#raise(instance, address, nowMs);
      if (cause !== null) changes.push({ instance: nameOf(id), cause, told: this.#due(id, nowMs) });
    }
    for (const address of this.#learnt.keys()) if (!addresses.has(address)) this.#learnt.delete(address);
    return changes;
  }

  #lower(instance: NativeInstance, address: string, mtu: number, program: Pick<NativeProgram, 'underlays'>, nowMs: number): WayChange['cause'] | null {
    // It may be older than the program in force.
    if (mtu >= (wayMtu(program, instance) ?? 0)) return null;
    this.#learnt.set(address, { mtu, untilMs: nowMs + HELD_MS, mac: instance.mac, underlay: instance.underlay ?? 0 });
    return `path MTU: a router says ${mtu}`;
  }

  #raise({ mac, underlay = 0 }: NativeInstance, address: string, nowMs: number): WayChange['cause'] | null {
    const learnt = this.#learnt.get(address);
    if (learnt === undefined) return null;
    const isElsewhere = mac !== null && (mac !== learnt.mac || underlay !== learnt.underlay);
    if (!isElsewhere && nowMs < learnt.untilMs) return null;
    this.#learnt.delete(address);
    return isElsewhere ? 'path MTU: it is reached by another way' : 'path MTU: longer packets are tried again';
  }

  #due(id: number, nowMs: number): boolean {
    const last = this.#told.get(id);
    if (last !== undefined && nowMs - last < TOLD_AGAIN_MS) return false;
    this.#told.set(id, nowMs);
    return true;
  }
}
