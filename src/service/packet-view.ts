/** A checked view of an inner packet: every offset lies within the bytes. */

export interface PacketView {
  readonly bytes: Uint8Array;
  readonly version: 4 | 6;
  readonly protocol: number;
  /** Offsets from the start of the bytes. */
  readonly ip: number;
  readonly transport: number;
  readonly payload: number;
  /** Behind the last byte of the IP packet. */
  readonly end: number;
  /** True for all but an unfragmented packet. */
  readonly fragment: boolean;
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

const TCP = 6;
const UDP = 17;

const u16 = (bytes: Uint8Array, at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
const hex = (bytes: Uint8Array, at: number, length: number): string => Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString('hex');

/** `ethernet`: the bytes begin with an Ethernet header (nsh), else with the IP header (geneve). Null if it is no whole IP packet. */
export function viewPacket(bytes: Uint8Array, ethernet: boolean): PacketView | null {
  let ip = 0;
  if (ethernet) {
    ip = 14;
    for (let tags = 0; tags < 2 && [0x8100, 0x88a8, 0x9100].includes(u16(bytes, ip - 2)); tags++) ip += 4;
    if (![0x0800, 0x86dd].includes(u16(bytes, ip - 2))) return null;
  }
  if (bytes.length < ip + 20) return null;
  const version = (bytes[ip] ?? 0) >> 4;
  let header: number;
  let end: number;
  let protocol: number;
  let fragment: boolean;
  if (version === 4) {
    header = ((bytes[ip] ?? 0) & 15) * 4;
    end = ip + u16(bytes, ip + 2);
    protocol = bytes[ip + 9] ?? 0;
    fragment = (u16(bytes, ip + 6) & 0x3fff) !== 0;
  } else if (version === 6) {
    header = 40;
    end = ip + 40 + u16(bytes, ip + 4);
    protocol = bytes[ip + 6] ?? 0;
    fragment = protocol === 44;
  } else {
    return null;
  }
  const transport = ip + header;
  if (header < 20 || transport > end || end > bytes.length) return null;
  const length = protocol === TCP ? 20 : 8;
  const whole = !fragment && (protocol === TCP || protocol === UDP) && transport + length <= end;
  const payload = !whole ? transport : protocol === TCP ? transport + ((bytes[transport + 12] ?? 0) >> 4) * 4 : transport + 8;
  if (payload > end) return null;
  const [from, size] = version === 4 ? [ip + 12, 4] : [ip + 8, 16];
  return {
    bytes,
    version: version as 4 | 6,
    protocol,
    ip,
    transport,
    payload,
    end,
    fragment,
    source: hex(bytes, from, size),
    destination: hex(bytes, from + size, size),
    sourcePort: whole ? u16(bytes, transport) : 0,
    destinationPort: whole ? u16(bytes, transport + 2) : 0,
  };
}
