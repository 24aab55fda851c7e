/** YAML in, desired state or every error out. Nothing here asks the machine anything but the file. */
import { readFileSync } from 'node:fs';
import { ruleCount } from './alternatives.js';
import type { Configuration } from './configuration.js';
import { ConfigDocument, PathsOnly, describe, type PathStep, type Places } from './document.js';
import type { ConfigError } from './errors.js';
import { rememberGood } from './known.js';
import { MAX_RULES } from './limits.js';
import { normalise, type RawConfiguration } from './normalise.js';
import { readQuickly } from './quick-yaml.js';
import { checkMeaning } from './semantics.js';
import { checkShape } from './shape.js';
import { variantsOf } from './variant-checks.js';

export type LoadResult = { readonly ok: true; readonly configuration: Configuration } | { readonly ok: false; readonly errors: readonly ConfigError[] };

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
  // Where the quick reader gives up, or finds what is not valid, the whole parser has its say: it knows lines.
  const plain = readQuickly(text);
  const loaded = plain === undefined ? null : check(new PathsOnly(file), plain, file);
  if (loaded?.ok === true) return loaded;
  const document = new ConfigDocument(text, file);
  const syntax = document.syntaxErrors();
  if (syntax.length > 0) return { ok: false, errors: syntax };
  return check(document, document.value(), file);
}

/** The same for a value that is no file; relative paths in it are relative to `file`. What it shares with a value that was found good is not checked again. */
export function checkDocument(value: unknown, file: string): LoadResult {
  return check(new PathsOnly('document'), value, file);
}

function check(places: Places, value: unknown, file: string): LoadResult {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    return { ok: false, errors: [places.error([], `expected a mapping of keys such as captures, services, chains, policies; found ${describe(value)}`, 'a mapping', value)] };
  }
  const shape = checkShape(places, value as Record<string, unknown>);
  // Meaning is checked even where the shape is wrong elsewhere, so that one run shows everything.
  const meaning = checkMeaning(places, value as RawConfiguration, new Set(shape.map((error) => error.path)));
  const errors = [...shape, ...meaning].sort((a, b) => a.line - b.line || a.column - b.column);
  if (errors.length > 0) return { ok: false, errors };
  const configuration = normalise(value as RawConfiguration, file);
  const tooMany = checkRuleCount(places, configuration);
  if (tooMany !== null) return { ok: false, errors: [tooMany] };
  rememberGood((value as RawConfiguration).policies ?? []);
  return { ok: true, configuration };
}

/** Each combination of a policy's alternatives is a rule; a few long lists make more of them than anyone has memory for. */
function checkRuleCount(places: Places, { policies, configurations, source }: Configuration): ConfigError | null {
  const where = variantsOf(source.document['configurations']);
  const sets = [{ policies, path: [] as readonly PathStep[] }, ...configurations.map((variant, i) => ({ policies: variant.policies, path: where[i]?.path ?? [] }))];
  for (const set of sets) {
    const error = ruleCountError(places, set.policies, set.path);
    if (error !== null) return error;
  }
  return null;
}

function ruleCountError(places: Places, policies: Configuration['policies'], base: readonly PathStep[]): ConfigError | null {
  let count = 0;
  for (const [i, policy] of policies.entries()) {
    count += ruleCount(policy.match, MAX_RULES - count);
    if (count <= MAX_RULES) continue;
    const message = `its alternatives, each combined with each, bring all policies together over ${MAX_RULES} rules; use fewer and wider prefixes or port ranges`;
    return places.error([...base, 'policies', i, 'match'], message, `at most ${MAX_RULES} rules`, policy.name);
  }
  return null;
}
