/** YAML in, desired state or every error out. Nothing here asks the machine anything but the file. */
import { readFileSync } from 'node:fs';
import { Ajv2020, type ErrorObject } from 'ajv/dist/2020.js';
import { ruleCount } from './alternatives.js';
import type { Configuration } from './configuration.js';
import { ConfigDocument, describe, type PathStep } from './document.js';
import type { ConfigError } from './errors.js';
import { MAX_RULES } from './limits.js';
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
  const shape = validate(value) ? [] : shapeErrors(document, value, validate.errors ?? []);
  // Meaning is checked even where the shape is wrong elsewhere, so that one run shows everything.
  const meaning = checkMeaning(document, value as RawConfiguration, new Set(shape.map((error) => error.path)));
  const errors = [...shape, ...meaning].sort((a, b) => a.line - b.line || a.column - b.column);
  if (errors.length > 0) return { ok: false, errors };
  const configuration = normalise(value as RawConfiguration, file);
  const tooMany = checkRuleCount(document, configuration);
  return tooMany === null ? { ok: true, configuration } : { ok: false, errors: [tooMany] };
}

/** Each combination of a policy's alternatives is a rule; a few long lists make more of them than anyone has memory for. */
function checkRuleCount(document: ConfigDocument, { policies }: Configuration): ConfigError | null {
  let count = 0;
  for (const [i, policy] of policies.entries()) {
    count += ruleCount(policy.match, MAX_RULES - count);
    if (count <= MAX_RULES) continue;
    const message = `its alternatives, each combined with each, bring all policies together over ${MAX_RULES} rules; use fewer and wider prefixes or port ranges`;
    return document.error(['policies', i, 'match'], message, `at most ${MAX_RULES} rules`, policy.name);
  }
  return null;
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

/** The branch of an anyOf that a list or a mapping was meant for; a single value could have been meant for any. */
function meantBranch(union: ErrorObject): number {
  const branches = (union.parentSchema?.['anyOf'] ?? []) as Record<string, unknown>[];
  if (union.data === null || typeof union.data !== 'object') return -1;
  return branches.findIndex((branch) => branch['type'] === (Array.isArray(union.data) ? 'array' : 'object'));
}

/** Ajv reports every branch of an anyOf: what the meant branch complains of is kept, else the anyOf itself. */
function withoutNoise(errors: readonly ErrorObject[]): ErrorObject[] {
  const unions = errors.filter((error) => error.keyword === 'anyOf').map((union) => ({ union, meant: meantBranch(union) }));
  return errors.filter((error) => {
    if (error.keyword === 'propertyNames') return false;
    return unions.every(({ union, meant }) => {
      if (error === union) return meant < 0;
      const here = error.instancePath === union.instancePath || error.instancePath.startsWith(`${union.instancePath}/`);
      if (!here || !error.schemaPath.startsWith(`${union.schemaPath}/`)) return true;
      return error.schemaPath.startsWith(`${union.schemaPath}/${meant}/`);
    });
  });
}

function shapeErrors(document: ConfigDocument, root: unknown, errors: readonly ErrorObject[]): ConfigError[] {
  return withoutNoise(errors).map((error) => shapeError(document, error, pointerPath(error.instancePath, root)));
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
  const name = error.propertyName;
  if (name !== undefined) return document.error([...path, name], `expected ${expected}, found ${describe(name)}`, expected, name, true);
  return document.error(path, `expected ${expected}, found ${describe(error.data)}`, expected, error.data);
}

const choices = (values: readonly unknown[]): string => (values.length > 2 ? `one of ${values.join(', ')}` : values.join(' or '));

/** Descriptions that say what a text must be, not what it is for. */
const SAID_BY_DESCRIPTION = /^An? /;

const described = (rule: Record<string, unknown>): string => {
  const text = String(rule['description']);
  return text.charAt(0).toLowerCase() + text.slice(1).replace(/\.$/, '');
};

function expectation(error: ErrorObject): string {
  const rule = (error.parentSchema ?? {}) as Record<string, unknown>;
  const { minimum, maximum } = rule;
  if (error.propertyName !== undefined) return NAME;
  if (error.keyword === 'enum') return choices(rule['enum'] as unknown[]);
  if (rule['type'] === 'integer') return minimum !== undefined && maximum !== undefined ? `a whole number from ${String(minimum)} to ${String(maximum)}` : 'a whole number';
  if (typeof rule['pattern'] === 'string') return patternExpectation(rule['pattern']);
  if (error.keyword === 'minItems') return 'at least one entry';
  if (error.keyword === 'anyOf') return (rule['anyOf'] as Record<string, unknown>[]).map(branch).join(', or ');
  if (error.keyword === 'minLength') return 'a text that is not empty';
  if (error.keyword === 'maxLength') return `at most ${String(rule['maxLength'])} characters`;
  if (rule['type'] === 'string') return SAID_BY_DESCRIPTION.test(String(rule['description'])) ? described(rule) : 'a text';
  const names: Record<string, string> = { object: 'a mapping', array: 'a list', boolean: 'true or false' };
  return names[String(rule['type'])] ?? String(error.message);
}

const NAME = 'a name of at most 63 letters, digits, ".", "_" and "-"';

function patternExpectation(pattern: string): string {
  if (pattern.includes('ms|s|m|h')) return 'a duration with its unit, such as 500ms, 350s, 5m or 2h';
  if (pattern.includes('0-7')) return 'an octal mode in quotes, such as "0660"';
  if (pattern.includes('1,15')) return 'an interface name of at most 15 characters';
  return NAME;
}

function branch(rule: Record<string, unknown>, at = 0): string {
  if (rule['const'] !== undefined) return String(rule['const']);
  if (Array.isArray(rule['enum'])) return choices(rule['enum']);
  if (Array.isArray(rule['anyOf'])) return (rule['anyOf'] as Record<string, unknown>[]).map(branch).join(' or ');
  if (rule['type'] === 'array') return at === 0 ? 'a list' : 'a list of such';
  if (rule['type'] === 'object') return 'a mapping';
  if (rule['type'] === 'integer') return `a whole number from ${String(rule['minimum'])} to ${String(rule['maximum'])}`;
  if (String(rule['pattern'] ?? '').includes('{1,5}')) return 'a range such as "8000-8100"';
  return typeof rule['pattern'] === 'string' ? 'a name' : described(rule);
}
