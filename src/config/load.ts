/** YAML in, desired state or every error out. Nothing here asks the machine anything but the file. */
import { readFileSync } from 'node:fs';
import { Ajv2020, type ErrorObject } from 'ajv/dist/2020.js';
import type { Configuration } from './configuration.js';
import { ConfigDocument, describe, type PathStep } from './document.js';
import type { ConfigError } from './errors.js';
import { nearest } from './nearest.js';
import { normalise, type RawConfiguration } from './normalise.js';
import { schema } from './schema.js';
import { checkMeaning } from './semantics.js';

export type LoadResult = { readonly ok: true; readonly configuration: Configuration } | { readonly ok: false; readonly errors: readonly ConfigError[] };

const validate = new Ajv2020({ allErrors: true, verbose: true, strict: false, allowUnionTypes: true }).compile(schema);

export function loadConfiguration(file: string): LoadResult {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const why = code === 'ENOENT' ? 'there is no such file' : code === 'EACCES' ? 'it may not be read' : String((error as Error).message);
    return { ok: false, errors: [{ file, line: 0, column: 0, path: '', message: `can't read the configuration: ${why}`, expected: 'a readable file', found: code ?? '' }] };
  }
  return parseConfiguration(text, file);
}

export function parseConfiguration(text: string, file: string): LoadResult {
  const document = new ConfigDocument(text, file);
  const syntax = document.syntaxErrors();
  if (syntax.length > 0) return { ok: false, errors: syntax };
  const value = document.value();
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    return { ok: false, errors: [document.error([], `expected a mapping of keys such as captures, services, chains, policies; found ${describe(value)}`, 'a mapping', value)] };
  }
  const shape = validate(value) ? [] : shapeErrors(document, validate.errors ?? []);
  // Meaning is checked even where the shape is wrong elsewhere, so that one run shows everything.
  const meaning = checkMeaning(document, value as RawConfiguration, new Set(shape.map((error) => error.path)));
  const errors = [...shape, ...meaning].sort((a, b) => a.line - b.line || a.column - b.column);
  return errors.length > 0 ? { ok: false, errors } : { ok: true, configuration: normalise(value as RawConfiguration) };
}

function pointerPath(pointer: string, root: unknown): PathStep[] {
  const path: PathStep[] = [];
  let node = root;
  for (const raw of pointer.split('/').slice(1)) {
    const step = raw.replaceAll('~1', '/').replaceAll('~0', '~');
    path.push(Array.isArray(node) ? Number(step) : step);
    node = (node as Record<string, unknown> | undefined)?.[step];
  }
  return path;
}

function shapeErrors(document: ConfigDocument, errors: readonly ErrorObject[]): ConfigError[] {
  const root = document.value();
  // An anyOf reports every branch too. What lies deeper than the value in question, or is about a mapping's keys, says more
  // than the anyOf itself; the rest says less.
  const unions = errors.filter((error) => error.keyword === 'anyOf');
  const inside = (error: ErrorObject, union: ErrorObject): boolean => error !== union && error.schemaPath.startsWith(union.schemaPath);
  const telling = (error: ErrorObject, union: ErrorObject): boolean =>
    error.instancePath.length > union.instancePath.length || error.keyword === 'additionalProperties' || error.keyword === 'required';
  const seen = new Set<string>();
  const result: ConfigError[] = [];
  for (const error of errors) {
    if (error.keyword === 'propertyNames') continue;
    if (unions.some((union) => inside(error, union) && !telling(error, union))) continue;
    if (error.keyword === 'anyOf' && errors.some((other) => inside(other, error) && other.instancePath.startsWith(error.instancePath) && telling(other, error))) continue;
    const converted = shapeError(document, error, pointerPath(error.instancePath, root));
    const key = `${converted.path} ${converted.message}`;
    if (!seen.has(key)) result.push(converted);
    seen.add(key);
  }
  return result;
}

function shapeError(document: ConfigDocument, error: ErrorObject, path: PathStep[]): ConfigError {
  const params = error.params as Record<string, unknown>;
  if (error.keyword === 'additionalProperties') {
    const key = String(params['additionalProperty']);
    const known = Object.keys((error.parentSchema?.['properties'] ?? {}) as object);
    const near = nearest(key, known);
    const hint = near === null ? `known keys: ${known.join(', ')}` : `did you mean "${near}"?`;
    return document.error([...path, key], `unknown key; ${hint}`, known.join(', '), key, true);
  }
  if (error.keyword === 'required') {
    const key = String(params['missingProperty']);
    return document.error(path, `the key "${key}" is missing`, key, undefined);
  }
  const expected = expectation(error);
  return document.error(path, `expected ${expected}, found ${describe(error.data)}`, expected, error.data);
}

function expectation(error: ErrorObject): string {
  const rule = (error.parentSchema ?? {}) as Record<string, unknown>;
  const { minimum, maximum } = rule;
  if (error.propertyName !== undefined) return 'a name of letters, digits, ".", "_" and "-"';
  if (error.keyword === 'enum') return (rule['enum'] as unknown[]).join(' or ');
  if (rule['type'] === 'integer') return minimum !== undefined && maximum !== undefined ? `a whole number from ${String(minimum)} to ${String(maximum)}` : 'a whole number';
  if (typeof rule['pattern'] === 'string') return patternExpectation(rule['pattern']);
  if (error.keyword === 'minItems') return 'at least one entry';
  if (error.keyword === 'maxItems') return `at most ${String(rule['maxItems'])} entries`;
  if (error.keyword === 'anyOf') return (rule['anyOf'] as Record<string, unknown>[]).map(branch).join(', or ');
  const names: Record<string, string> = { object: 'a mapping', array: 'a list', string: 'a text', integer: 'a whole number', boolean: 'true or false' };
  return names[String(rule['type'])] ?? String(error.message);
}

function patternExpectation(pattern: string): string {
  if (pattern.includes('ms|s|m|h')) return 'a duration with its unit, such as 500ms, 350s, 5m or 2h';
  if (pattern.includes('0-7')) return 'an octal mode in quotes, such as "0660"';
  if (pattern.includes('1,15')) return 'an interface name of at most 15 characters';
  return 'a name of at most 63 letters, digits, ".", "_" and "-"';
}

function branch(rule: Record<string, unknown>): string {
  if (rule['const'] !== undefined) return String(rule['const']);
  if (Array.isArray(rule['enum'])) return rule['enum'].join(' or ');
  if (Array.isArray(rule['anyOf'])) return (rule['anyOf'] as Record<string, unknown>[]).map(branch).join(' or ');
  if (rule['type'] === 'array') return 'a list of such';
  if (rule['type'] === 'object') return 'a mapping';
  if (rule['type'] === 'integer') return `a whole number from ${String(rule['minimum'])} to ${String(rule['maximum'])}`;
  if (String(rule['pattern'] ?? '').includes('{1,5}')) return 'a range such as "8000-8100"';
  return rule['description'] === undefined ? 'a name' : 'a text';
}
