/** What of an `appliance:` document a schema can't say: names and addresses that clash, layouts that can't be. */
import { canonical, isIpv4, notOneHost, parseAddress } from '../config/address.js';
import type { PathStep } from '../config/document.js';
import { durationMs } from '../config/forms.js';
import { isObject, list, type Report } from '../config/report.js';
import { checkHook } from '../config/scale.js';
import { BUILT_IN, PASS } from '../service/functions/built-in.js';

type Json = Readonly<Record<string, unknown>>;

/** Tolerates values of the wrong shape, which the schema complains of. */
export function checkAppliance(raw: unknown, report: Report): void {
  if (!isObject(raw)) return;
  for (const kind of ['managers', 'dispatchers', 'units'] as const) checkMembers(kind, list(raw[kind]), report);
  checkTogether(raw, report);
  checkFunction(raw, report);
  if (isObject(raw['layout'])) checkLayout(raw['layout'], list(raw['units']).filter(isObject), report);
}

/** One form for each address, so that two ways of writing it are the same. Null: it is none. */
const plain = (value: unknown): string | null => (typeof value === 'string' && parseAddress(value) !== null ? canonical(value) : null);

function checkMembers(kind: 'managers' | 'dispatchers' | 'units', members: readonly unknown[], report: Report): void {
  const one = { managers: 'manager', dispatchers: 'dispatcher', units: 'unit' }[kind];
  const names = new Map<unknown, number>();
  const addresses = new Map<string, string>();
  members.forEach((member, i) => {
    if (!isObject(member)) return;
    const { name, address } = member;
    const before = names.get(name);
    if (before !== undefined) report([kind, i, 'name'], `there is a ${one} "${String(name)}" already (${kind}[${before}])`, 'another name', name);
    else names.set(name, i);
    if (typeof address !== 'string') return;
    const bytes = parseAddress(address);
    const wrong = bytes === null ? 'it is no IP address' : notOneHost(bytes);
    if (wrong !== null) return report([kind, i, 'address'], `expected an address of one host, found "${address}": ${wrong}`, 'an IP address', address);
    const key = `${canonical(address)}${kind === 'managers' ? ` ${String(member['port'] ?? '')}` : ''}`;
    const other = addresses.get(key);
    if (other !== undefined) report([kind, i, 'address'], `${one} "${other}" has the address ${address} too: stamped packets and answers could not be told apart`, 'another address', address);
    else addresses.set(key, String(name));
  });
}

/** A unit passes packets on under the dispatcher's address, so all of them need one family; and nobody can be both. */
function checkTogether(raw: Json, report: Report): void {
  const dispatchers = new Map(list(raw['dispatchers']).filter(isObject).flatMap(({ name, address }) => (plain(address) === null ? [] : [[plain(address), String(name)] as const])));
  const families = new Set<boolean>();
  for (const kind of ['dispatchers', 'units'] as const) {
    list(raw[kind]).forEach((member, i) => {
      const address = isObject(member) ? plain(member['address']) : null;
      if (address === null) return;
      if (kind === 'units' && dispatchers.has(address)) report([kind, i, 'address'], `dispatcher "${dispatchers.get(address)}" has this address: a host is one or the other`, 'another address', address);
      families.add(isIpv4(address));
      if (families.size > 1) {
        report([kind, i, 'address'], 'dispatchers and units pass packets on to each other, so all their addresses are IPv4 or all are IPv6', 'an address of the same family as the others', address);
        families.delete(isIpv4(address));
      }
    });
  }
}

function checkFunction(raw: Json, report: Report): void {
  const name = raw['function'] ?? PASS;
  if (typeof name !== 'string') return;
  if (name === 'deliver') return report(['function'], 'units return packets to their dispatcher, and deliver keeps them', 'another function', name);
  const known = [PASS, ...Object.keys(BUILT_IN)];
  if (!known.includes(name) && !name.startsWith('/')) report(['function'], `there is no function "${name}"; built in: ${known.join(', ')}; or the absolute path of a module`, known.join(', '), name);
  const given = raw['settings'] !== undefined || list(raw['units']).some((unit) => isObject(unit) && unit['settings'] !== undefined);
  if (name === PASS && given) report(['settings'], 'the function pass takes no settings', 'no settings, or another function', raw['settings']);
}

function checkLayout(layout: Json, units: readonly Json[], report: Report): void {
  const path = (key: string): PathStep[] => ['layout', key];
  const { min, max, start, per_host: perHost, thresholds } = layout;
  const number = (value: unknown): value is number => typeof value === 'number';
  if (number(min) && number(max) && min > max) report(path('min'), `expected at most max (${max}), found ${min}`, `at most ${max}`, min);
  if (number(start) && ((number(min) && start < min) || (number(max) && start > max))) report(path('start'), `expected a number from min (${String(min)}) to max (${String(max)}), found ${start}`, 'min to max', start);
  const hosts = new Map<unknown, number>();
  for (const unit of units) hosts.set(unit['host'] ?? unit['name'], (hosts.get(unit['host'] ?? unit['name']) ?? 0) + 1);
  const room = [...hosts.values()].reduce((sum, count) => sum + (number(perHost) ? Math.min(perHost, count) : count), 0);
  if (number(max) && units.length > 0 && max > room) {
    const why = number(perHost) && room < units.length ? `${units.length} units on ${hosts.size} hosts with at most ${perHost} each are ${room}` : `there are ${units.length} units`;
    report(path('max'), `expected at most ${room}, found ${max}: ${why}`, `at most ${room}`, max);
  }
  if (number(perHost) && units.length > 0 && units.every((unit) => unit['host'] === undefined)) report(path('per_host'), 'no unit says its host, so a limit for each host limits nothing: add `host` to the units', 'units with host', perHost);
  if (isObject(thresholds)) {
    const { add_above: high, remove_below: low } = thresholds;
    if (number(high) && number(low) && low >= high) report([...path('thresholds'), 'remove_below'], `expected less than add_above (${high}), found ${low}: units would come and go at once`, `less than ${high}`, low);
    if (number(min) && min === max) report(path('thresholds'), `min and max are both ${min}, so thresholds can change nothing`, 'a max over min, or no thresholds', undefined);
  }
  if ((layout['add'] === undefined) !== (layout['remove'] === undefined)) report(path(layout['add'] === undefined ? 'remove' : 'add'), 'add and remove belong together: what starts units also ends them', 'both or none', undefined);
  for (const key of ['add', 'remove'] as const) if (isObject(layout[key])) checkHook(path(key), layout[key], report);
  checkTimes(layout, path, report);
}

function checkTimes(layout: Json, path: (key: string) => PathStep[], report: Report): void {
  const thresholds = isObject(layout['thresholds']) ? layout['thresholds'] : {};
  for (const [at, value, low, high, range] of [
    [path('lease'), layout['lease'], 200, 60_000, '200ms to 1m'],
    [path('drain'), layout['drain'], 100, 86_400_000, '100ms to 24h'],
    [[...path('thresholds'), 'for'], thresholds['for'], 100, 86_400_000, '100ms to 24h'],
  ] as const) {
    if (typeof value !== 'string' || !/^[0-9]+(ms|s|m|h)$/.test(value)) continue;
    const ms = durationMs(value);
    if (ms < low || ms > high) report(at, `expected a duration from ${range}, found ${JSON.stringify(value)}`, range, value);
  }
}
