/** What a dataplane needs of its host before it starts: privilege, interfaces, addresses. Each lack is a Failure. */
import { readFileSync } from 'node:fs';
import type { Configuration, UnderlayConfig } from '../config/configuration.js';
import { isIpv4 } from '../config/address.js';
import { underlayTitle } from '../config/underlays.js';
import { Failure } from '../failure.js';
import { effectiveCapabilities } from './capabilities.js';
import { underlayPort } from '../program/port-numbers.js';
import { native, type InterfaceInfo, type NativeUnderlay } from './native.js';

export function requireNetRaw(): void {
  if (!effectiveCapabilities().includes('net_raw')) {
    throw new Failure('CAP_NET_RAW is missing, and packet sockets need it: run as root, or give it to the service (systemd: AmbientCapabilities=CAP_NET_RAW).');
  }
}

export function requireInterface(name: string, role: string): InterfaceInfo {
  const info = native.interfaceInfo(name);
  if (info === null) throw new Failure(`${role}: there is no interface "${name}"; \`ip link\` lists those there are.`);
  if (!info.up) throw new Failure(`${role}: interface "${name}" is down; bring it up with \`ip link set ${name} up\`.`);
  return info;
}

/**
 * What a router sends back has this host's MAC and somebody else's address: a host that forwards would send it on, beside weir.
 * Throws a Failure that says how to turn that off for the interface.
 */
export function requireForwardingOff(name: string, via: string, role: string): void {
  const family = isIpv4(via) ? 'ipv4' : 'ipv6';
  let value = '0';
  try {
    value = readFileSync(`/proc/sys/net/${family}/conf/${name}/forwarding`, 'utf8').trim();
  } catch {
    return; // the family is not there at all
  }
  if (value !== '0') throw new Failure(`${role}: this host forwards what comes in by "${name}", so what ${via} sends back would go on beside weir too; \`sysctl -w net.${family}.conf.${name}.forwarding=0\`.`);
}

export interface Host {
  /** As a program has them: one that nothing is reached by where the configuration has none. */
  readonly underlays: readonly NativeUnderlay[];
  readonly captureMtus: readonly number[];
  /** By port number (src/program/port-numbers.ts), without those of attached instances. */
  readonly interfaces: readonly (string | null)[];
  /** Looks again. True if anything changed that a program says; what is missing at the moment stays as it was. */
  refresh?(): boolean;
}

/** Of all underlays. */
export const ownAddresses = ({ underlays }: Pick<Host, 'underlays'>): string[] => underlays.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]).filter((address) => address !== null);

/** Without link-local ones: they mean nothing beyond their link, and sockets take them only together with an interface. */
const globals = (ipv6: readonly string[]): string[] => ipv6.filter((address) => !address.startsWith('fe80:'));

/** The interfaces of a configuration as they are, now and later. Throws a Failure where one is missing or has no address. */
export function inspectHost(configuration: Configuration): LiveHost {
  for (const capture of configuration.captures) {
    requireInterface(capture.in, `capture ${capture.name} (in)`);
    requireInterface(capture.out, `capture ${capture.name} (out)`);
  }
  for (const underlay of configuration.underlays) requireUnderlay(underlay);
  const host = new LiveHost(configuration);
  host.refresh();
  return host;
}

function requireUnderlay(underlay: UnderlayConfig): void {
  const { interface: name, address } = underlay;
  const role = underlay.name === null ? 'underlay' : underlayTitle(underlay);
  const info = requireInterface(name, role);
  const own = [...info.ipv4, ...globals(info.ipv6)];
  // On the loopback all of 127.0.0.0/8 is ours.
  if (address !== null && !own.includes(address) && !info.loopback) {
    throw new Failure(`${role}: ${address} is no address of interface "${name}"; it has ${own.join(', ') || 'none'}.`);
  }
  if (address === null && own.length === 0) throw new Failure(`${role}: interface "${name}" has no address to send from; add one with \`ip address add ADDRESS/LENGTH dev ${name}\`.`);
}

export class LiveHost implements Host {
  /** The interfaces of underlays, as last seen; null: not seen yet. */
  links: readonly (InterfaceInfo | null)[];
  underlays: readonly NativeUnderlay[];
  captureMtus: readonly number[];
  readonly interfaces: readonly (string | null)[];

  /** Called when refresh() has found something new. */
  changed: () => void = () => undefined;

  constructor(private readonly configuration: Configuration) {
    const { captures, underlays } = configuration;
    const interfaces: (string | null)[] = [null, ...captures.flatMap((capture) => [capture.in, capture.out])];
    underlays.forEach((underlay, i) => (interfaces[underlayPort(i, configuration)] = underlay.interface));
    this.interfaces = interfaces;
    this.captureMtus = captures.map(() => 1500);
    this.links = underlays.map(() => null);
    this.underlays = Array.from({ length: Math.max(1, underlays.length) }, () => ({ ipv4: null, ipv6: null, mac: '00:00:00:00:00:00', mtu: 1500 }));
  }

  refresh(): boolean {
    const state = (): string => JSON.stringify([this.links.map((link) => link?.index), this.underlays, this.captureMtus]);
    const before = state();
    const { captures, underlays } = this.configuration;
    this.captureMtus = captures.map((capture, i) => {
      const mtus = [capture.in, capture.out].flatMap((name) => native.interfaceInfo(name)?.mtu ?? []);
      return mtus.length === 2 ? Math.min(...mtus) : (this.captureMtus[i] ?? 1500);
    });
    const found = underlays.map((underlay) => native.interfaceInfo(underlay.interface));
    this.links = found.map((info, i) => info ?? this.links[i] ?? null);
    this.underlays = this.underlays.map((was, i) => {
      const [underlay, info] = [underlays[i], found[i]];
      return underlay === undefined || info == null ? was : underlayNow(underlay, info, was);
    });
    if (state() === before) return false;
    this.changed();
    return true;
  }
}

function underlayNow({ address, mtu, fragment }: UnderlayConfig, info: InterfaceInfo, was: NativeUnderlay): NativeUnderlay {
  const pick = (family: readonly string[], wanted: boolean): string | null => (address !== null && wanted ? address : (family[0] ?? null));
  const [ipv4, ipv6] = [pick(info.ipv4, address !== null && isIpv4(address)), pick(globals(info.ipv6), address !== null && !isIpv4(address))];
  // An interface without any address is about to get one: until then nothing that is sent could come back.
  const own = ipv4 === null && ipv6 === null ? { ipv4: was.ipv4, ipv6: was.ipv6 } : { ipv4, ipv6 };
  return { ...own, mac: info.mac, mtu: Math.min(mtu ?? info.mtu, 65_535), fragment };
}
