/** What a schema can't say of instances that know nothing of stamps: which keys go together, and who may share an interface. */
import { formatAddress, notOneHost, parseAddress } from './address.js';
import type { PathStep } from './document.js';
import type { RawConfiguration } from './normalise.js';
import { entries, isObject, list, type Report } from './report.js';
import { underlayTitle, underlaysIn } from './underlays.js';

/** Each instance with `attach`, and where that stands. */
function attached(raw: RawConfiguration): { readonly owner: string; readonly path: readonly PathStep[]; readonly instance: Record<string, unknown> }[] {
  return entries(raw.services).flatMap(([service, value]) =>
    list(isObject(value) ? value['instances'] : []).flatMap((instance, i) => (isObject(instance) ? [{ owner: `${service}/${String(instance['name'])}`, path: ['services', service, 'instances', i], instance }] : [])),
  );
}

export function checkAttachments(raw: RawConfiguration, report: Report): void {
  const taken = ownInterfaces(raw);
  const wires = new Map<string, { readonly owner: string; readonly vlan: number }[]>();
  const routers = new Map<string, string>();
  for (const { owner, path, instance } of attached(raw)) {
    const { attach } = instance;
    if (attach === undefined) {
      if (instance['address'] === undefined) report(path, 'expected "address" (it gets stamped packets) or "attach" (it knows nothing of stamps)', 'address or attach', undefined);
      continue;
    }
    if (!isObject(attach)) continue;
    const at = [...path, 'attach'];
    const wire = attach['in'] !== undefined || attach['out'] !== undefined;
    if (wire && attach['via'] !== undefined) report(at, 'expected either "in" and "out" (frames go through it as through a wire) or "via" (it routes), found both', 'in and out, or via', 'both');
    else if (attach['via'] !== undefined) checkRouter(attach, at, owner, routers, report);
    else if (attach['in'] === undefined || attach['out'] === undefined) report(at, 'expected "in" and "out", the interfaces on both sides of it, or "via", the address of a router', 'in and out, or via', undefined);
    else checkWire(attach, at, owner, taken, wires, report);
  }
}

/** Interfaces that frames of captures and stamped packets have for themselves. */
function ownInterfaces(raw: RawConfiguration): Map<string, string> {
  const taken = new Map<string, string>();
  for (const { underlay } of underlaysIn(raw.underlay)) if (typeof underlay['interface'] === 'string') taken.set(underlay['interface'], underlayTitle(underlay));
  for (const capture of list(raw.captures)) {
    if (!isObject(capture)) continue;
    for (const side of ['in', 'out']) if (typeof capture[side] === 'string') taken.set(capture[side], `capture ${String(capture['name'])} (${side})`);
  }
  return taken;
}

function checkRouter(attach: Record<string, unknown>, at: readonly PathStep[], owner: string, routers: Map<string, string>, report: Report): void {
  const { via, vlan } = attach;
  if (vlan !== undefined) report([...at, 'vlan'], 'a router is reached by its address: give it a VLAN by an interface of that VLAN on this host (`ip link add … type vlan`)', 'no vlan with via', vlan);
  const legs: [readonly PathStep[], unknown][] = isObject(via) ? [[[...at, 'via', 'in'], via['in']], [[...at, 'via', 'out'], via['out']]] : [[[...at, 'via'], via]];
  for (const [path, value] of legs) {
    if (typeof value !== 'string') continue;
    const bytes = parseAddress(value);
    const kind = bytes === null ? null : notOneHost(bytes);
    if (bytes === null) report(path, `expected an IP address, found "${value}"`, 'an IP address', value);
    else if (kind !== null) report(path, `expected the address of one host, found "${value}", which is ${kind}`, 'the address of one host', value);
    if (bytes === null || kind !== null) continue;
    const address = formatAddress(bytes);
    const before = routers.get(address);
    if (before !== undefined && before !== owner) report(path, `${address} is already the way through ${before}`, 'an address of its own', value);
    routers.set(address, owner);
  }
}

function checkWire(attach: Record<string, unknown>, at: readonly PathStep[], owner: string, taken: ReadonlyMap<string, string>, wires: Map<string, { readonly owner: string; readonly vlan: number }[]>, report: Report): void {
  const { vlan } = attach;
  for (const side of ['in', 'out'] as const) {
    const name = attach[side];
    if (typeof name !== 'string') continue;
    const path = [...at, side];
    const other = taken.get(name);
    if (other !== undefined) report(path, `interface ${name} is already used by ${other}`, 'an interface of its own', name);
    const id = Number((isObject(vlan) ? vlan[side] : vlan) ?? 0);
    const here = wires.get(name) ?? [];
    const clash = here.find((before) => before.vlan === id || before.vlan === 0 || id === 0);
    if (clash !== undefined) {
      const who = clash.owner === owner ? 'its other side' : clash.owner;
      report(path, `interface ${name} is shared with ${who}, and no "vlan" tells the two apart: give each a VLAN id of its own`, 'distinct VLAN ids, or another interface', name);
    }
    wires.set(name, [...here, { owner, vlan: id }]);
  }
}
