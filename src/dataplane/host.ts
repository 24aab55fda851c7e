/** What a dataplane needs of its host before it starts: privilege, interfaces, addresses. Each lack is a Failure. */
import { readFileSync } from 'node:fs';
import type { Configuration } from '../config/configuration.js';
import { isIpv4 } from '../config/address.js';
import { Failure } from '../failure.js';
import { native, type InterfaceInfo, type NativeProgram } from './native.js';

const CAP_NET_RAW = 13n;

export function requireNetRaw(): void {
  const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  if (((BigInt(`0x${effective}`) >> CAP_NET_RAW) & 1n) === 0n) {
    throw new Failure('CAP_NET_RAW is missing, and packet sockets need it: run as root, or give it to the service (systemd: AmbientCapabilities=CAP_NET_RAW).');
  }
}

export function requireInterface(name: string, role: string): InterfaceInfo {
  const info = native.interfaceInfo(name);
  if (info === null) throw new Failure(`${role}: there is no interface "${name}"; \`ip link\` lists those there are.`);
  if (!info.up) throw new Failure(`${role}: interface "${name}" is down; bring it up with \`ip link set ${name} up\`.`);
  return info;
}

export interface Host {
  readonly underlay: InterfaceInfo | null;
  readonly program: NativeProgram['underlay'];
  readonly captureMtus: readonly number[];
  /** By port number. */
  readonly interfaces: readonly (string | null)[];
}

/** The interfaces of a configuration as they are now. */
export function inspectHost(configuration: Configuration): Host {
  const interfaces: (string | null)[] = [configuration.underlay?.interface ?? null];
  const captureMtus = configuration.captures.map((capture) => {
    const inside = requireInterface(capture.in, `capture ${capture.name} (in)`);
    const outside = requireInterface(capture.out, `capture ${capture.name} (out)`);
    interfaces.push(capture.in, capture.out);
    return Math.min(inside.mtu, outside.mtu);
  });
  if (configuration.underlay === null) {
    return { underlay: null, program: { ipv4: null, ipv6: null, mac: '00:00:00:00:00:00', mtu: 1500 }, captureMtus, interfaces };
  }
  const { interface: name, address, mtu } = configuration.underlay;
  const underlay = requireInterface(name, 'underlay');
  const own = [...underlay.ipv4, ...underlay.ipv6];
  // On the loopback all of 127.0.0.0/8 is ours.
  if (address !== null && !own.includes(address) && !underlay.loopback) {
    throw new Failure(`underlay: ${address} is no address of interface "${name}"; it has ${own.join(', ') || 'none'}.`);
  }
  if (address === null && own.length === 0) throw new Failure(`underlay: interface "${name}" has no address to send from; add one with \`ip address add ADDRESS/LENGTH dev ${name}\`.`);
  const pick = (family: readonly string[], wanted: boolean): string | null => (address !== null && wanted ? address : (family[0] ?? null));
  return {
    underlay,
    program: {
      ipv4: pick(underlay.ipv4, address !== null && isIpv4(address)),
      ipv6: pick(underlay.ipv6, address !== null && !isIpv4(address)),
      mac: underlay.mac,
      mtu: Math.min(mtu ?? underlay.mtu, 65_535),
    },
    captureMtus,
    interfaces,
  };
}
