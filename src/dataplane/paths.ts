/**
 * Versions of chains. An edit never changes a path: it makes a new one for new streams; the old one stays until no stream is
 * on it and packets in flight have had time to end.
 */
import type { ChainConfig } from '../config/configuration.js';
import type { PathState } from '../program/compile.js';

/** How long a path without streams stays known, for packets that are still at an instance. */
const GRACE_MS = 2000;
const MOST_PATHS = 1 << 20;

interface Version extends PathState {
  readonly number: number;
  emptySince: number | null;
}

export interface PathView extends PathState {
  /** 1 for a chain's first path, and so on. */
  readonly version: number;
  readonly current: boolean;
}

export class Paths {
  readonly #versions = new Map<number, Version>();
  readonly #current = new Map<string, Version>();
  #next = 1;

  /** Makes a new path current for its chain. `move`: streams of all older paths of the chain come along. */
  add(chain: ChainConfig, existing: 'keep' | 'move'): PathState {
    const id = this.#freeId();
    const version: Version = {
      id,
      chain: chain.name,
      encapsulation: chain.encapsulation,
      answers: chain.answers,
      services: [...chain.services],
      movedTo: 0,
      number: Math.max(0, ...this.#versionsOf(chain.name).map((old) => old.number)) + 1,
      emptySince: null,
    };
    if (existing === 'move') {
      for (const old of this.#versionsOf(chain.name)) this.#versions.set(old.id, { ...old, movedTo: id });
    }
    this.#versions.set(id, version);
    this.#current.set(chain.name, version);
    return version;
  }

  #versionsOf(chain: string): Version[] {
    return [...this.#versions.values()].filter((version) => version.chain === chain);
  }

  /** The chain is no longer there: its paths stay until the last stream on them has ended. */
  retire(chain: string): void {
    this.#current.delete(chain);
  }

  /** Of each chain that is no longer there, the path that stands for it: one that was not moved away from. */
  endingChains(): PathState[] {
    const last = new Map<string, Version>();
    for (const version of this.#versions.values()) if (!this.#current.has(version.chain) && version.movedTo === 0) last.set(version.chain, version);
    return [...last.values()];
  }

  // Ids go up before they come round, so that a late packet of a freed path meets no new one.
  #freeId(): number {
    for (let tries = 0; tries < MOST_PATHS; tries++) {
      const id = this.#next;
      this.#next = this.#next + 1 < MOST_PATHS ? this.#next + 1 : 1;
      if (!this.#versions.has(id)) return id;
    }
    throw new Error('all path ids are in use');
  }

  snapshot(): { readonly versions: ReadonlyMap<number, Version>; readonly current: ReadonlyMap<string, Version> } {
    return { versions: new Map(this.#versions), current: new Map(this.#current) };
  }

  restore(saved: ReturnType<Paths['snapshot']>): void {
    this.#versions.clear();
    this.#current.clear();
    saved.versions.forEach((version, id) => this.#versions.set(id, version));
    saved.current.forEach((version, chain) => this.#current.set(chain, version));
  }

  currentId(chain: string): number {
    return this.#current.get(chain)?.id ?? this.endingChains().find((path) => path.chain === chain)?.id ?? 0;
  }

  get(id: number): PathView | undefined {
    const version = this.#versions.get(id);
    return version === undefined ? undefined : this.#view(version);
  }

  all(): PathView[] {
    return [...this.#versions.values()].map((version) => this.#view(version));
  }

  #view(version: Version): PathView {
    return { ...version, version: version.number, current: this.#current.get(version.chain)?.id === version.id };
  }

  /** Forgets old paths that have been empty for the grace time. Returns their ids. */
  sweep(streamsOn: (id: number) => number, nowMs: number): number[] {
    const freed: number[] = [];
    for (const version of this.#versions.values()) {
      if (this.#current.get(version.chain)?.id === version.id) continue;
      if (streamsOn(version.id) > 0) version.emptySince = null;
      else version.emptySince ??= nowMs;
      if (version.emptySince !== null && nowMs - version.emptySince >= GRACE_MS) freed.push(version.id);
    }
    // Paths that still point at a freed one would lead nowhere.
    const gone = new Set(freed);
    for (const version of this.#versions.values()) if (!gone.has(version.id) && gone.has(version.movedTo)) gone.delete(version.movedTo);
    for (const id of gone) this.#versions.delete(id);
    return [...gone];
  }
}
