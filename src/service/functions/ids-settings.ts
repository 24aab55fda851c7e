/** Patterns of `ids`: their schema, and what they are compiled to. */
import { RE2JS } from 're2js';
import { many, type OneOrMany } from '../../config/forms.js';
import { TCP, UDP } from '../packet.js';
import { Literals } from './literals.js';

const port = { anyOf: [{ type: 'integer', minimum: 0, maximum: 65535 }, { type: 'string', pattern: '^[0-9]{1,5}(-[0-9]{1,5})?$' }] };

const MOST_RULES = 100_000;
const MOST_REGEXES = 1000;
const DEFAULT_WINDOW = 1024;
const DEFAULT_TAIL = 2048;

export const schema = {
  type: 'object',
  additionalProperties: false,
  required: ['rules'],
  properties: {
    alerts: { type: 'string', minLength: 1, description: 'File that alerts are appended to, a JSON object a line. Default: the log.' },
    stream_bytes: { type: 'integer', minimum: 0, maximum: 16777216, description: 'Bytes that came too early, held for one direction of a stream. Default 262144.' },
    total_bytes: { type: 'integer', minimum: 65536, maximum: 4294967296, description: 'Bytes held for all streams together. Default 67108864.' },
    when_full: {
      enum: ['skip', 'drop'],
      description: 'What comes too early and can not be held. skip: it passes, and what is missing before it is not searched. drop: its sender sends it again. Default: drop where a rule drops, else skip.',
    },
    conflicts: {
      enum: ['alert', 'drop'],
      description: 'Copies of a segment with other bytes: an alert "conflict", or that and the segment is dropped. Default: drop where a rule drops, else alert.',
    },
    tcp_fragments: { enum: ['pass', 'drop'], description: 'TCP in IP fragments, which is not searched. Default: drop where a rule drops, else pass.' },
    rules: {
      type: 'array',
      maxItems: MOST_RULES,
      description: 'What is looked for.',
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['id'],
        properties: {
          id: { type: 'string', minLength: 1, maxLength: 100, description: 'A text of at most 100 characters, in each alert.' },
          message: { type: 'string', maxLength: 500, description: 'A text for people, in each alert.' },
          content: { type: 'string', minLength: 1, maxLength: 1000, description: 'A text, as UTF-8.' },
          hex: { type: 'string', pattern: '^([0-9A-Fa-f]{2} ?){1,1000}$', description: 'Bytes in hexadecimal, instead of content: 90 90 cc.' },
          nocase: { type: 'boolean', description: 'Letters of both cases are the same. Default false.' },
          regex: { type: 'string', minLength: 1, maxLength: 1000, description: 'A regular expression (RE2) over bytes. With content or hex it is tried only in streams in which that has been seen.' },
          window: { type: 'integer', minimum: 1, maximum: 16384, description: 'Longest match of the regular expression, in bytes, that is found across packets. Default 1024.' },
          protocol: { enum: ['tcp', 'udp'], description: 'Default: both.' },
          port: { description: "Ports or ranges of either end. Default: all.", anyOf: [port, { type: 'array', items: port, minItems: 1 }] },
          direction: { enum: ['forward', 'answer'], description: "forward: from who sent the stream's first packet. Default: both." },
          action: { enum: ['alert', 'drop'], description: 'drop: the packet, and all that follow in its stream, both directions. Default alert.' },
        },
      },
    },
  },
} as const;

export interface IdsSettings {
  readonly alerts?: string;
  readonly stream_bytes?: number;
  readonly total_bytes?: number;
  readonly when_full?: 'skip' | 'drop';
  readonly conflicts?: 'alert' | 'drop';
  readonly tcp_fragments?: 'pass' | 'drop';
  readonly rules: readonly {
    readonly id: string;
    readonly message?: string;
    readonly content?: string;
    readonly hex?: string;
    readonly nocase?: boolean;
    readonly regex?: string;
    readonly window?: number;
    readonly protocol?: 'tcp' | 'udp';
    readonly port?: OneOrMany<string | number>;
    readonly direction?: 'forward' | 'answer';
    readonly action?: 'alert' | 'drop';
  }[];
}

export interface Pattern {
  readonly index: number;
  readonly id: string;
  readonly message: string | null;
  readonly protocol: number;
  readonly ports: readonly (readonly [number, number])[] | null;
  readonly direction: 'forward' | 'answer' | null;
  readonly drop: boolean;
  readonly literalBytes: number;
  readonly regex: RE2JS | null;
  /** A regular expression that is tried only once its literal was seen. */
  readonly guarded: boolean;
  readonly window: number;
}

/** Literals of one kind and the patterns that they stand for. */
export interface LiteralSet {
  readonly literals: Literals;
  readonly patterns: readonly Pattern[];
}

