/**
 * The state of a stream as bytes: the fields that a service function declares, in their order, each of a type and a greatest length. A delta has
 * only the fields that changed.
 */
export type FieldType = 'uint' | 'int' | 'float' | 'bool' | { readonly text: number } | { readonly bytes: number };
/** uint: 0 to 2^53 - 1; int: the same with a sign; text and bytes: at most as many bytes as declared. */
export type FieldValue = number | boolean | string | Uint8Array;

export interface StateShape {
  /** 1 to 65535; another one when fields change their meaning. */
  readonly version: number;
  readonly fields: Readonly<Record<string, FieldType>>;
}

const MOST_FIELDS = 128;
/** Of an encoded state. */
export const MOST_STATE_BYTES = 8192;
const LONGEST_NUMBER = 8;

/** A state that the declaration does not admit, or bytes that are no such state. */
export class StateRefused extends Error {
  constructor(
    readonly reason: 'too_large' | 'wrong_type' | 'wrong_version' | 'malformed',
    message: string,
  ) {
    super(message);
  }
}

const utf8 = new TextEncoder();
const text = new TextDecoder();

export class StateCodec {
  readonly names: readonly string[];
  readonly #types: readonly FieldType[];
  /** Bytes of the longest state. */
  readonly longest: number;

  /** Throws a RangeError for a shape that can't be. */
  constructor(readonly shape: StateShape) {
    this.names = Object.keys(shape.fields);
    this.#types = Object.values(shape.fields);
    if (!Number.isInteger(shape.version) || shape.version < 1 || shape.version > 65_535) throw new RangeError(`state.version: expected a whole number from 1 to 65535, found ${String(shape.version)}`);
    if (this.names.length < 1 || this.names.length > MOST_FIELDS) throw new RangeError(`state.fields: expected 1 to ${MOST_FIELDS} fields, found ${this.names.length}`);
    this.longest = this.#types.reduce((sum, type, i) => sum + longest(type, this.names[i] ?? ''), 2 + this.maskBytes);
    if (this.longest > MOST_STATE_BYTES) throw new RangeError(`state.fields: together they may have ${this.longest} bytes, more than the ${MOST_STATE_BYTES} that a state may have`);
  }

  get maskBytes(): number {
    return (this.names.length + 7) >> 3;
  }

  /** Checks a state against the declaration. Throws a StateRefused. */
  values(state: Readonly<Record<string, FieldValue>>): FieldValue[] {
    return this.#types.map((type, i) => checked(type, state[this.names[i] ?? ''], this.names[i] ?? ''));
  }

  named(values: readonly FieldValue[]): Record<string, FieldValue> {
    return Object.fromEntries(this.names.map((name, i) => [name, values[i] ?? 0]));
  }

  /** Which fields differ; null for none. */
  difference(before: readonly FieldValue[], after: readonly FieldValue[]): Uint8Array | null {
    let mask: Uint8Array | null = null;
    for (let i = 0; i < after.length; i++) {
      if (equal(before[i], after[i])) continue;
      mask ??= new Uint8Array(this.maskBytes);
      mask[i >> 3] = (mask[i >> 3] ?? 0) | (1 << (i & 7));
    }
    return mask;
  }

  /** `mask`: the fields to write; null: all. */
  encode(values: readonly FieldValue[], mask: Uint8Array | null): Buffer {
    const out = new Writer(this.longest);
    out.u16(this.shape.version);
    if (mask !== null) out.raw(mask);
    this.#types.forEach((type, i) => {
      if (mask === null || ((mask[i >> 3] ?? 0) & (1 << (i & 7))) !== 0) write(out, type, values[i] ?? 0);
    });
    return out.done();
  }

  /** Of a delta: over `base`. Throws a StateRefused. */
  decode(bytes: Uint8Array, base: readonly FieldValue[] | null): FieldValue[] {
    if (bytes.length > this.longest) throw new StateRefused('too_large', `a state of ${bytes.length} bytes, and ${this.longest} are declared`);
    const from = new Reader(bytes);
    const version = from.u16();
    if (version !== this.shape.version) throw new StateRefused('wrong_version', `a state of version ${version}, and this function has ${this.shape.version}`);
    const mask = base === null ? null : from.raw(this.maskBytes);
    const values = this.#types.map((type, i) => (mask === null || ((mask[i >> 3] ?? 0) & (1 << (i & 7))) !== 0 ? read(from, type) : (base?.[i] ?? 0)));
    if (!from.over) throw new StateRefused('malformed', 'a state with bytes that belong to no field');
    return values;
  }
}

function longest(type: FieldType, name: string): number {
  if (type === 'bool') return 1;
  if (type === 'float' || type === 'uint' || type === 'int') return LONGEST_NUMBER;
  const most = 'text' in type ? type.text : type.bytes;
  if (!Number.isInteger(most) || most < 1) throw new RangeError(`state.fields.${name}: expected uint, int, float, bool, {text: BYTES} or {bytes: BYTES}`);
  return most + 3;
}

const wrong = (name: string, expected: string, found: unknown): StateRefused => new StateRefused('wrong_type', `state.${name}: expected ${expected}, found ${typeof found === 'object' ? 'an object' : String(found).slice(0, 40)}`);

