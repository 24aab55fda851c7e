/**
 * Versions of chains. An edit never changes a path: it makes a new one for new streams; the old one stays until no stream is
 * on it and packets in flight have had time to end.
 */
import type { ChainConfig } from '../config/configuration.js';
import { chainChanged } from '../config/diff.js';
import type { PathMember, PathState } from '../program/compile.js';

/** How long a path without streams stays known, for packets that are still at an instance. */
const GRACE_MS = 2000;
const MOST_PATHS = 1 << 20;

interface Version extends PathState {
  readonly number: number;
  emptySince: number | null;
}

/** Paths as another process had them. */
export interface SavedPaths {
  readonly next: number;
  readonly versions: readonly (PathState & { readonly number: number })[];
  /** By chain: the id of the path for new streams. */
  readonly current: Readonly<Record<string, number>>;
}

export interface PathView extends PathState {
  /** 1 for a chain's first path, and so on. */
  readonly version: number;
  readonly current: boolean;
}

/** What travels with the opener exits directly, so only streams that the workload opened may: others may be on any path that was made without. */
export const mayMove = (from: Pick<PathState, 'exit'>, to: Pick<PathState, 'exit'>): boolean => from.exit === 'direct' || to.exit !== 'direct';

export class Paths {
  readonly #versions = new Map<number, Version>();
  readonly #current = new Map<string, Version>();
  #next = 1;

  /** Makes a new path current for its chain. `move`: streams of all older paths of the chain come along. */
  add(chain: ChainConfig, existing: 'keep' | 'move', members: PathState['members'] = null): PathState {
    const id = this.#freeId();
    const version: Version = {
      id,
      chain: chain.name,
      encapsulation: chain.encapsulation,
      answers: chain.answers,
      deliver: chain.deliver,
      return: chain.return,
      exit: chain.exit,
      services: [...chain.services],
      movedTo: 0,
      members,
      number: Math.max(0, ...this.#versionsOf(chain.name).map((old) => old.number)) + 1,
      emptySince: null,
    };
    if (existing === 'move') {
      for (const old of this.#versionsOf(chain.name)) if (mayMove(old, version)) this.#versions.set(old.id, { ...old, movedTo: id });
    }
    this.#versions.set(id, version);
    this.#current.set(chain.name, version);
    return version;
  }

  toSave(): SavedPaths {
    const versions = [...this.#versions.values()].map(({ emptySince: _, ...version }) => version);
    return { next: this.#next, versions, current: Object.fromEntries([...this.#current].map(([chain, { id }]) => [chain, id])) };
  }

  /** Goes on with the paths of another process, as far as their services are known; chains that have changed since get new ones. */
  resume(saved: SavedPaths, chains: readonly ChainConfig[], known: (service: string) => boolean): void {
    for (const version of saved.versions) {
      const possible = Number.isInteger(version.id) && version.id > 0 && version.id < MOST_PATHS;
      if (possible && version.services.every(known)) this.#versions.set(version.id, { ...version, emptySince: null });
    }
    // Where the path that streams should go over to is gone, they end where they are.
    for (const version of this.#versions.values()) if (version.movedTo !== 0 && !this.#versions.has(version.movedTo)) this.#versions.set(version.id, { ...version, movedTo: 0 });
    this.#next = Math.min(Math.max(1, saved.next), MOST_PATHS - 1);
    for (const chain of chains) {
      const was = this.#versions.get(saved.current[chain.name] ?? 0);
      if (was !== undefined && was.chain === chain.name && was.movedTo === 0 && !chainChanged(was, chain)) this.#current.set(chain.name, was);
      else this.add(chain, 'keep');
    }
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

  /** A path's members are now these: fewer than before, with others after them, or those that a new path begins with. */
  setMembers(id: number, members: readonly (readonly PathMember[])[], former?: PathState['former']): void {
    this.#replace(id, former === undefined ? { members } : { members, former });
  }

  /** The path's live streams go over to a new one, which is as the path `like` of the same chain but for its members, and for its exit where they may not take that. */
  succeed(id: number, like: number, members: readonly (readonly PathMember[])[]): void {
    const model = this.#versions.get(like);
    const from = this.#versions.get(id);
    if (model === undefined || from === undefined) return;
    const next: Version = { ...model, id: this.#freeId(), exit: mayMove(from, model) ? (model.exit ?? 'weir') : 'weir', members, former: from.former ?? [], movedTo: 0, number: Math.max(...this.#versionsOf(model.chain).map((old) => old.number)) + 1, emptySince: null };
    this.#versions.set(next.id, next);
    this.move(id, next.id);
  }

  /** The path's live streams go over to another one, and with them those that were to come to it. */
  move(id: number, to: number): void {
    for (const version of [...this.#versions.values()]) if (version.id === id || version.movedTo === id) this.#replace(version.id, { movedTo: to });
  }

  // Snapshots hold the old object.
  #replace(id: number, change: Partial<PathState>): void {
    const was = this.#versions.get(id);
    if (was === undefined) return;
    const is = { ...was, ...change };
    this.#versions.set(id, is);
    if (this.#current.get(was.chain) === was) this.#current.set(was.chain, is);
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
    const freed = new Set<number>();
    for (const version of this.#versions.values()) {
      if (this.#current.get(version.chain)?.id === version.id) continue;
      if (streamsOn(version.id) > 0) version.emptySince = null;
      else version.emptySince ??= nowMs;
      if (version.emptySince !== null && nowMs - version.emptySince >= GRACE_MS) freed.add(version.id);
    }
    // Where the streams of a path that stays are to go, and on from there, stays as well.
    const needed = new Set<number>();
    for (const { id, movedTo } of this.#versions.values()) {
      if (freed.has(id)) continue;
      for (let to = movedTo; to !== 0 && !needed.has(to); to = this.#versions.get(to)?.movedTo ?? 0) needed.add(to);
    }
    for (const id of needed) freed.delete(id);
    for (const id of freed) this.#versions.delete(id);
    return [...freed];
  }
}
