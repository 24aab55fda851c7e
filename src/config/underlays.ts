/** `underlay:` in its two forms, one mapping or a list of such with names: where each stands, what is wrong with them, and what they are. */
import { canonical, formatAddress, parseAddress } from './address.js';
import type { UnderlayConfig } from './configuration.js';
import type { PathStep } from './document.js';
import { entries, isObject, list, type Report } from './report.js';

export interface RawUnderlay {
  readonly name?: string;
  readonly interface: string;
  readonly address?: string;
  readonly mtu?: number;
  readonly fragment?: boolean;
}

export type RawUnderlays = RawUnderlay | readonly RawUnderlay[];

/** As messages name it. */
export const underlayTitle = ({ name }: { readonly name?: unknown }): string => (typeof name === 'string' ? `underlay ${name}` : 'the underlay');

/** What names it among others: its name, or its interface where it has none. */
export const underlayLabel = ({ name, interface: device }: UnderlayConfig): string => name ?? device;

export function underlays(raw: RawUnderlays | undefined): UnderlayConfig[] {
  const all: readonly RawUnderlay[] = raw === undefined ? [] : Array.isArray(raw) ? (raw as readonly RawUnderlay[]) : [raw as RawUnderlay];
  return all.map(({ name, interface: device, address, mtu, fragment = false }) => ({ name: name ?? null, interface: device, address: address === undefined ? null : canonical(address), mtu: mtu ?? null, fragment }));
}

/** Of a value of any shape: each underlay that there is, and where it stands. */
export function underlaysIn(raw: unknown): { readonly underlay: Record<string, unknown>; readonly path: readonly PathStep[] }[] {
  if (isObject(raw)) return [{ underlay: raw, path: ['underlay'] }];
  return list(raw).flatMap((underlay, i) => (isObject(underlay) ? [{ underlay, path: ['underlay', i] }] : []));
}

/** Behind an outer IP header this much is kept together: a stamp and an IP packet of 9,216 bytes. Longer ones are too long with fragments, too. */
const FRAGMENTED_ROOM = 9280;
const LONGEST_OUTER_HEADER = 40;

/** An MTU over which no packet is so long that it would have to be fragmented. */
export function checkFragments(raw: unknown, report: Report): void {
  for (const { underlay: { fragment, mtu }, path } of underlaysIn(raw)) {
    if (fragment === true && typeof mtu === 'number' && mtu >= FRAGMENTED_ROOM + LONGEST_OUTER_HEADER) {
      report([...path, 'fragment'], `packets of up to 9216 bytes are fragmented, and with an MTU of ${mtu} all of these fit: take it out, or write the MTU that the underlay has`, `an MTU below ${FRAGMENTED_ROOM + LONGEST_OUTER_HEADER}`, fragment);
    }
  }
}

/** Those addresses that are written down. */
export const ownAddressesIn = (raw: unknown): { readonly bytes: Uint8Array; readonly owner: string; readonly path: readonly PathStep[] }[] =>
  underlaysIn(raw).flatMap(({ underlay, path }) => {
    const bytes = typeof underlay['address'] === 'string' ? parseAddress(underlay['address']) : null;
    return bytes === null ? [] : [{ bytes, owner: underlayTitle(underlay), path: [...path, 'address'] }];
  });

/** An address that one host can have, and nobody else has: said by whom it belongs to. */
export const takenBy = (raw: unknown): Map<string, string> => new Map(ownAddressesIn(raw).map(({ bytes, owner }) => [formatAddress(bytes), owner]));

interface Tools {
  readonly report: Report;
  readonly unknownName: (path: readonly PathStep[], what: string, name: unknown, known: ReadonlySet<string>) => void;
  readonly unique: (what: string) => (path: readonly PathStep[], value: unknown, owner: string) => void;
}

/** Names of underlays, and those that instances give. */
export function checkUnderlayNames(raw: { readonly underlay?: unknown; readonly services?: unknown }, { report, unknownName, unique }: Tools): void {
  const own = unique('name');
  const all = underlaysIn(raw.underlay);
  for (const { underlay, path } of all) own([...path, 'name'], underlay['name'], 'another underlay');
  const known = new Set(all.flatMap(({ underlay: { name } }) => (typeof name === 'string' ? [name] : [])));
  for (const [service, value] of entries(raw.services)) {
    list(isObject(value) ? value['instances'] : []).forEach((instance, i) => {
      if (!isObject(instance) || instance['underlay'] === undefined) return;
      const path = ['services', service, 'instances', i, 'underlay'];
      if (instance['attach'] !== undefined) return report(path, 'it is attached and gets no stamped packets, so no underlay leads to it: take "underlay" out', 'nothing', instance['underlay']);
      if (all.length > 0 && known.size === 0) return report(path, 'there is one underlay, and it has no name: take this out, or make "underlay" a list with names', 'nothing', instance['underlay']);
      unknownName(path, 'underlay', instance['underlay'], known);
    });
  }
}
