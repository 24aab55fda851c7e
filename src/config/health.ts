/** `health:` of a service: the document's form, its defaults, and what a schema can't say of it. */
import type { Encapsulation } from '../dataplane/native.js';
import type { HealthCheck, HealthConfig, PassiveConfig, PortRange } from './configuration.js';
import type { PathStep } from './document.js';
import { durationMs } from './forms.js';
import { isObject, type Report } from './report.js';

export interface RawHealth {
  tcp?: number;
  http?: { port: number; path?: string; status?: number | string };
  probe?: boolean | { encapsulation?: Encapsulation };
  passive?: boolean | { unreachable?: number | 'off'; silent?: number | 'off'; recheck?: string };
  interval?: string;
  timeout?: string;
  rise?: number;
  fall?: number;
}

/** Three misses in a row, each after half a second, are noticed within two seconds. */
const INTERVAL_MS = 500;
const TIMEOUT_MS = 500;
const SHORTEST_MS = 10;
const LONGEST_MS = 3_600_000;

export const STATUS_PATTERN = '^[1-5][0-9]{2}(-[1-5][0-9]{2})?$';

function statusRange(status: number | string): PortRange {
  const [low = '', high = low] = String(status).split('-');
  return { low: Number(low), high: Number(high) };
}

function check({ tcp, http, probe }: RawHealth): HealthCheck | null {
  if (tcp !== undefined) return { kind: 'tcp', port: tcp };
  if (http !== undefined) return { kind: 'http', port: http.port, path: http.path ?? '/', status: statusRange(http.status ?? '200-299') };
  if (probe === undefined || probe === false) return null;
  return { kind: 'probe', encapsulation: (probe === true ? undefined : probe.encapsulation) ?? null };
}

function passive(raw: RawHealth['passive']): PassiveConfig | null {
  if (raw === undefined || raw === false) return null;
  const { unreachable = 3, silent = 1000, recheck = '5s' } = raw === true ? {} : raw;
  return { unreachable: unreachable === 'off' ? null : unreachable, silent: silent === 'off' ? null : silent, recheckMs: durationMs(recheck) };
}

export function health(raw: RawHealth): HealthConfig {
  const intervalMs = durationMs(raw.interval ?? `${INTERVAL_MS}ms`);
  return {
    check: check(raw),
    passive: passive(raw.passive),
    intervalMs,
    timeoutMs: raw.timeout === undefined ? Math.min(TIMEOUT_MS, intervalMs) : durationMs(raw.timeout),
    rise: raw.rise ?? 2,
    fall: raw.fall ?? 3,
  };
}

const KINDS = ['tcp', 'http', 'probe'] as const;

/** Tolerates values of the wrong shape, which the schema complains of. */
export function checkHealth(path: readonly PathStep[], raw: Record<string, unknown>, instances: readonly unknown[], report: Report): void {
  const kinds = KINDS.filter((kind) => raw[kind] !== undefined && raw[kind] !== false);
  if (kinds.length > 1) report([...path, kinds[1] ?? ''], `a service has one kind of check, and this one has ${kinds.join(' and ')}`, 'tcp, http or probe', raw[kinds[1] ?? '']);
  if (kinds.length === 0 && (raw['passive'] === undefined || raw['passive'] === false)) report(path, 'nothing is checked: expected one of tcp, http, probe, or passive', 'tcp, http, probe or passive', undefined);
  instances.forEach((instance, i) => {
    if (!isObject(instance) || instance['attach'] === undefined) return;
    const at = [...path.slice(0, -1), 'instances', i];
    if (kinds.includes('probe')) report(at, 'an instance with "attach" gets no stamped packets, so it can\'t be probed: check it by tcp, http or passive', 'tcp, http or passive', undefined);
    else if (kinds.length > 0 && instance['address'] === undefined) report(at, `\`health: {${kinds[0] ?? ''}: …}\` needs an address: give the instance one that it answers at`, 'an address', undefined);
  });
  const intervalMs = typeof raw['interval'] === 'string' ? durationMs(raw['interval']) : INTERVAL_MS;
  const timeoutMs = typeof raw['timeout'] === 'string' ? durationMs(raw['timeout']) : Math.min(TIMEOUT_MS, intervalMs);
  if (intervalMs < SHORTEST_MS || intervalMs > LONGEST_MS) report([...path, 'interval'], `expected an interval from ${SHORTEST_MS}ms to 1h, found ${JSON.stringify(raw['interval'])}`, '10ms to 1h', raw['interval']);
  else if (timeoutMs === 0) report([...path, 'timeout'], `expected a duration longer than 0, found ${JSON.stringify(raw['timeout'])}`, 'more than 0', raw['timeout']);
  else if (timeoutMs > intervalMs) {
    report([...path, 'timeout'], `a check must be over before the next one begins: expected at most the interval (${intervalMs}ms), found ${JSON.stringify(raw['timeout'])}`, `at most ${intervalMs}ms`, raw['timeout']);
  }
  const http = raw['http'];
  if (http !== null && typeof http === 'object') checkHttp([...path, 'http'], http as Record<string, unknown>, report);
  const watched = raw['passive'];
  if (watched !== null && typeof watched === 'object') checkPassive([...path, 'passive'], watched as Record<string, unknown>, report);
}

function checkHttp(path: readonly PathStep[], { status, path: target }: Record<string, unknown>, report: Report): void {
  if (typeof status === 'string' && new RegExp(STATUS_PATTERN).test(status)) {
    const { low, high } = statusRange(status);
    if (low > high) report([...path, 'status'], `the range runs backwards; did you mean "${high}-${low}"?`, 'low-high', status);
  }
  if (typeof target === 'string' && /[^\x21-\x7e]/.test(target)) report([...path, 'path'], 'expected a path without blanks and special characters: encode them (%20)', 'a path', target);
}

function checkPassive(path: readonly PathStep[], { unreachable, silent, recheck }: Record<string, unknown>, report: Report): void {
  if (unreachable === 'off' && silent === 'off') report(path, 'both signals are off: leave "passive" out', 'one of unreachable and silent', undefined);
  if (typeof recheck !== 'string') return;
  const ms = durationMs(recheck);
  if (ms < 100 || ms > LONGEST_MS) report([...path, 'recheck'], `expected a duration from 100ms to 1h, found ${JSON.stringify(recheck)}`, '100ms to 1h', recheck);
}
