/** The interfaces of a configuration: there, up, nobody else's, and with their offloads on. */
import type { CaptureConfig, Configuration, UnderlayConfig } from '../config/configuration.js';
import { underlayTitle } from '../config/underlays.js';
import { native, type InterfaceInfo } from '../dataplane/native.js';
import { fail, masterOf, ok, sysctl, sysfsShows, uppersOf, warn, type Finding } from './finding.js';

/** What a stamp adds to an IP packet, in bytes: outer IP, UDP, stamp and, for NSH, the inner Ethernet header. */
const OVERHEAD = { nsh: { ipv4: 20 + 8 + 24 + 14, ipv6: 40 + 8 + 24 + 14 }, geneve: { ipv4: 20 + 8 + 40, ipv6: 40 + 8 + 40 } } as const;

export function interfaces(configuration: Configuration): Finding[] {
  const findings: Finding[] = [];
  const seen = new Map<string, InterfaceInfo>();
  const look = (name: string, role: string): void => {
    const info = native.interfaceInfo(name);
    if (info !== null) seen.set(name, info);
    findings.push(...standing(name, role, info));
  };
  for (const config of configuration.underlays) {
    look(config.interface, config.name === null ? 'underlay' : underlayTitle(config));
    findings.push(...underlay(config, configuration, seen.get(config.interface)));
  }
  for (const capture of configuration.captures) {
    look(capture.in, `capture ${capture.name}, in`);
    look(capture.out, `capture ${capture.name}, out`);
    findings.push(...joined(capture, seen));
    for (const name of [capture.in, capture.out]) {
      const info = seen.get(name);
      if (info !== undefined) findings.push(...ownStack(name, info));
    }
  }
  if (findings.length === 0) findings.push(ok('interfaces', `${[...seen.keys()].join(', ')}: up, with their offloads, and nothing else joins the sides of a capture`));
  return findings;
}

function standing(name: string, role: string, info: InterfaceInfo | null): Finding[] {
  const subject = `interface ${name}`;
  if (info === null) return [fail(subject, `there is no such interface (${role})`, `ip link # lists those there are`)];
  if (!info.up) return [fail(subject, `it is down (${role})`, `sudo ip link set ${name} up`)];
  const findings: Finding[] = [];
  if (!info.carrier) findings.push(warn(subject, `it has no carrier (${role}): the cable, or the other end, is missing`, `ip -d link show ${name}`));
  if (info.loopback) return findings;
  const offloads = native.interfaceOffloads(name);
  if (offloads === null) return findings;
  if (offloads.lro) findings.push(warn(subject, 'large receive offload (LRO) merges packets in a way that nobody can undo', `sudo ethtool -K ${name} lro off`));
  const off = (['txChecksum', 'tso', 'gso'] as const).filter((offload) => !offloads[offload]);
  if (off.length > 0) {
    const words = { txChecksum: 'tx', tso: 'tso', gso: 'gso' } as const;
    findings.push(warn(subject, `segmentation is off (${off.map((offload) => words[offload]).join(', ')}): super-frames are cut before they reach it, which costs speed`, `sudo ethtool -K ${name} ${off.map((offload) => `${words[offload]} on`).join(' ')}`));
  }
  return findings;
}

function underlay(config: UnderlayConfig, { captures, chains, services }: Configuration, info: InterfaceInfo | undefined): Finding[] {
  if (info === undefined) return [];
  const key = (what: string): string => (config.name === null ? `underlay.${what}` : `${what} of ${underlayTitle(config)}`);
  const subject = `interface ${info.name}`;
  const own = [...info.ipv4, ...info.ipv6];
  if (config.address !== null && !own.includes(config.address) && !info.loopback) return [fail(subject, `it does not have the address ${config.address} (${key('address')})`, `sudo ip address add ${config.address}/${config.address.includes(':') ? 64 : 24} dev ${info.name}`)];
  if (own.length === 0) return [fail(subject, `it has no address to send from (${config.name === null ? 'underlay' : underlayTitle(config)})`, `sudo ip address add ADDRESS/LENGTH dev ${info.name}`)];
  const mtu = Math.min(config.mtu ?? info.mtu, info.mtu);
  const family = services.some((service) => service.instances.some(({ address }) => address?.includes(':') ?? false)) ? 'ipv6' : 'ipv4';
  const overhead = Math.max(0, ...chains.filter((chain) => chain.services.length > 0).map((chain) => OVERHEAD[chain.encapsulation][family]));
  const wanted = Math.max(0, ...captures.flatMap((capture) => [native.interfaceInfo(capture.in)?.mtu ?? 0, native.interfaceInfo(capture.out)?.mtu ?? 0])) + overhead;
  const findings: Finding[] = [];
  if (config.mtu !== null && config.mtu > info.mtu) findings.push(fail(subject, `${key('mtu')} is ${config.mtu}, and the interface has ${info.mtu}: longer frames are lost`, `sudo ip link set ${info.name} mtu ${config.mtu}`));
  if (overhead > 0 && mtu < wanted) {
    findings.push(warn(subject, `its MTU of ${mtu} does not carry full packets of the captures behind a stamp (${wanted}): TCP is cut to fit, ${config.fragment ? 'other packets go in fragments' : 'other senders are told by ICMP'}`, `sudo ip link set ${info.name} mtu ${wanted} # there, on the instances, and on all between`));
  }
  return findings;
}

