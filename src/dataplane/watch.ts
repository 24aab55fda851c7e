/**
 * Tells what changes by itself: tables and rings that overflow, interfaces and neighbours that come and go. Each round compares
 * with the one before; what goes on for long is told once a minute, so that it drowns nothing else.
 */
import type { Configuration } from '../config/configuration.js';
import type { EventFacts, Events } from '../observe/events.js';
import type { Logger } from '../observe/log.js';
import { instanceKey } from '../program/compile.js';
import { roleOf } from '../program/port-numbers.js';
import type { Host } from './host.js';
import type { InstanceState, InterfaceInfo, NativeCounters } from './native.js';

const AGAIN_AFTER_MS = 60_000;

/** Why packets of attached instances are dropped, and what to do. */
const STRAY: Readonly<Record<string, string>> = {
  proxy_no_stream: 'they are of no stream that is with the instance, as if it opened connections of its own; let it open those through another interface',
  proxy_wrong_side: 'they came out of the side that their stream goes in by: the two sides are mixed up, or joined elsewhere',
  proxy_ambiguous: 'streams of two captures or VLANs have the same addresses and ports; give each a service and a VLAN of its own',
  proxy_unknown: 'no instance is attached to their port or VLAN',
  proxy_overflow: 'streams of too many VLANs go to routers; use instances with "in" and "out" instead',
};

export interface NeighbourFacts {
  macOf(address: string): string | null;
  /** Number of the underlay that it was found on. */
  underlayOf?(address: string): number | null;
  /** What the way to it carries; null: the kernel says nothing of it beyond its interface. */
  mtuOf?(address: string): number | null;
  /** The kernel does not find the neighbour any more, though its MAC is still used. */
  silent?(address: string): boolean;
}

interface Told {
  readonly total: number;
  readonly atMs: number;
}

interface Neighbour {
  readonly mac: string | null;
  readonly underlay: number | null;
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

  /** What attached instances send that is nobody's: each kind told when it begins, and once a minute while it goes on. */
  attached({ dropped }: Pick<NativeCounters, 'dropped'>, nowMs: number): void {
    for (const [reason, text] of Object.entries(STRAY)) {
      const grown = this.#grown(reason, dropped[reason] ?? 0, nowMs);
      if (grown > 0) this.log.warn({ reason, packets: grown }, `${grown} packets from attached instances were dropped (${reason}): ${text}`);
    }
  }

  /** All captures at once: the dataplane began, or ended with a reason. */
  captures({ captures }: Pick<Configuration, 'captures'>, state: 'up' | 'down', cause: string): void {
    for (const { name } of captures) this.events.emit({ kind: 'capture', cause, capture: name, interface: null, state });
  }

  links({ captures, underlays }: Pick<Configuration, 'captures' | 'underlays'>, { interfaces }: Pick<Host, 'interfaces'>): void {
    interfaces.forEach((name, port) => {
      if (name === null) return;
      const info = this.linkOf(name);
      const up = info !== null && info.up && info.carrier;
      const before = this.#links.get(name);
      this.#links.set(name, up);
      // Those that are up at the start are no news.
      if (before === up || (before === undefined && up)) return;
      const cause = info === null ? 'the interface is gone' : !info.up ? 'the interface is down' : info.carrier ? 'carrier found' : 'no carrier';
      const role = roleOf(port, { captures, underlays });
      const capture = 'capture' in role ? (captures[role.capture]?.name ?? null) : null;
      const of = role.kind === 'underlay' ? ['underlay', underlays[role.underlay]?.name ?? []].flat().join(' ') : capture === null ? 'attached instances' : `capture ${capture}`;
      const text = `${of}: interface ${name} is ${up ? 'up' : 'down'} (${cause})`;
      this.#tell(up ? 'info' : 'warn', { kind: 'capture', cause, capture, interface: name, state: up ? 'up' : 'down' }, text);
    });
  }

  neighbours({ services }: Pick<Configuration, 'services'>, facts: NeighbourFacts, stateOf: (key: string) => InstanceState): void {
    const known = new Set<string>();
    for (const service of services) {
      for (const { name, address, attach } of service.instances) {
        if (address === null || attach !== null) continue;
        const instance = instanceKey(service.name, name);
        known.add(instance);
        const now: Neighbour = { mac: facts.macOf(address), underlay: facts.underlayOf?.(address) ?? null, silent: facts.silent?.(address) ?? false };
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
  return has && (before.mac !== now.mac || before.underlay !== now.underlay) ? 'neighbour moved' : null;
}
