/** Addresses and prefixes: text in, canonical bytes out. */
import { isIPv4, isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';

export interface Prefix {
  /** 16 bytes; IPv4 as ::ffff:a.b.c.d; masked. */
  readonly bytes: Uint8Array;
  /** 0..128; an IPv4 /24 is 120. */
  readonly length: number;
}

/** What inet_pton takes, and nothing else: native code reads the same texts with it. */
function strict(text: string): ipaddr.IPv4 | ipaddr.IPv6 | null {
  // Node decides what an address is: ipaddr.js also takes octal and short IPv4 forms.
  if (isIPv4(text)) return ipaddr.IPv4.parse(text);
  if (!isIPv6(text) || text.includes('%')) return null;
  // ipaddr.js reads ::1.2.3.4 as if it were ::ffff:1.2.3.4; with the dotted part as two groups it can't.
  return ipaddr.IPv6.parse(text.replace(/([0-9]+)\.([0-9]+)\.([0-9]+)\.([0-9]+)$/, (_, ...parts: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = parts.slice(0, 4).map(Number);
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
  }));
}

/** 16 bytes, or null if it is no address. */
export function parseAddress(text: string): Uint8Array | null {
  const parsed = strict(text);
  if (parsed === null) return null;
  const v6 = parsed.kind() === 'ipv4' ? (parsed as ipaddr.IPv4).toIPv4MappedAddress() : parsed;
  return Uint8Array.from(v6.toByteArray());
}

export function isIpv4(text: string): boolean {
  return isIPv4(text);
}

export function mask(bytes: Uint8Array, length: number): Uint8Array {
  return bytes.map((byte, i) => {
    const bits = Math.min(8, Math.max(0, length - i * 8));
    return byte & (0xff00 >> bits) & 0xff;
  });
}

export function formatAddress(bytes: Uint8Array): string {
  const v6 = new ipaddr.IPv6(Array.from(bytes));
  return v6.isIPv4MappedAddress() ? v6.toIPv4Address().toString() : v6.toString();
}

/** The one way weir writes an address; the text itself if it is none. */
export function canonical(text: string): string {
  const bytes = parseAddress(text);
  return bytes === null ? text : formatAddress(bytes);
}

/** What kind of address can't be one host's, or null if it can. */
export function notOneHost(bytes: Uint8Array): string | null {
  const text = formatAddress(bytes);
  if (text === '0.0.0.0' || text === '::') return 'the unspecified address';
  if (text === '255.255.255.255') return 'the broadcast address';
  const first = isIpv4(text) ? Number(text.split('.')[0]) : 0;
  return bytes[0] === 0xff || (first >= 224 && first < 240) ? 'a multicast address' : null;
}

/** The prefix, or a sentence on what is wrong with it. */
export function parsePrefix(text: string): Prefix | string {
  const [base = '', lengthText, ...rest] = text.split('/');
  const address = parseAddress(base);
  if (address === null || rest.length > 0) return `expected an address or a prefix such as 10.0.0.0/24 or fd01::/64, found "${text}"`;
  const v4 = isIpv4(base);
  const most = v4 ? 32 : 128;
  if (lengthText !== undefined && (!/^[0-9]{1,3}$/.test(lengthText) || Number(lengthText) > most)) {
    return `expected a prefix length from 0 to ${most}, found "${lengthText}" in "${text}"`;
  }
  const given = lengthText === undefined ? most : Number(lengthText);
  const length = v4 ? given + 96 : given;
  const bytes = mask(address, length);
  if (bytes.some((byte, i) => byte !== address[i])) {
    const corrected = formatAddress(bytes);
    return `"${text}" has bits set behind its length; did you mean ${corrected}/${isIpv4(corrected) ? length - 96 : length}?`;
  }
  return { bytes, length };
}
