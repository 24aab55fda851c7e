/** What the schema has to say of a document, in sentences for people. */
import type { ErrorObject, Options } from 'ajv';
import { describe, type PathStep, type Places } from './document.js';
import type { ConfigError } from './errors.js';
import { STATUS_PATTERN } from './health.js';
import { isKnownGood } from './known.js';
import { AT_LEAST_ONE_SERVICE } from './limits.js';
import { nearest } from './nearest.js';
import { validatorOf } from '../validator.js';
import { ALL_ERRORS, OWN_SCHEMA } from './own-schema.js';
import { schema } from './schema.js';

// Made when they are first needed: most commands never read a document, and few find an error in a policy.
const once = <T>(make: () => T): (() => T) => {
  let made: T | undefined;
  return () => (made ??= make());
};
/** Policies are checked one by one, so that those of a document before need not be checked again. */
const FRAME = { ...schema, properties: { ...schema.properties, policies: { ...schema.properties.policies, items: true } } };
const POLICY = schema.properties.policies.items;
/** Says only whether, of a hundred thousand as well: a validator of all errors spends its time on those of branches that were not meant. */
const ONLY_WHETHER: Options = { ...OWN_SCHEMA, code: {} };
export const SHAPE_VALIDATORS: readonly (readonly [schema: object, options: Options])[] = [[FRAME, ALL_ERRORS], [FRAME, ONLY_WHETHER], [POLICY, ALL_ERRORS], [POLICY, ONLY_WHETHER]];
const frame = once(() => validatorOf(FRAME, ALL_ERRORS));
const frameQuickly = once(() => validatorOf(FRAME, ONLY_WHETHER));
const policy = once(() => validatorOf(POLICY, ALL_ERRORS));
const quickly = once(() => validatorOf(POLICY, ONLY_WHETHER));

export function checkShape(places: Places, root: Readonly<Record<string, unknown>>): ConfigError[] {
  const errors = frameQuickly()(root) || frame()(root) ? [] : shapeErrors(places, root, frame().errors ?? [], []);
  const { policies } = root;
  if (Array.isArray(policies)) {
    const isGood = quickly();
    policies.forEach((raw: unknown, i) => {
      if (isKnownGood(raw) || isGood(raw) || policy()(raw)) return;
      errors.push(...shapeErrors(places, raw, policy().errors ?? [], ['policies', i]));
    });
  }
  return errors;
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

/** `base`: where `root` is in the document. */
export function shapeErrors(places: Places, root: unknown, errors: readonly ErrorObject[], base: readonly PathStep[]): ConfigError[] {
  return withoutNoise(errors).map((error) => shapeError(places, error, [...base, ...pointerPath(error.instancePath, root)]));
}

function shapeError(places: Places, error: ErrorObject, path: PathStep[]): ConfigError {
  const params = error.params as Record<string, unknown>;
  if (error.keyword === 'additionalProperties') {
    const key = String(params['additionalProperty']);
    const known = Object.keys((error.parentSchema?.['properties'] ?? {}) as object);
    const near = nearest(key, known);
    const hint = near === null ? `known keys: ${known.join(', ')}` : `did you mean "${near}"?`;
    return places.error([...path, key], `unknown key; ${hint}`, known.join(', '), key, true);
  }
  if (error.keyword === 'required') {
    const key = String(params['missingProperty']);
    return places.error(path, `the key "${key}" is missing`, key, undefined);
  }
  const expected = error.keyword === 'minItems' && path[0] === 'chains' ? AT_LEAST_ONE_SERVICE : expectation(error);
  const name = error.propertyName;
  if (name !== undefined) return places.error([...path, name], `expected ${expected}, found ${describe(name)}`, expected, name, true);
  return places.error(path, `expected ${expected}, found ${describe(error.data)}`, expected, error.data);
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
  if (rule['type'] === 'integer') return minimum !== undefined && maximum !== undefined ? `a whole number from ${String(minimum)} to ${String(maximum)}` : minimum !== undefined ? `a whole number of at least ${String(minimum)}` : 'a whole number';
  if (typeof rule['pattern'] === 'string') return patternExpectation(rule['pattern']);
  if (error.keyword === 'minItems') return 'at least one entry';
  if (error.keyword === 'maxItems') return `at most ${String(rule['maxItems'])} entries`;
  if (error.keyword === 'anyOf') return (rule['anyOf'] as Record<string, unknown>[]).map(branch).join(', or ');
  if (error.keyword === 'minLength') return 'a text that is not empty';
  if (error.keyword === 'maxLength') return `at most ${String(rule['maxLength'])} characters`;
  if (rule['type'] === 'string') return SAID_BY_DESCRIPTION.test(String(rule['description'])) ? described(rule) : 'a text';
  const names: Record<string, string> = { object: 'a mapping', array: 'a list', boolean: 'true or false', number: 'a number' };
  return names[String(rule['type'])] ?? String(error.message);
}

const NAME = 'a name of at most 63 letters, digits, ".", "_" and "-"';

function patternExpectation(pattern: string): string {
  if (pattern.includes('ms|s|m|h')) return 'a duration with its unit, such as 500ms, 350s, 5m or 2h';
  if (pattern.includes('0-7')) return 'an octal mode in quotes, such as "0660"';
  if (pattern.includes('0-9a-fA-F')) return 'hexadecimal digits, two for each byte';
  if (pattern === '^/') return 'a path that begins with "/"';
  if (pattern === STATUS_PATTERN) return 'a status such as 200, or a range such as 200-399';
  if (pattern.includes('1,15')) return 'an interface name of at most 15 characters';
  return NAME;
}

function branch(rule: Record<string, unknown>, at = 0): string {
  if (rule['const'] !== undefined) return String(rule['const']);
  if (Array.isArray(rule['enum'])) return choices(rule['enum']);
  if (Array.isArray(rule['anyOf'])) return (rule['anyOf'] as Record<string, unknown>[]).map(branch).join(' or ');
  if (rule['type'] === 'array') return at === 0 ? 'a list' : 'a list of such';
  if (rule['type'] === 'object') return 'a mapping';
  if (rule['type'] === 'boolean') return 'true or false';
  if (rule['pattern'] === STATUS_PATTERN) return 'a range such as 200-399';
  if (rule['type'] === 'integer') return `a whole number from ${String(rule['minimum'])} to ${String(rule['maximum'])}`;
  if (String(rule['pattern'] ?? '').includes('{1,5}')) return 'a range such as "8000-8100"';
  return typeof rule['pattern'] === 'string' ? 'a name' : described(rule);
}
