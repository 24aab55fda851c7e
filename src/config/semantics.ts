/** What a schema can't say: references, duplicates, impossible prefixes and ranges. Tolerates a value of the wrong shape. */
import { formatAddress, notOneHost, parseAddress, parsePrefix } from './address.js';
import type { PathStep, Places } from './document.js';
import type { ConfigError } from './errors.js';
import { checkHealth } from './health.js';
import { MAX_DURATION_MS, MAX_HOPS } from './limits.js';
import { isKnownGood } from './known.js';
import { checkPlacement } from './placement.js';
import { checkScale } from './scale.js';
import { checkGroups } from './group-checks.js';
import { checkMetrics } from './listen.js';
import { checkMesh } from './mesh.js';
import { nearest } from './nearest.js';
import { isObject, list, entries, type Report } from './report.js';
import { PROTOCOLS, durationMs, many, portRange, type RawConfiguration, type RawMatch } from './normalise.js';
import { checkAttachments } from './attach-checks.js';
import { checkFragments, checkUnderlayNames, ownAddressesIn, underlayTitle, underlaysIn } from './underlays.js';
import { checkVariants } from './variant-checks.js';
import { checkVirtualServices } from './virtual-services.js';

/** `wrong`: paths that the schema has complained of already. */
export function checkMeaning(places: Places, raw: RawConfiguration, wrong: ReadonlySet<string>): ConfigError[] {
  const errors: ConfigError[] = [];
  const report: Report = (path, message, expected, found) => {
    const error = places.error(path, message, expected, found);
    if (!wrong.has(error.path)) errors.push(error);
  };
  checkCaptures(raw, report);
  checkUnderlay(raw, report);
  checkServices(raw, report);
  checkAttachments(raw, report);
  checkChains(raw, report);
  checkPolicies(raw.policies, ['policies'], raw, report);
  checkVirtualServices(raw, report);
  checkMesh(raw as unknown as Record<string, unknown>, report);
  checkVariants(raw as unknown as Record<string, unknown>, {
    report,
    unknownName: (path, what, name, known) => unknownName(report, path, what, name, known),
    duration: (path, value) => checkDuration(path, value, report),
    unique: unique(report, 'name'),
    policies: (value, path) => checkPolicies(value, path, raw, report),
  });
  checkGroups(raw, report);
  checkMetrics(raw.metrics, report);
  for (const [key, value] of entries(raw.flows?.idle)) checkDuration(['flows', 'idle', key], value, report);
  return errors;
}

function checkDuration(path: readonly PathStep[], value: unknown, report: Report): void {
  if (typeof value !== 'string') return;
  const ms = durationMs(value);
  if (ms === 0) report(path, `expected a duration longer than 0, found "${value}"`, 'more than 0', value);
  if (ms > MAX_DURATION_MS) report(path, `expected a duration of at most a year, found "${value}"`, 'at most 8760h', value);
}

/** An address that one host can have: its canonical text, or null after saying what is wrong. */
function checkHost(path: readonly PathStep[], value: unknown, report: Report): string | null {
  if (typeof value !== 'string') return null;
  const bytes = parseAddress(value);
  const kind = bytes === null ? null : notOneHost(bytes);
  if (bytes === null) report(path, `expected an IP address, found "${value}"`, 'an IP address', value);
  else if (kind !== null) report(path, `expected the address of one host, found "${value}", which is ${kind}`, 'the address of one host', value);
  return bytes === null || kind !== null ? null : formatAddress(bytes);
}

/** Says of each repeated value where it stood first. */
function unique(report: Report, what: string) {
  const first = new Map<unknown, string>();
  return (path: readonly PathStep[], value: unknown, owner: string): void => {
    if (value === undefined) return;
    const before = first.get(value);
    if (before !== undefined) report(path, `${what} ${JSON.stringify(value)} is already used by ${before}`, `a ${what} of its own`, value);
    else first.set(value, owner);
  };
}

