/** Reference of the affinity code (native/engine/flow_key.h): SipHash-2-4 over the canonical tuple, low 32 bits. */
import { parseAddress } from '../config/address.js';
import type { Affinity } from '../dataplane/native.js';

const MASK = (1n << 64n) - 1n;
const rotate = (x: bigint, bits: bigint): bigint => ((x << bits) | (x >> (64n - bits))) & MASK;

export function siphash24(key: Uint8Array, data: Uint8Array): bigint {
  const word = (bytes: Uint8Array, at: number): bigint => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).readBigUInt64LE(at);
  const [k0, k1] = [word(key, 0), word(key, 8)];
  let [v0, v1, v2, v3] = [k0 ^ 0x736f6d6570736575n, k1 ^ 0x646f72616e646f6dn, k0 ^ 0x6c7967656e657261n, k1 ^ 0x7465646279746573n];
  const round = (): void => {
    v0 = (v0 + v1) & MASK;
    v1 = rotate(v1, 13n) ^ v0;
    v0 = rotate(v0, 32n);
    v2 = (v2 + v3) & MASK;
    v3 = rotate(v3, 16n) ^ v2;
    v0 = (v0 + v3) & MASK;
    v3 = rotate(v3, 21n) ^ v0;
    v2 = (v2 + v1) & MASK;
    v1 = rotate(v1, 17n) ^ v2;
    v2 = rotate(v2, 32n);
  };
  const padded = Buffer.alloc(Math.floor(data.length / 8) * 8 + 8);
  padded.set(data);
  padded[padded.length - 1] = data.length & 255;
  for (let at = 0; at < padded.length; at += 8) {
    const m = padded.readBigUInt64LE(at);
    v3 ^= m;
    round();
    round();
    v0 ^= m;
  }
  v2 ^= 0xffn;
  for (let i = 0; i < 4; i++) round();
  return v0 ^ v1 ^ v2 ^ v3;
}

export interface Stream {
  readonly tenant: number;
  readonly protocol: number;
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

export function affinityCode(key: Uint8Array, stream: Stream, affinity: Affinity): number {
  const ports = affinity === '5-tuple';
  const end = (address: string, port: number): Buffer => {
    const bytes = parseAddress(address);
    if (bytes === null) throw new TypeError(`expected an IP address, found "${address}"`);
    return Buffer.concat([bytes, Buffer.from([port >> 8, port & 255])]);
  };
  const pair = [end(stream.source, ports ? stream.sourcePort : 0), end(stream.destination, ports ? stream.destinationPort : 0)];
  const head = Buffer.alloc(5);
  head.writeUInt32BE(stream.tenant, 0);
  head[4] = affinity === '2-tuple' ? 0 : stream.protocol;
  return Number(siphash24(key, Buffer.concat([head, ...pair.sort(Buffer.compare)])) & 0xffffffffn);
}