/** Ways around the bump. */
function joined(capture: CaptureConfig, seen: ReadonlyMap<string, InterfaceInfo>): Finding[] {
  const findings: Finding[] = [];
  const sides = [capture.in, capture.out].flatMap((name) => seen.get(name) ?? []);
  const masters = sides.map(({ name, index }) => (sysfsShows(name, index) ? masterOf(name) : null));
  const subject = `capture ${capture.name}`;
  const [first, second] = masters;
  if (first != null && first === second) {
    findings.push(fail(subject, `${capture.in} and ${capture.out} are both in ${first}: packets pass there, around weir`, `sudo ip link set ${capture.in} nomaster; sudo ip link set ${capture.out} nomaster`));
  } else {
    sides.forEach(({ name }, i) => {
      const master = masters[i];
      if (master != null) findings.push(warn(`interface ${name}`, `it is in ${master}, which hands on what weir captures, too`, `sudo ip link set ${name} nomaster`));
    });
  }
  for (const { name, index } of sides) {
    const uppers = sysfsShows(name, index) ? uppersOf(name).filter((upper) => !masters.includes(upper)) : [];
    if (uppers.length > 0) findings.push(warn(`interface ${name}`, `${uppers.join(', ')} on it take${uppers.length === 1 ? 's' : ''} part of its traffic, too`, uppers.map((upper) => `sudo ip link delete ${upper}`).join('; ')));
  }
  const routed = (family: 'ipv4' | 'ipv6'): boolean =>
    sides.length === 2 && sides.every((side) => side[family].some((address) => !address.startsWith('fe80:')) && sysctl(`net/${family}/conf/${side.name}/forwarding`) === '1');
  for (const family of ['ipv4', 'ipv6'] as const) {
    if (routed(family)) findings.push(fail(subject, `${capture.in} and ${capture.out} have ${family === 'ipv4' ? 'IPv4' : 'IPv6'} addresses and forwarding is on: the kernel routes between them, around weir`, `sudo sysctl -w net.${family}.conf.${capture.in}.forwarding=0 net.${family}.conf.${capture.out}.forwarding=0`));
  }
  for (const { name } of sides) {
    if (sysctl(`net/ipv4/conf/${name}/proxy_arp`) === '1' || sysctl('net/ipv4/conf/all/proxy_arp') === '1') {
      findings.push(fail(`interface ${name}`, 'the host answers there for the addresses of others (proxy_arp) and routes what it gets, around weir', `sudo sysctl -w net.ipv4.conf.all.proxy_arp=0 net.ipv4.conf.${name}.proxy_arp=0`));
    }
  }
  return findings;
}

/** A side of a capture is a wire: the host's own stack should say nothing there. */
function ownStack(name: string, { ipv4, ipv6, loopback }: InterfaceInfo): Finding[] {
  if (loopback) return [];
  const findings: Finding[] = [];
  const subject = `interface ${name}`;
  const global = [...ipv4, ...ipv6.filter((address) => !address.startsWith('fe80:'))];
  if (global.length > 0) findings.push(warn(subject, `the host itself can be reached there (${global.join(', ')}), beside what weir captures`, `sudo ip address flush dev ${name} # ends connections to these addresses, yours too if it is one of them`));
  if (ipv6.some((address) => address.startsWith('fe80:'))) findings.push(warn(subject, "the host's own IPv6 speaks there (link-local address, router solicitations)", `sudo sysctl -w net.ipv6.conf.${name}.disable_ipv6=1`));
  const ignores = Math.max(Number(sysctl(`net/ipv4/conf/${name}/arp_ignore`) ?? 0), Number(sysctl('net/ipv4/conf/all/arp_ignore') ?? 0));
  if (ignores === 0) findings.push(warn(subject, 'the host answers ARP there for its addresses on other interfaces, those of underlays among them', `sudo sysctl -w net.ipv4.conf.${name}.arp_ignore=8`));
  return findings;
}
