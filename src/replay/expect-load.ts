/** An expectations file: YAML in, expectations or every error out, in the way of configurations. */
import { readFileSync } from 'node:fs';
import type { Configuration, MatchConfig, PortRange } from '../config/configuration.js';
import { ConfigDocument, describe, type PathStep } from '../config/document.js';
import type { ConfigError } from '../config/errors.js';
import { match as normaliseMatch, type RawMatch } from '../config/normalise.js';
import { ALL_ERRORS } from '../config/own-schema.js';
import { isObject, list, type Report } from '../config/report.js';
import { checkMatch, unknownName } from '../config/semantics.js';
import { shapeErrors } from '../config/shape.js';
import { parsePrefix } from '../config/address.js';
import { instanceKey } from '../program/compile.js';
import type { Opening } from '../program/reference.js';
import { validatorOf } from '../validator.js';
import { EXPECTED_KEYS, expectSchema, type ExpectedKey } from './expect-schema.js';

export interface Range {
  readonly min: number;
  readonly max: number;
}

export interface Expectation {
  readonly name: string;
  readonly line: number;
  /** Line of each expected key. */
  readonly lines: Readonly<Partial<Record<ExpectedKey, number>>>;
  readonly match: MatchConfig;
  /** The one packet that the match describes, if it is a whole 5-tuple. */
  readonly tuple: Opening | null;
  readonly action: 'pass' | 'drop' | 'chain' | null;
  readonly chain: string | null;
  readonly hops: readonly string[] | null;
  /** Undefined: not expected; null: the default. */
  readonly policy: string | null | undefined;
  readonly instances: readonly string[] | null;
  readonly streams: Range | null;
  readonly packets: Range | null;
}

export type ExpectLoad = { readonly ok: true; readonly expectations: readonly Expectation[] } | { readonly ok: false; readonly errors: readonly ConfigError[] };

type RawRange = number | { min?: number; max?: number };
interface RawExpectation {
  name?: string;
  match: RawMatch;
  policy?: string | null;
  action?: 'pass' | 'drop' | 'chain';
  chain?: string;
  hops?: string[];
  instances?: string[];
  streams?: RawRange;
  packets?: RawRange;
}

/** `read`: whether there is a capture whose streams and packets can be counted. */
export function loadExpectations(file: string, configuration: Configuration, read: boolean): ExpectLoad {
  try {
    return parseExpectations(readFileSync(file, 'utf8'), file, configuration, read);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === undefined) throw error;
    const why = code === 'ENOENT' ? 'there is no such file' : code === 'EACCES' ? 'it may not be read' : (error as Error).message;
    return { ok: false, errors: [{ file, line: 0, column: 0, path: '', message: `can't read the expectations: ${why}`, expected: 'a readable file', found: code }] };
  }
}

export function parseExpectations(text: string, file: string, configuration: Configuration, read: boolean): ExpectLoad {
  const document = new ConfigDocument(text, file);
  const syntax = document.syntaxErrors();
  if (syntax.length > 0) return { ok: false, errors: syntax };
  const value = document.value();
  if (!Array.isArray(value)) return { ok: false, errors: [document.error([], `expected a list of expectations, each with a match; found ${describe(value)}`, 'a list', value)] };
  const validate = validatorOf(expectSchema, ALL_ERRORS);
  const shape = validate(value) ? [] : shapeErrors(document, value, validate.errors ?? [], []);
  const wrong = new Set(shape.map((error) => error.path));
  const meaning: ConfigError[] = [];
  const report: Report = (path, message, expected, found) => {
    const error = document.error(path, message, expected, found);
    if (!wrong.has(error.path)) meaning.push(error);
  };
  const names = namesOf(configuration);
  value.forEach((raw: unknown, i) => isObject(raw) && checkEntry(raw, [i], names, read, report));
  const errors = [...shape, ...meaning].sort((a, b) => a.line - b.line || a.column - b.column);
  if (errors.length > 0) return { ok: false, errors };
  return { ok: true, expectations: (value as RawExpectation[]).map((raw, i) => expectation(raw, i, document, configuration)) };
}

interface Names {
  readonly captures: ReadonlySet<string>;
  readonly policies: ReadonlySet<string>;
  readonly chains: ReadonlySet<string>;
  readonly services: ReadonlySet<string>;
  readonly instances: ReadonlySet<string>;
}

function namesOf({ captures, policies, chains, services }: Configuration): Names {
  const names = (rows: readonly { readonly name: string }[]): Set<string> => new Set(rows.map((row) => row.name));
  return {
    captures: names(captures),
    policies: names(policies),
    chains: names(chains),
    services: names(services),
    instances: new Set(services.flatMap((service) => service.instances.map((instance) => instanceKey(service.name, instance.name)))),
  };
}

