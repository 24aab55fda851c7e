/**
 * Where instances that know nothing of stamps are on this host: interfaces and their ports, routers and their MACs. Looked up
 * like neighbours, again and again, since all of it changes while weir runs.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { AttachConfig, Configuration } from '../config/configuration.js';
import { attachText } from '../config/diff.js';
import { Failure } from '../failure.js';
import { attachmentsOf, bump, ProxyPorts } from '../program/attachments.js';
import { firstProxyPort } from '../program/port-numbers.js';
import { requireForwardingOff, requireInterface } from './host.js';
import { native, type NativeAttachment, type NativeLeg, type NativeProxyPort } from './native.js';

const NO_MAC = '00:00:00:00:00:00';

export class Attachments {
  readonly #ports: ProxyPorts;
  readonly #found = new Map<string, NativeAttachment>();
  /** Last known MACs of routers: kept while the kernel asks again. */
  readonly #macs = new Map<string, string>();
  #facts: readonly NativeProxyPort[] = [];

  constructor(configuration: Pick<Configuration, 'captures' | 'underlays'>) {
    this.#ports = new ProxyPorts(firstProxyPort(configuration));
  }

  /** Interfaces in the order of their ports; null where a port is not used. */
  get interfaces(): readonly (string | null)[] {
    return this.#ports.names();
  }
  get proxyPorts(): readonly NativeProxyPort[] {
    return this.#facts;
  }

  attachmentOf(attach: AttachConfig): NativeAttachment {
    return this.#found.get(attachText(attach)) ?? this.#look(attach);
  }

  /** Throws a Failure where an attachment can't work: an interface or a route is missing, or the host would forward beside weir. */
  require(configuration: Configuration): void {
    const own = new Set([...configuration.underlays.map((underlay) => underlay.interface), ...configuration.captures.flatMap((capture) => [capture.in, capture.out])]);
    for (const { name, instances } of configuration.services) {
      for (const { name: instance, attach } of instances) {
        if (attach === null) continue;
        const role = `instance ${name}/${instance}`;
        if (attach.kind === 'bump') {
          requireInterface(attach.in, `${role} (in)`);
          requireInterface(attach.out, `${role} (out)`);
          continue;
        }
        for (const via of new Set([attach.in, attach.out])) {
          const route = native.routeTo(via);
          if (route === null || route.nextHop !== via) throw new Failure(`${role}: ${via} is no neighbour of this host (${route === null ? 'there is no route to it' : `the route to it goes by ${route.nextHop}`}); give the interface toward it an address of the same network.`);
          if (own.has(route.interface)) throw new Failure(`${role}: ${via} is reached through ${route.interface}, which is an underlay's or a capture's; a router that knows nothing of stamps needs an interface of its own.`);
          requireForwardingOff(route.interface, via, role);
        }
      }
    }
  }

  /** Gives up interfaces that only former instances had. `configuration`: with all that is ending. */
  release(configuration: Configuration): void {
    this.#ports.keep(new Set(attachmentsOf(configuration).flatMap((attach) => (attach.kind === 'bump' ? [attach.in, attach.out] : [attach.in, attach.out].flatMap((via) => native.routeTo(via)?.interface ?? [])))));
  }

  /** Looks everything up. True if anything changed. */
  refresh(configuration: Configuration): boolean {
    const before = JSON.stringify([[...this.#found], this.#facts]);
    this.#found.clear();
    for (const attach of attachmentsOf(configuration)) this.#found.set(attachText(attach), this.#look(attach));
    this.#facts = this.interfaces.map((name, i) => {
      const info = name === null ? null : native.interfaceInfo(name);
      return info === null ? (this.#facts[i] ?? { mac: NO_MAC, mtu: 1500 }) : { mac: info.mac, mtu: Math.min(info.mtu, 65_535) };
    });
    return JSON.stringify([[...this.#found], this.#facts]) !== before;
  }

  /** Waits until all are up, `timeoutMs` at most. Returns those that are not, in words. */
  async resolve(configuration: Configuration, timeoutMs: number): Promise<string[]> {
    for (const end = Date.now() + timeoutMs; ; ) {
      this.refresh(configuration);
      const missing = [...this.#found].filter(([, { up }]) => !up).map(([text]) => text);
      if (missing.length === 0 || Date.now() >= end) return missing;
      await sleep(50);
    }
  }

  #look(attach: AttachConfig): NativeAttachment {
    if (attach.kind === 'bump') return bump(attach, this.#ports, isUp(attach.in) && isUp(attach.out));
    const [workload, network] = [this.#leg(attach.in), this.#leg(attach.out)];
    return { kind: 'routed', up: workload.up && network.up, workload: workload.leg, network: network.leg };
  }

  #leg(via: string): { readonly leg: NativeLeg; readonly up: boolean } {
    const route = native.routeTo(via);
    const direct = route !== null && route.nextHop === via;
    const mac = direct ? native.neighbour(route.interfaceIndex, via) : null;
    if (mac !== null) this.#macs.set(via, mac);
    else if (direct) native.solicit(via, null);
    const known = this.#macs.get(via) ?? null;
    // Without a route there is no port to name.
    return { leg: { port: direct ? this.#ports.port(route.interface) : 0, vlan: 0, mac: known }, up: direct && known !== null && isUp(route.interface) };
  }
}

function isUp(name: string): boolean {
  const info = native.interfaceInfo(name);
  return info !== null && info.up && info.carrier;
}