function checkCaptures(raw: RawConfiguration, report: Report): void {
  const names = unique(report, 'name');
  const interfaces = unique(report, 'interface');
  const tenants = unique(report, 'tenant');
  for (const { underlay, path } of underlaysIn(raw.underlay)) interfaces([...path, 'interface'], underlay['interface'], underlayTitle(underlay));
  list(raw.captures).forEach((capture, i) => {
    if (!isObject(capture)) return;
    const owner = `capture ${String(capture['name'])}`;
    names(['captures', i, 'name'], capture['name'], owner);
    interfaces(['captures', i, 'in'], capture['in'], `${owner} (in)`);
    interfaces(['captures', i, 'out'], capture['out'], `${owner} (out)`);
    tenants(['captures', i, 'tenant'], capture['tenant'], owner);
  });
}

function checkUnderlay(raw: RawConfiguration, report: Report): void {
  const all = underlaysIn(raw.underlay);
  for (const { underlay, path } of all) checkHost([...path, 'address'], underlay['address'], report);
  checkFragments(raw.underlay, report);
  checkUnderlayNames(raw, { report, unknownName: (path, what, name, known) => unknownName(report, path, what, name, known), unique: (what) => unique(report, what) });
  if (all.length > 0) return;
  // Only a service whose instances are all attached does without.
  const attached = new Set(entries(raw.services).flatMap(([name, service]) => {
    const instances = list(isObject(service) ? service['instances'] : []);
    return instances.length > 0 && instances.every((instance) => isObject(instance) && instance['attach'] !== undefined) ? [name] : [];
  }));
  const steps = entries(raw.chains).filter(([, chain]) => chainServices(chain).some((service) => !attached.has(String(service))));
  if (steps.length > 0) report(['chains', steps[0]?.[0] ?? ''], 'a chain with services needs an underlay to reach them: add `underlay: {interface: NAME}`', 'an underlay', undefined);
}

function checkServices(raw: RawConfiguration, report: Report): void {
  const addresses = unique(report, 'address');
  for (const { bytes, owner, path } of ownAddressesIn(raw.underlay)) addresses(path, formatAddress(bytes), owner);
  for (const [name, service] of entries(raw.services)) {
    const names = unique(report, 'name');
    list(isObject(service) ? service['instances'] : []).forEach((instance, i) => {
      if (!isObject(instance)) return;
      const path = ['services', name, 'instances', i];
      names([...path, 'name'], instance['name'], `another instance of ${name}`);
      const address = checkHost([...path, 'address'], instance['address'], report);
      if (address !== null) addresses([...path, 'address'], address, `${name}/${String(instance['name'])}`);
    });
    if (isObject(service) && isObject(service['health'])) checkHealth(['services', name, 'health'], service['health'], list(service['instances']), report);
    if (isObject(service) && isObject(service['placement'])) checkPlacement(['services', name, 'placement'], service['placement'], report);
    if (isObject(service) && isObject(service['scale'])) checkScale(['services', name, 'scale'], service['scale'], service, report);
  }
}

function chainServices(chain: unknown): readonly unknown[] {
  return Array.isArray(chain) ? chain : isObject(chain) ? list(chain['services']) : [];
}

export function unknownName(report: Report, path: readonly PathStep[], what: string, name: unknown, known: ReadonlySet<string>): void {
  if (typeof name !== 'string' || known.has(name)) return;
  const names = [...known];
  const near = nearest(name, names);
  const hint = near !== null ? `did you mean "${near}"?` : names.length > 0 ? `there are: ${names.join(', ')}` : `there are none`;
  report(path, `there is no ${what} "${name}"; ${hint}`, `the name of a ${what}`, name);
}

function checkChains(raw: RawConfiguration, report: Report): void {
  const services = new Set(Object.keys(isObject(raw.services) ? raw.services : {}));
  for (const [name, chain] of entries(raw.chains)) {
    const base: PathStep[] = Array.isArray(chain) ? ['chains', name] : ['chains', name, 'services'];
    const { length } = chainServices(chain);
    if (length > MAX_HOPS) report(base, `expected at most ${MAX_HOPS} services, found ${length}`, `at most ${MAX_HOPS}`, length);
    const seen = new Set<unknown>();
    chainServices(chain).forEach((service, i) => {
      unknownName(report, [...base, i], 'service', service, services);
      if (seen.has(service)) report([...base, i], `service "${String(service)}" is on this chain already; a chain visits each service once`, 'another service', service);
      seen.add(service);
    });
  }
}

