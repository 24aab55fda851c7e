/**
 * Tells what changes by itself: tables and rings that overflow, interfaces and neighbours that come and go. Each round compares
 * with the one before; what goes on for long is told once a minute, so that it drowns nothing else.
 */
import type { Configuration } from '../config/configuration.js';
import type { EventFacts, Events } from '../observe/events.js';
import type { Logger } from '../observe/log.js';
import { instanceKey } from '../program/compile.js';
import type { Host } from './host.js';
import type { InstanceState, InterfaceInfo, NativeCounters } from './native.js';

const AGAIN_AFTER_MS = 60_000;

export interface NeighbourFacts {
  macOf(address: string): string | null;
  /** The kernel does not find the neighbour any more, though its MAC is still used. */
  silent?(address: string): boolean;
}

interface Told {
  readonly total: number;
  readonly atMs: number;
}

interface Neighbour {
  readonly mac: string | null;
  readonly silent: boolean;
}

export class Watch {
  readonly #told = new Map<string, Told>();
  readonly #cutting = new Set<string>();
  readonly #links = new Map<string, boolean>();
  readonly #neighbours = new Map<string, Neighbour>();

  constructor(
    private readonly events: Events,
    private readonly log: Logger,
    private readonly linkOf: (name: string) => Pick<InterfaceInfo, 'up' | 'carrier'> | null,
  ) {}

  #tell(level: 'info' | 'warn', facts: EventFacts, text: string): void {
    this.log[level]({ event: this.events.emit(facts).sequence }, text);
  }

  /** How much a counter grew since it was told last; 0 while that is less than a minute ago, or where it did not grow. */
  #grown(what: string, total: number, nowMs: number): number {
    const told = this.#told.get(what);
    const grown = total - (told?.total ?? 0);
    if (grown <= 0 || (told !== undefined && nowMs - told.atMs < AGAIN_AFTER_MS)) return 0;
    this.#told.set(what, { total, atMs: nowMs });
    return grown;
  }

  counters({ streams, ports }: Pick<NativeCounters, 'streams' | 'ports'>, nowMs: number): void {
    const evicted = this.#grown('streams', streams.evicted, nowMs);
    if (evicted > 0) {
      const facts = { kind: 'overflow', cause: 'flow table full', evicted, total: streams.evicted, capacity: streams.capacity } as const;
      this.#tell('warn', facts, `the flow table is full: ${evicted} live streams were given up for new ones; raise flows.max (now ${streams.capacity})`);
    }
    for (const port of ports) {
      const dropped = this.#grown(`ring ${port.port}`, port.rxDropped, nowMs);
      if (dropped > 0) {
        const facts = { kind: 'ring', cause: 'ring full', interface: port.interface, dropped, total: port.rxDropped } as const;
        this.#tell('warn', facts, `interface ${port.interface}: ${dropped} frames were lost because the ring was full; more workers may help`);
      }
      if (port.cuts && !this.#cutting.has(port.interface)) {
        this.#cutting.add(port.interface);
        const facts = { kind: 'offload', cause: 'no segmentation offload', interface: port.interface } as const;
        this.#tell('warn', facts, `interface ${port.interface} takes no super-frames (segmentation offload): they are cut before they reach it, which costs speed`);
      }
    }
  }

  /** All captures at once: the dataplane began, or ended with a reason. */
  captures({ captures }: Pick<Configuration, 'captures'>, state: 'up' | 'down', cause: string): void {
    for (const { name } of captures) this.events.emit({ kind: 'capture', cause, capture: name, interface: null, state });
  }

  links({ captures }: Pick<Configuration, 'captures'>, { interfaces }: Pick<Host, 'interfaces'>): void {
    interfaces.forEach((name, port) => {
      if (name === null) return;
      const info = this.linkOf(name);
      const up = info !== null && info.up && info.carrier;
      const before = this.#links.get(name);
      this.#links.set(name, up);
      // Those that are up at the start are no news.
      if (before === up || (before === undefined && up)) return;
      const cause = info === null ? 'the interface is gone' : !info.up ? 'the interface is down' : info.carrier ? 'carrier found' : 'no carrier';
      const capture = port === 0 ? null : (captures[(port - 1) >> 1]?.name ?? null);
      const text = `${capture === null ? 'underlay' : `capture ${capture}`}: interface ${name} is ${up ? 'up' : 'down'} (${cause})`;
      this.#tell(up ? 'info' : 'warn', { kind: 'capture', cause, capture, interface: name, state: up ? 'up' : 'down' }, text);
    });
  }

  neighbours({ services }: Pick<Configuration, 'services'>, facts: NeighbourFacts, stateOf: (key: string) => InstanceState): void {
    const known = new Set<string>();
    for (const service of services) {
      for (const { name, address } of service.instances) {
        const instance = instanceKey(service.name, name);
        known.add(instance);
        const now: Neighbour = { mac: facts.macOf(address), silent: facts.silent?.(address) ?? false };
        const before = this.#neighbours.get(instance);
        this.#neighbours.set(instance, now);
        const cause = before === undefined ? null : newsOf(before, now);
        if (cause === null) continue;
        this.#tell(cause === 'neighbour lost' ? 'warn' : 'info', { kind: 'instance', cause, instance, state: stateOf(instance) }, `instance ${instance} (${address}): ${cause}`);
      }
    }
    for (const instance of this.#neighbours.keys()) if (!known.has(instance)) this.#neighbours.delete(instance);
  }
}

function newsOf(before: Neighbour, now: Neighbour): 'neighbour found' | 'neighbour moved' | 'neighbour lost' | null {
  const had = before.mac !== null && !before.silent;
  const has = now.mac !== null && !now.silent;
  if (had !== has) return has ? 'neighbour found' : 'neighbour lost';
  return has && before.mac !== now.mac ? 'neighbour moved' : null;
}
