/** Addresses and prefixes: text in, canonical bytes out. */
import ipaddr from 'ipaddr.js';

export interface Prefix {
  /** 16 bytes; IPv4 as ::ffff:a.b.c.d; masked. */
  readonly bytes: Uint8Array;
  /** 0..128; an IPv4 /24 is 120. */
  readonly length: number;
}

function strict(text: string): ipaddr.IPv4 | ipaddr.IPv6 | null {
  // ipaddr.js takes octal and short IPv4 forms; a configuration should not.
  if (/^[0-9.]+$/.test(text)) return ipaddr.IPv4.isValidFourPartDecimal(text) ? ipaddr.IPv4.parse(text) : null;
  return text.includes(':') && !text.includes('%') && ipaddr.IPv6.isValid(text) ? ipaddr.IPv6.parse(text) : null;
}

/** 16 bytes, or null if it is no address. */
export function parseAddress(text: string): Uint8Array | null {
  const parsed = strict(text);
  if (parsed === null) return null;
  const v6 = parsed.kind() === 'ipv4' ? (parsed as ipaddr.IPv4).toIPv4MappedAddress() : parsed;
  return Uint8Array.from(v6.toByteArray());
}

export function isIpv4(text: string): boolean {
  return strict(text)?.kind() === 'ipv4';
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
  if (bytes.some((byte, i) => byte !== address[i])) return `"${text}" has bits set behind its length; did you mean ${formatAddress(bytes)}/${given}?`;
  return { bytes, length };
}