export interface Patterns {
  readonly all: readonly Pattern[];
  readonly exact: LiteralSet | null;
  readonly folded: LiteralSet | null;
  readonly regexes: readonly Pattern[];
  readonly streamBytes: number;
  readonly totalBytes: number;
  readonly tailBytes: number;
  /** A rule drops: then what can't be searched does not pass, either. */
  readonly drops: boolean;
  readonly skip: boolean;
  readonly dropConflicts: boolean;
  readonly dropFragments: boolean;
  readonly alerts: string | null;
}

/** Throws an Error that says where what is wrong. */
export function compile(settings: IdsSettings): Patterns {
  const known = new Set<string>();
  const exact: [Uint8Array, Pattern][] = [];
  const folded: [Uint8Array, Pattern][] = [];
  const all = settings.rules.map((raw, index): Pattern => {
    const where = `rules[${index}]`;
    if (known.has(raw.id)) throw new Error(`${where}.id: "${raw.id}" is there twice`);
    known.add(raw.id);
    if (raw.content !== undefined && raw.hex !== undefined) throw new Error(`${where}: expected either content or hex, found both`);
    const literal = raw.content !== undefined ? Buffer.from(raw.content) : raw.hex !== undefined ? Buffer.from(raw.hex.replaceAll(' ', ''), 'hex') : null;
    if (literal === null && raw.regex === undefined) throw new Error(`${where}: expected content, hex or regex`);
    const pattern: Pattern = {
      index,
      id: raw.id,
      message: raw.message ?? null,
      protocol: raw.protocol === undefined ? 0 : raw.protocol === 'tcp' ? TCP : UDP,
      ports: raw.port === undefined ? null : many(raw.port).map((range) => portRange(`${where}.port`, range)),
      direction: raw.direction ?? null,
      drop: raw.action === 'drop',
      literalBytes: literal?.length ?? 0,
      regex: raw.regex === undefined ? null : regex(`${where}.regex`, raw.regex, raw.nocase ?? false),
      guarded: raw.regex !== undefined && literal !== null,
      window: raw.window ?? DEFAULT_WINDOW,
    };
    if (literal !== null) (raw.nocase === true ? folded : exact).push([literal, pattern]);
    return pattern;
  });
  const regexes = all.filter((pattern) => pattern.regex !== null);
  if (regexes.length > MOST_REGEXES) throw new Error(`rules: ${regexes.length} regular expressions; ${MOST_REGEXES} are the most`);
  const drops = all.some((pattern) => pattern.drop);
  return {
    all,
    exact: literalSet(exact, false),
    folded: literalSet(folded, true),
    regexes,
    streamBytes: settings.stream_bytes ?? 262_144,
    totalBytes: settings.total_bytes ?? 67_108_864,
    tailBytes: regexes.reduce((most, { window }) => Math.max(most, window), DEFAULT_TAIL),
    drops,
    skip: settings.when_full === undefined ? !drops : settings.when_full === 'skip',
    dropConflicts: settings.conflicts === undefined ? drops : settings.conflicts === 'drop',
    dropFragments: settings.tcp_fragments === undefined ? drops : settings.tcp_fragments === 'drop',
    alerts: settings.alerts ?? null,
  };
}

function literalSet(entries: readonly [Uint8Array, Pattern][], fold: boolean): LiteralSet | null {
  if (entries.length === 0) return null;
  return { literals: new Literals(entries.map(([bytes]) => bytes), fold), patterns: entries.map(([, pattern]) => pattern) };
}

function portRange(where: string, value: string | number): readonly [number, number] {
  const [low = 0, high = low] = String(value).split('-').map(Number);
  if (low > high || high > 65_535) throw new Error(`${where}: expected a port or a range of ports, found "${value}"`);
  return [low, high];
}

/**
 * RE2's syntax, matched in linear time (re2js). A byte is a character of the same number (Latin-1), and "." matches all of them. The end of
 * what has arrived is not the end of a stream, so there is nothing that `$` could stand for.
 */
function regex(where: string, source: string, nocase: boolean): RE2JS {
  const plain = source.replace(/\\[^z]/gs, '').replace(/\[\^?\]?[^\]]*\]/gs, '');
  if (/\$|\\z/.test(plain)) throw new Error(`${where}: "$" and "\\z" mean the end, which a stream that goes on does not have`);
  try {
    const compiled = RE2JS.compile(source, RE2JS.DOTALL | (nocase ? RE2JS.CASE_INSENSITIVE : 0));
    if (compiled.matches('')) throw new Error('it matches nothing at all, so it would be found everywhere');
    return compiled;
  } catch (error) {
    throw new Error(`${where}: ${(error as Error).message}`);
  }
}
