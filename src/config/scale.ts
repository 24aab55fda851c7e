/** `scale:` of a service: the document's form, its defaults, and what a schema can't say of it. */
import { isAbsolute } from 'node:path';
import { addressRange } from './address-ranges.js';
import type { PlacementConfig } from './configuration.js';
import type { PathStep } from './document.js';
import { durationMs, many, type OneOrMany } from './forms.js';
import { isObject, type Report } from './report.js';

/** Started by weir itself, without a shell; or asked for over HTTP. */
export type HookConfig =
  | { readonly kind: 'exec'; readonly command: readonly string[] }
  /** `tokenFile`: what is sent as the bearer token. */
  | { readonly kind: 'http'; readonly url: string; readonly tokenFile: string | null };

/** How many instances a service has, and who starts and ends them. */
export interface ScaleConfig {
  readonly min: number;
  readonly max: number;
  readonly metric: PlacementConfig['metric'];
  /** Of one instance. */
  readonly target: number;
  /** Instances that come or go at one time. */
  readonly step: { readonly up: number; readonly down: number };
  /** From one change to the next; down: for that long less must have been enough, too. */
  readonly cooldownMs: { readonly up: number; readonly down: number };
  /** How long an instance that goes may keep its streams; null: until the last one ends. */
  readonly drainMs: number | null;
  /** How long a new instance may take to be healthy, and one that was to be so again. */
  readonly readyMs: number;
  /** Of a hook. */
  readonly timeoutMs: number;
  /** Where new instances are put, in this order; empty: the hook says it. */
  readonly addresses: readonly string[];
  readonly add: HookConfig;
  readonly remove: HookConfig;
}

export type RawHook = { exec: OneOrMany<string> } | { http: string | { url: string; token?: { file: string } } };
type UpDown<T> = T | { up?: T; down?: T };

export interface RawScale {
  min?: number;
  max: number;
  metric?: ScaleConfig['metric'];
  target: number;
  step?: UpDown<number>;
  cooldown?: UpDown<string>;
  drain?: string;
  ready?: string;
  timeout?: string;
  addresses?: OneOrMany<string>;
  add: RawHook;
  remove: RawHook;
}

const COOLDOWN = { up: '5s', down: '60s' };
const READY = '60s';
const TIMEOUT = '30s';
const LONGEST_MS = 86_400_000;

function bothWays<T extends string | number>(raw: UpDown<T> | undefined, { up, down }: { readonly up: T; readonly down: T }): { readonly up: T; readonly down: T } {
  if (raw === undefined) return { up, down };
  return typeof raw === 'object' ? { up: raw.up ?? up, down: raw.down ?? down } : { up: raw, down: raw };
}

export function hook(raw: RawHook): HookConfig {
  if ('exec' in raw) return { kind: 'exec', command: many(raw.exec) };
  const { url, token } = typeof raw.http === 'string' ? { url: raw.http } : raw.http;
  return { kind: 'http', url, tokenFile: token?.file ?? null };
}

export function scale(raw: RawScale | undefined): ScaleConfig | null {
  if (raw === undefined) return null;
  const cooldown = bothWays(raw.cooldown, COOLDOWN);
  return {
    min: raw.min ?? 1,
    max: raw.max,
    metric: raw.metric ?? 'cpu',
    target: raw.target,
    step: bothWays(raw.step, { up: 1, down: 1 }),
    cooldownMs: { up: durationMs(cooldown.up), down: durationMs(cooldown.down) },
    drainMs: raw.drain === undefined ? null : durationMs(raw.drain),
    readyMs: durationMs(raw.ready ?? READY),
    timeoutMs: durationMs(raw.timeout ?? TIMEOUT),
    addresses: many(raw.addresses),
    add: hook(raw.add),
    remove: hook(raw.remove),
  };
}

/** Tolerates values of the wrong shape, which the schema complains of. */
export function checkScale(path: readonly PathStep[], raw: Record<string, unknown>, service: Record<string, unknown>, report: Report): void {
  const { min = 1, max } = raw;
  if (typeof min === 'number' && typeof max === 'number' && min > max) report([...path, 'min'], `expected at most max (${max}), found ${min}`, `at most ${max}`, min);
  checkTimes(path, raw, report);
  for (const key of ['add', 'remove'] as const) if (isObject(raw[key])) checkHook([...path, key], raw[key], report);
  const addresses = typeof raw['addresses'] === 'string' ? [raw['addresses']] : Array.isArray(raw['addresses']) ? raw['addresses'] : [];
  addresses.forEach((text: unknown, i) => {
    const range = typeof text === 'string' ? addressRange(text) : null;
    if (typeof range === 'string') report([...path, 'addresses', ...(Array.isArray(raw['addresses']) ? [i] : [])], range, 'an address, a range or a prefix', text);
  });
  const health = service['health'];
  const checked = isObject(health) && ['tcp', 'http', 'probe'].some((kind) => health[kind] !== undefined && health[kind] !== false);
  if (!checked) report(path, 'a new instance gets streams when it is healthy, so a service that scales has a check: add `health: {tcp: PORT}`, `{http: …}` or `{probe: true}`', 'health', undefined);
}

function checkTimes(path: readonly PathStep[], raw: Record<string, unknown>, report: Report): void {
  const times = (['drain', 'ready', 'timeout'] as const).map((key): [PathStep[], unknown] => [[...path, key], raw[key]]);
  const { cooldown } = raw;
  if (isObject(cooldown)) times.push([[...path, 'cooldown', 'up'], cooldown['up']], [[...path, 'cooldown', 'down'], cooldown['down']]);
  else times.push([[...path, 'cooldown'], cooldown]);
  for (const [at, value] of times) {
    if (typeof value !== 'string') continue;
    const ms = durationMs(value);
    if (ms < 100 || ms > LONGEST_MS) report(at, `expected a duration from 100ms to 24h, found ${JSON.stringify(value)}`, '100ms to 24h', value);
  }
}

export function checkHook(path: readonly PathStep[], raw: Record<string, unknown>, report: Report): void {
  const { exec, http } = raw;
  const program: unknown = Array.isArray(exec) ? exec[0] : exec;
  if (typeof program === 'string' && program.includes('/') && !isAbsolute(program)) report([...path, 'exec'], `expected an absolute path, or the name of a program in PATH, found "${program}": weir may run in another directory`, 'an absolute path', program);
  const url = isObject(http) ? http['url'] : http;
  if (typeof url === 'string') {
    const parsed = URL.canParse(url) ? new URL(url) : null;
    if (parsed === null || !['http:', 'https:'].includes(parsed.protocol)) report([...path, 'http'], `expected a URL such as http://10.0.0.9:8000/scale, found "${url}"`, 'an http or https URL', url);
    else if (parsed.username !== '' || parsed.password !== '') report([...path, 'http'], 'a URL with a password would be shown by `weir config`: put a token into a file (`http: {url: …, token: {file: …}}`)', 'a URL without a password', undefined);
  }
  const token = isObject(http) && isObject(http['token']) ? http['token']['file'] : undefined;
  if (typeof token === 'string' && !isAbsolute(token)) report([...path, 'http', 'token', 'file'], `expected an absolute path, found "${token}"`, 'an absolute path', token);
}