function checkPolicies(policies: unknown, base: readonly PathStep[], raw: RawConfiguration, report: Report): void {
  const names = new Set<unknown>();
  const chains = new Set(Object.keys(isObject(raw.chains) ? raw.chains : {}));
  const captures = new Set(list(raw.captures).flatMap((capture) => (isObject(capture) && typeof capture['name'] === 'string' ? [capture['name']] : [])));
  list(policies).forEach((policy, i) => {
    if (!isObject(policy)) return;
    const { name, chain } = policy;
    const taken = name !== undefined && names.has(name);
    names.add(name);
    const knownGood = isKnownGood(policy);
    // Most of a large document's: no path is made for what is not wrong.
    if (knownGood && !taken && (chain === undefined || chains.has(chain as string)) && (policy['match'] as RawMatch).capture === undefined) return;
    const path: PathStep[] = [...base, i];
    if (taken) report([...path, 'name'], `name ${JSON.stringify(name)} is already used by another policy`, 'a name of its own', name);
    unknownName(report, [...path, 'chain'], 'chain', policy['chain'], chains);
    if (knownGood) {
      checkCaptureNames((policy['match'] as RawMatch).capture, [...path, 'match'], captures, report);
      return;
    }
    if ((policy['chain'] === undefined) === (policy['action'] === undefined)) {
      report(path, 'expected either "chain" or "action: pass | drop"', 'chain or action', policy['chain'] === undefined ? undefined : 'both');
    }
    if (isObject(policy['match'])) checkMatch(policy['match'] as RawMatch, [...path, 'match'], captures, report);
  });
}

function checkCaptureNames(names: unknown, path: readonly PathStep[], captures: ReadonlySet<string>, report: Report): void {
  if (Array.isArray(names)) names.forEach((name, i) => unknownName(report, [...path, 'capture', i], 'capture', name, captures));
  else if (names !== undefined) unknownName(report, [...path, 'capture'], 'capture', names, captures);
}

/** Prefixes, port ranges and names of captures in a match; `path` is where it stands. */
export function checkMatch(match: RawMatch, path: readonly PathStep[], captures: ReadonlySet<string>, report: Report): void {
  const each = (key: keyof RawMatch, check: (at: PathStep[], value: unknown) => void): void => {
    const value = match[key] as unknown;
    if (Array.isArray(value)) value.forEach((item, i) => check([...path, key, i], item));
    else if (value !== undefined) check([...path, key], value);
  };
  checkCaptureNames(match.capture, path, captures, report);
  for (const key of ['source', 'destination'] as const) {
    each(key, (at, value) => {
      const prefix = typeof value === 'string' ? parsePrefix(value) : null;
      if (typeof prefix === 'string') report(at, prefix, 'a prefix', value);
    });
  }
  const numbers = many(match.protocol).map((protocol) => (typeof protocol === 'number' ? protocol : PROTOCOLS[String(protocol)]));
  for (const key of ['source_port', 'destination_port'] as const) {
    each(key, (at, value) => {
      if (typeof value !== 'number' && typeof value !== 'string') return;
      const range = portRange(value);
      if (range.low > 65535 || range.high > 65535) report(at, `expected ports from 0 to 65535, found ${JSON.stringify(value)}`, '0-65535', value);
      else if (range.low > range.high) report(at, `the range runs backwards; did you mean "${range.high}-${range.low}"?`, 'low-high', value);
    });
    if (match[key] !== undefined && numbers.length > 0 && !numbers.some((n) => n === undefined || n === 6 || n === 17)) {
      report([...path, key], 'only tcp and udp have ports, so this policy could never match', 'protocol: tcp or udp', match.protocol);
    }
  }
}