function checked(type: FieldType, value: FieldValue | undefined, name: string): FieldValue {
  if (type === 'bool') {
    if (typeof value !== 'boolean') throw wrong(name, 'true or false', value);
    return value;
  }
  if (type === 'float') {
    if (typeof value !== 'number') throw wrong(name, 'a number', value);
    return value;
  }
  if (type === 'uint' || type === 'int') {
    if (!Number.isSafeInteger(value) || (type === 'uint' && (value as number) < 0)) throw wrong(name, type === 'uint' ? 'a whole number from 0 on' : 'a whole number', value);
    return value as number;
  }
  if ('text' in type) {
    if (typeof value !== 'string') throw wrong(name, 'a string', value);
    if (value.length > type.text || utf8.encode(value).length > type.text) throw new StateRefused('too_large', `state.${name}: at most ${type.text} bytes are declared`);
    return value;
  }
  if (!(value instanceof Uint8Array)) throw wrong(name, 'a Uint8Array', value);
  if (value.length > type.bytes) throw new StateRefused('too_large', `state.${name}: ${value.length} bytes, and at most ${type.bytes} are declared`);
  return Uint8Array.from(value); // what changes later has to differ from it
}

function equal(a: FieldValue | undefined, b: FieldValue | undefined): boolean {
  if (a instanceof Uint8Array && b instanceof Uint8Array) return a.length === b.length && Buffer.compare(a, b) === 0;
  return Object.is(a, b);
}

function write(out: Writer, type: FieldType, value: FieldValue): void {
  if (type === 'bool') out.u8(value === true ? 1 : 0);
  else if (type === 'float') out.double(value as number);
  else if (type === 'uint') out.varint(value as number);
  else if (type === 'int') out.double(value as number);
  else out.sized('text' in type ? utf8.encode(value as string) : (value as Uint8Array));
}

function read(from: Reader, type: FieldType): FieldValue {
  if (type === 'bool') return from.u8() === 1;
  if (type === 'float') return from.double();
  if (type === 'uint') return from.varint();
  if (type === 'int') {
    const value = from.double();
    if (!Number.isSafeInteger(value)) throw new StateRefused('malformed', 'a whole number that is none');
    return value;
  }
  const bytes = from.sized('text' in type ? type.text : type.bytes);
  return 'text' in type ? text.decode(bytes) : Uint8Array.from(bytes);
}

/** Grows to what is written. Integers are varints: seven bits a byte, the least significant first. */
export class Writer {
  #bytes: Buffer;
  #at = 0;

  constructor(room: number) {
    this.#bytes = Buffer.allocUnsafe(Math.max(16, room));
  }

  get length(): number {
    return this.#at;
  }

  u8(value: number): void {
    this.#room(1);
    this.#bytes[this.#at++] = value;
  }
  u16(value: number): void {
    this.#room(2);
    this.#at = this.#bytes.writeUInt16BE(value, this.#at);
  }
  u32(value: number): void {
    this.#room(4);
    this.#at = this.#bytes.writeUInt32BE(value >>> 0, this.#at);
  }
  double(value: number): void {
    this.#room(8);
    this.#at = this.#bytes.writeDoubleBE(value, this.#at);
  }
  varint(value: number): void {
    this.#room(8);
    let rest = value;
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.#bytes[this.#at++] = (rest % 128) | 128;
    this.#bytes[this.#at++] = rest;
  }
  raw(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }
  sized(bytes: Uint8Array): void {
    this.varint(bytes.length);
    this.raw(bytes);
  }
  done(): Buffer {
    return this.#bytes.subarray(0, this.#at);
  }

  #room(bytes: number): void {
    if (this.#at + bytes <= this.#bytes.length) return;
    const more = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#at + bytes));
    this.#bytes.copy(more, 0, 0, this.#at);
    this.#bytes = more;
  }
}

/** Throws a StateRefused past the end. */
export class Reader {
  #at = 0;

  constructor(private readonly bytes: Uint8Array) {}

  get over(): boolean {
    return this.#at === this.bytes.length;
  }

  u8(): number {
    return this.raw(1)[0] ?? 0;
  }
  u16(): number {
    const [a = 0, b = 0] = this.raw(2);
    return (a << 8) | b;
  }
  u32(): number {
    const [a = 0, b = 0, c = 0, d = 0] = this.raw(4);
    return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
  }
  double(): number {
    const raw = this.raw(8);
    return new DataView(raw.buffer, raw.byteOffset, 8).getFloat64(0);
  }
  varint(): number {
    let value = 0;
    let factor = 1;
    for (let i = 0; i < LONGEST_NUMBER; i++) {
      const byte = this.u8();
      value += (byte & 127) * factor;
      if (byte < 128) {
        if (!Number.isSafeInteger(value)) break;
        return value;
      }
      factor *= 128;
    }
    throw new StateRefused('malformed', 'a number that is too long');
  }
  raw(length: number): Uint8Array {
    if (this.#at + length > this.bytes.length) throw new StateRefused('malformed', 'it ends too early');
    const part = this.bytes.subarray(this.#at, this.#at + length);
    this.#at += length;
    return part;
  }
  sized(most: number): Uint8Array {
    const length = this.varint();
    if (length > most) throw new StateRefused('too_large', `a field of ${length} bytes, and ${most} are declared`);
    return this.raw(length);
  }
}
