/**
 * By which underlay an instance is reached, which MAC its packets go to there and how long they may be on that way: the kernel's own routing and neighbour tables
 * answer, and a datagram to the discard port makes the kernel resolve what it does not know yet (no privilege, and routers and local
 * instances come for free).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Destination } from '../program/destinations.js';
import { native } from './native.js';

/** The kernel forgets neighbours it does not need and finds them again within a second: that is no loss yet. */
const SILENT_ROUNDS = 3;
/** No IPv4 link carries less (RFC 791). */
const LEAST_MTU = 68;
const MOST_MTU = 65_535;
const LOOPBACK_MAC = '00:00:00:00:00:00';

/** An underlay's interface as it is at the moment: one that is made anew has another index. */
export interface Link {
  readonly index: number;
  readonly name: string;
  readonly loopback: boolean;
}

interface Way {
  readonly mac: string | null;
  /** Number of the underlay. */
  readonly underlay: number;
  /** What the kernel says that the route carries, whatever the interface does; null: nothing. */
  readonly mtu: number | null;
}

export class Neighbours {
  readonly #found = new Map<string, Way & { readonly mac: string }>();
  /** Rounds in a row in which the kernel no longer had a neighbour that it once had. */
  readonly #unanswered = new Map<string, number>();
  /** As they were when they were last asked for: asking takes the kernel some 100 µs and more, and macOf() is asked for every instance there is. */
  #links: readonly (Link | null)[] | null = null;

  /** `linksNow`: of the underlays, in their order; null where one is not there. */
  constructor(private readonly linksNow: () => readonly (Link | null)[]) {}

  #look(): readonly (Link | null)[] {
    this.#links = this.linksNow();
    return this.#links;
  }

  /** Then everything is on this host, whatever the routes say. */
  get #onlyLoopback(): boolean {
    const links = this.#links ?? this.#look();
    return links.length === 1 && links[0]?.loopback === true;
  }

  macOf(address: string): string | null {
    return this.#onlyLoopback ? LOOPBACK_MAC : (this.#found.get(address)?.mac ?? null);
  }

  /** Number of the underlay that the address was last found on; null before. */
  underlayOf(address: string): number | null {
    return this.#found.get(address)?.underlay ?? null;
  }

  /** What the way to the address carries where the kernel says more of it than of the interface; null: it does not. */
  mtuOf(address: string): number | null {
    return this.#found.get(address)?.mtu ?? null;
  }

  /** The kernel does not find it any more, though its MAC is still used. */
  silent(address: string): boolean {
    return (this.#unanswered.get(address) ?? 0) >= SILENT_ROUNDS;
  }

  /** Looks all of them up; asks the kernel to resolve what is missing. True if anything changed. */
  refresh(destinations: readonly Destination[]): boolean {
    const links = this.#look();
    if (this.#onlyLoopback) return false;
    let changed = false;
    for (const destination of destinations) {
      const { address, underlay: wanted = null } = destination;
      // The configuration says another underlay than before: what is known of the old one is of no use there.
      if (wanted !== null && (this.#found.get(address)?.underlay ?? wanted) !== wanted) changed = this.#found.delete(address);
      const before = this.#found.get(address);
      const way = wayTo(links, destination);
      if (way?.mac != null) {
        this.#unanswered.delete(address);
        if (way.mac === before?.mac && way.underlay === before.underlay && way.mtu === before.mtu) continue;
        this.#found.set(address, { ...way, mac: way.mac });
        changed = true;
        continue;
      }
      // A known MAC is kept while the kernel resolves again: traffic to it may well still arrive.
      if (before !== undefined) this.#unanswered.set(address, (this.#unanswered.get(address) ?? 0) + 1);
      const link = way === null ? null : links[way.underlay];
      if (link != null) native.solicit(address, wanted === null ? null : link.name);
    }
    return changed;
  }

  /** Those that no way by any underlay leads to. */
  unreachable(destinations: readonly Destination[]): readonly string[] {
    const links = this.#look();
    if (this.#onlyLoopback) return [];
    return destinations.filter((destination) => wayTo(links, destination) === null).map(({ address }) => address);
  }

  /** Waits until all are known, `timeoutMs` at most. Returns those that are not. */
  async resolve(destinations: readonly Destination[], timeoutMs: number): Promise<string[]> {
    const missing = (): Destination[] => destinations.filter(({ address }) => this.macOf(address) === null);
    // All of them at first: one may be on another underlay than before.
    this.refresh(destinations);
    for (const end = Date.now() + timeoutMs; missing().length > 0 && Date.now() < end; ) {
      await sleep(50);
      this.refresh(missing());
    }
    return missing().map(({ address }) => address);
  }
}

/** Null: no underlay leads there. A route through another interface is no way for packets that leave by an underlay. */
function wayTo(links: readonly (Link | null)[], { address, underlay = null }: Destination): Way | null {
  const wanted = underlay === null ? undefined : (links[underlay] ?? null);
  if (wanted === null) return null;
  if (wanted?.loopback === true) return { mac: LOOPBACK_MAC, underlay: underlay ?? 0, mtu: null };
  const route = native.routeTo(address, wanted?.index);
  const at = route === null ? -1 : links.findIndex((link) => link?.index === route.interfaceIndex);
  if (route === null || at < 0) return null;
  const mtu = route.mtu === null ? null : Math.min(Math.max(route.mtu, LEAST_MTU), MOST_MTU);
  return { mac: links[at]?.loopback === true ? LOOPBACK_MAC : native.neighbour(route.interfaceIndex, route.nextHop), underlay: at, mtu };
}