function checkEntry(raw: Record<string, unknown>, path: readonly PathStep[], names: Names, read: boolean, report: Report): void {
  unknownName(report, [...path, 'policy'], 'policy', raw['policy'], names.policies);
  unknownName(report, [...path, 'chain'], 'chain', raw['chain'], names.chains);
  list(raw['hops']).forEach((service, i) => unknownName(report, [...path, 'hops', i], 'service', service, names.services));
  list(raw['instances']).forEach((instance, i) => unknownName(report, [...path, 'instances', i], 'instance', instance, names.instances));
  // A misspelt key is told as that.
  if (Object.keys(raw).every((key) => key === 'name' || key === 'match')) report(path, `nothing is expected: give one of ${EXPECTED_KEYS.join(', ')}`, EXPECTED_KEYS.join(', '), undefined);
  const otherAction = raw['action'] === 'pass' || raw['action'] === 'drop';
  for (const key of ['chain', 'hops', 'instances']) {
    if (otherAction && raw[key] !== undefined && list(raw[key]).length + (key === 'chain' ? 1 : 0) > 0) report([...path, key], `a stream with the action "${String(raw['action'])}" has none`, 'action: chain', raw[key]);
  }
  for (const key of ['streams', 'packets'] as const) {
    const range = raw[key];
    if (isObject(range) && typeof range['min'] === 'number' && typeof range['max'] === 'number' && range['min'] > range['max']) report([...path, key], `the range runs backwards: min ${range['min']} is more than max ${range['max']}`, 'min at most max', range);
    if (range !== undefined && !read) report([...path, key], 'there is nothing to count without a capture: add --read', '--read CAPTURE', range);
  }
  if (!isObject(raw['match'])) return;
  checkMatch(raw['match'] as RawMatch, [...path, 'match'], names.captures, report);
  if (!read && !isTuple(raw['match'] as RawMatch)) {
    report([...path, 'match'], 'without --read, only a whole 5-tuple can be answered: protocol, source, destination, and for tcp and udp source_port and destination_port, one value each', 'a 5-tuple', raw['match']);
  }
}

const host = (prefix: unknown): boolean => {
  const parsed = typeof prefix === 'string' ? parsePrefix(prefix) : null;
  return parsed !== null && typeof parsed !== 'string' && parsed.length === 128;
};

/** Whether it describes one stream. Ports are those of tcp and udp; of ICMP the identifier is no matter of policies. */
function isTuple({ protocol, source, destination, source_port, destination_port }: RawMatch): boolean {
  if (Array.isArray(protocol) || protocol === undefined || !host(source) || !host(destination)) return false;
  const ports = protocol === 'tcp' || protocol === 'udp' || protocol === 6 || protocol === 17;
  const one = (port: unknown): boolean => typeof port === 'number' || (typeof port === 'string' && /^[0-9]+$/.test(port));
  return !ports || (one(source_port) && one(destination_port));
}

const range = (raw: RawRange | undefined): Range | null =>
  raw === undefined ? null : typeof raw === 'number' ? { min: raw, max: raw } : { min: raw.min ?? 0, max: raw.max ?? Number.MAX_SAFE_INTEGER };

const bare = (prefix: string | undefined): string => (prefix ?? '').replace(/\/.*/, '');
const low = (ranges: readonly PortRange[]): number => ranges[0]?.low ?? 0;

function expectation(raw: RawExpectation, i: number, document: ConfigDocument, configuration: Configuration): Expectation {
  const match = normaliseMatch(raw.match);
  const lineOf = (key: ExpectedKey): number => document.error([i, key], '', '', null, true).line;
  const tuple: Opening = {
    capture: match.captures[0] ?? configuration.captures[0]?.name ?? '',
    vlan: match.vlans[0] ?? 0,
    direction: match.direction ?? 'out',
    protocol: match.protocols[0] ?? 0,
    source: bare(match.sources[0]),
    sourcePort: low(match.sourcePorts),
    destination: bare(match.destinations[0]),
    destinationPort: low(match.destinationPorts),
  };
  return {
    name: raw.name ?? `#${i + 1}: ${inWords(raw.match)}`,
    line: document.error([i], '', '', null).line,
    lines: Object.fromEntries(EXPECTED_KEYS.filter((key) => raw[key] !== undefined).map((key) => [key, lineOf(key)])),
    match,
    tuple: isTuple(raw.match) ? tuple : null,
    action: raw.action ?? (raw.chain === undefined ? null : 'chain'),
    chain: raw.chain ?? null,
    hops: raw.hops ?? null,
    policy: raw.policy,
    instances: raw.instances ?? null,
    streams: range(raw.streams),
    packets: range(raw.packets),
  };
}

function inWords(match: RawMatch): string {
  const keys = Object.entries(match).map(([key, value]) => `${key.replaceAll('_', ' ')} ${Array.isArray(value) ? value.join(' or ') : String(value)}`);
  return keys.length === 0 ? 'every stream' : keys.join(', ');
}
