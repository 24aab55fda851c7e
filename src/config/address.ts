/** Addresses and prefixes: text in, canonical bytes out. */
import { isIPv4, isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';

export interface Prefix {
  /** 16 bytes; IPv4 as ::ffff:a.b.c.d; masked. */
  readonly bytes: Uint8Array;
  /** 0..128; an IPv4 /24 is 120. */
  readonly length: number;
}

/** Of a text that Node takes for IPv4: four numbers without leading zeros. */
function writeIpv4(text: string, bytes: Uint8Array, at: number): void {
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 48;
    if (digit >= 0) value = value * 10 + digit;
    else {
      bytes[at++] = value;
      value = 0;
    }
  }
  bytes[at] = value;
}

/** Of a text that Node takes for IPv6 without a zone: groups, at most one gap (an empty part that is neither first nor last), perhaps dotted at the end. */
function writeIpv6(text: string, bytes: Uint8Array): void {
  const parts = text.split(':');
  let at = 0;
  let gap = -1;
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i] ?? '';
    if (part === '') {
      if (i > 0 && i < parts.length - 1) gap = at;
    } else if (part.includes('.')) {
      writeIpv4(part, bytes, at);
      at += 4;
    } else {
      const group = Number.parseInt(part, 16);
      bytes[at++] = group >> 8;
      bytes[at++] = group & 255;
    }
  }
  if (gap < 0) return;
  const end = 16 - (at - gap);
  bytes.copyWithin(end, gap, at);
  bytes.fill(0, gap, end);
}

/** 16 bytes, or null if it is no address: what inet_pton takes, and nothing else, for native code reads the same texts with it. */
export function parseAddress(text: string): Uint8Array | null {
  if (isIPv4(text)) {
    const bytes = new Uint8Array(16);
    bytes[10] = bytes[11] = 0xff;
    writeIpv4(text, bytes, 12);
    return bytes;
  }
  if (!isIPv6(text) || text.includes('%')) return null;
  const bytes = new Uint8Array(16);
  writeIpv6(text, bytes);
  return bytes;
}

export function isIpv4(text: string): boolean {
  return isIPv4(text);
}

export function mask(bytes: Uint8Array, length: number): Uint8Array {
  const masked = new Uint8Array(bytes);
  const whole = length >> 3;
  if (whole < masked.length) {
    masked[whole] = (masked[whole] ?? 0) & (0xff00 >> (length & 7));
    masked.fill(0, whole + 1);
  }
  return masked;
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
  const slash = text.indexOf('/');
  const base = slash < 0 ? text : text.slice(0, slash);
  const lengthText = slash < 0 ? undefined : text.slice(slash + 1);
  const address = parseAddress(base);
  if (address === null || lengthText?.includes('/') === true) return `expected an address or a prefix such as 10.0.0.0/24 or fd01::/64, found "${text}"`;
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
