/** An `appliance:` document: YAML or a value in, the appliance or every error out. */
import type { ValidateFunction } from 'ajv';
import { readFileSync } from 'node:fs';
import { canonical } from '../config/address.js';
import type { PlainDocument } from '../config/configuration.js';
import { ConfigDocument, PathsOnly, describe, type Places } from '../config/document.js';
import type { ConfigError } from '../config/errors.js';
import { durationMs } from '../config/forms.js';
import { hook, type HookConfig, type RawHook } from '../config/scale.js';
import { ALL_ERRORS } from '../config/own-schema.js';
import { shapeErrors } from '../config/shape.js';
import { validatorOf } from '../validator.js';
import { checkAppliance } from './checks.js';
import { applianceSchema, type METRICS } from './schema.js';

/** TCP port of managers, unless the document says another. */
export const MANAGER_PORT = 4795;

type Json = Readonly<Record<string, unknown>>;

export interface Place {
  readonly name: string;
  readonly address: string;
}

export interface UnitConfig extends Place {
  readonly host: string;
  readonly weight: number;
  /** Of its own, to be merged into those of all. */
  readonly settings: Json;
}

export interface Thresholds {
  readonly metric: (typeof METRICS)[number];
  readonly addAbove: number;
  readonly removeBelow: number;
  readonly forMs: number;
}

export interface LayoutConfig {
  readonly min: number;
  readonly max: number;
  readonly start: number;
  /** Null: no limit. */
  readonly perHost: number | null;
  readonly spread: 'hosts' | 'order';
  readonly thresholds: Thresholds | null;
  /** Null: until the last stream ends. */
  readonly drainMs: number | null;
  readonly leaseMs: number;
  /** Both or none. */
  readonly add: HookConfig | null;
  readonly remove: HookConfig | null;
}

export interface ApplianceConfig {
  readonly source: PlainDocument;
  readonly name: string;
  readonly service: string;
  readonly function: string;
  /** Null: the function gets none. */
  readonly settings: Json | null;
  readonly managers: readonly (Place & { readonly port: number })[];
  readonly dispatchers: readonly Place[];
  readonly units: readonly UnitConfig[];
  readonly layout: LayoutConfig;
}

export interface RawAppliance {
  name: string;
  service: string;
  function?: string;
  settings?: Json;
  managers: { name: string; address: string; port?: number }[];
  dispatchers: Place[];
  units: { name: string; address: string; host?: string; weight?: number; settings?: Json }[];
  layout: {
    min: number;
    max: number;
    start?: number;
    per_host?: number;
    spread?: 'hosts' | 'order';
    thresholds?: { metric: Thresholds['metric']; add_above: number; remove_below: number; for?: string };
    drain?: string;
    lease?: string;
    add?: RawHook;
    remove?: RawHook;
  };
}

export type ApplianceResult = { readonly ok: true; readonly appliance: ApplianceConfig } | { readonly ok: false; readonly errors: readonly ConfigError[] };

let compiled: ValidateFunction | undefined;

export function loadAppliance(file: string): ApplianceResult {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    const why = code === 'ENOENT' ? 'there is no such file' : code === 'EACCES' ? 'it may not be read' : (error as Error).message;
    return { ok: false, errors: [{ file, line: 0, column: 0, path: '', message: `can't read the appliance: ${why}`, expected: 'a readable file', found: code }] };
  }
  return parseAppliance(text, file);
}

export function parseAppliance(text: string, file: string): ApplianceResult {
  const document = new ConfigDocument(text, file);
  const syntax = document.syntaxErrors();
  return syntax.length > 0 ? { ok: false, errors: syntax } : check(document, document.value());
}

/** The same for a value that is no file. */
export const checkApplianceDocument = (value: unknown): ApplianceResult => check(new PathsOnly('document'), value);

function check(places: Places, value: unknown): ApplianceResult {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    return { ok: false, errors: [places.error([], `expected a mapping with the key appliance, found ${describe(value)}`, 'a mapping', value)] };
  }
  compiled ??= validatorOf(applianceSchema, ALL_ERRORS);
  const shape = compiled(value) ? [] : shapeErrors(places, value, compiled.errors ?? [], []);
  const bad = new Set(shape.map(({ path }) => path));
  const meaning: ConfigError[] = [];
  checkAppliance((value as Json)['appliance'], (path, message, expected, found) => {
    const error = places.error(['appliance', ...path], message, expected, found);
    if (!bad.has(error.path)) meaning.push(error);
  });
  const errors = [...shape, ...meaning].sort((a, b) => a.line - b.line || a.column - b.column);
  return errors.length > 0 ? { ok: false, errors } : { ok: true, appliance: normalise((value as { appliance: RawAppliance }).appliance, value as PlainDocument) };
}

function normalise(raw: RawAppliance, source: PlainDocument): ApplianceConfig {
  const { layout } = raw;
  const place = ({ name, address }: Place): Place => ({ name, address: canonical(address) });
  return {
    source,
    name: raw.name,
    service: raw.service,
    function: raw.function ?? 'pass',
    settings: raw.settings === undefined && raw.units.every(({ settings }) => settings === undefined) ? null : (raw.settings ?? {}),
    managers: raw.managers.map((manager) => ({ ...place(manager), port: manager.port ?? MANAGER_PORT })),
    dispatchers: raw.dispatchers.map(place),
    units: raw.units.map((unit) => ({ ...place(unit), host: unit.host ?? unit.name, weight: unit.weight ?? 1, settings: unit.settings ?? {} })),
    layout: {
      min: layout.min,
      max: layout.max,
      start: layout.start ?? layout.min,
      perHost: layout.per_host ?? null,
      spread: layout.spread ?? 'hosts',
      thresholds: layout.thresholds === undefined ? null : { metric: layout.thresholds.metric, addAbove: layout.thresholds.add_above, removeBelow: layout.thresholds.remove_below, forMs: durationMs(layout.thresholds.for ?? '30s') },
      drainMs: layout.drain === undefined ? null : durationMs(layout.drain),
      leaseMs: durationMs(layout.lease ?? '1s'),
      add: layout.add === undefined ? null : hook(layout.add),
      remove: layout.remove === undefined ? null : hook(layout.remove),
    },
  };
}
