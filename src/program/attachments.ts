/** Ports of instances that know nothing of stamps: which number an interface has, and what native code is told of an attachment. */
import type { AttachConfig, Configuration } from '../config/configuration.js';
import type { NativeAttachment, NativeInstance, NativeLeg, NativeProxyPort } from '../dataplane/native.js';
import { firstProxyPort } from './port-numbers.js';

/** Numbers of interfaces, the same as long as they are used: ports behind all others. */
export class ProxyPorts {
  readonly #names: (string | null)[] = [];

  /** `first`: see port-numbers.ts. */
  constructor(private readonly first: number) {}

  /** The interface's port; for a new interface the lowest that is free. */
  port(name: string): number {
    let at = this.#names.indexOf(name);
    if (at < 0) at = this.#names.indexOf(null);
    if (at < 0) at = this.#names.length;
    this.#names[at] = name;
    return this.first + at;
  }

  /** Gives the numbers of all other interfaces back. */
  keep(names: ReadonlySet<string>): void {
    this.#names.forEach((name, i) => {
      if (name !== null && !names.has(name)) this.#names[i] = null;
    });
  }

  /** In the order of their numbers; null where one is free. */
  names(): readonly (string | null)[] {
    return this.#names;
  }
}

/** Whether packets can be sent to the instance: its neighbour is known, or both sides of it are there. */
export const reachable = ({ mac, attach }: Pick<NativeInstance, 'mac' | 'attach'>): boolean => (attach === null ? mac !== null : attach.up);

export const attachmentsOf = ({ services }: Pick<Configuration, 'services'>): AttachConfig[] => services.flatMap((service) => service.instances.flatMap(({ attach }) => (attach === null ? [] : [attach])));

/** The sides of a bump. `up`: whether both interfaces are. */
export function bump(attach: AttachConfig & { readonly kind: 'bump' }, ports: ProxyPorts, up: boolean): NativeAttachment {
  return {
    kind: 'bump',
    up,
    workload: { port: ports.port(attach.in), vlan: attach.vlan.in, mac: null },
    network: { port: ports.port(attach.out), vlan: attach.vlan.out, mac: null },
  };
}

/** For replay and simulation: every bump is up, every router a neighbour on an interface of its own, with MACs that are the same everywhere. */
export function imaginedAttachments(configuration: Configuration): { readonly proxyPorts: readonly NativeProxyPort[]; readonly attachmentOf: (attach: AttachConfig) => NativeAttachment } {
  const ports = new ProxyPorts(firstProxyPort(configuration));
  const leg = (address: string): NativeLeg => {
    const port = ports.port(`via ${address}`);
    return { port, vlan: 0, mac: `02:00:00:03:${hex(port >> 8)}:${hex(port & 255)}` };
  };
  const attachmentOf = (attach: AttachConfig): NativeAttachment =>
    attach.kind === 'bump' ? bump(attach, ports, true) : { kind: 'routed', up: true, workload: leg(attach.in), network: leg(attach.out) };
  for (const attach of attachmentsOf(configuration)) attachmentOf(attach);
  return { proxyPorts: ports.names().map((_, i) => ({ mac: `02:00:00:02:${hex(i >> 8)}:${hex(i & 255)}`, mtu: 1500 })), attachmentOf };
}

const hex = (byte: number): string => (byte & 255).toString(16).padStart(2, '0');
