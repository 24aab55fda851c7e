/** Chains that deliver: their last service keeps the packets and answers by itself, for virtual addresses that no host of the captures has. */
import { createHash } from 'node:crypto';
import { formatAddress, notOneHost, parseAddress, parsePrefix, type Prefix } from './address.js';
import type { Configuration } from './configuration.js';
import { PathsOnly, type PathStep } from './document.js';
import type { ConfigError } from './errors.js';
import { many } from './forms.js';
import type { RawChain, RawConfiguration, RawPolicy, RawService } from './normalise.js';
import { entries, isObject, list, type Report } from './report.js';
import { ownAddressesIn, takenBy } from './underlays.js';
import { policyLists } from './variant-checks.js';

/** What the schema has admitted, or something else: each value is looked at before it is used. */
export function checkVirtualServices(raw: RawConfiguration, report: Report): void {
  const services = isObject(raw.services) ? (raw.services as Record<string, unknown>) : {};
  const delivering = new Set<string>();
  const taken = takenAddresses(raw, services);
  for (const [name, chain] of entries(raw.chains)) {
    if (!isObject(chain)) continue;
    const { deliver, virtual_addresses: addresses, answers } = chain as Partial<RawChain>;
    checkAddresses(list(addresses), ['chains', name, 'virtual_addresses'], name, taken, report);
    if (deliver !== true) {
      if (addresses !== undefined) report(['chains', name, 'virtual_addresses'], 'only a chain that delivers has virtual addresses: add "deliver: true", or take them out', 'deliver: true', addresses);
      continue;
    }
    delivering.add(name);
    if (answers !== undefined) report(['chains', name, 'answers'], 'a chain that delivers has no answers to order: its last service answers by itself; take "answers" out', 'nothing', answers);
    const hops = list(chain['services']);
    const last = hops.at(-1);
    // That it has one is asked of every chain.
    const service = typeof last === 'string' && Object.hasOwn(services, last) ? services[last] : undefined;
    if (isObject(service) && (service as Partial<RawService>).fail === 'open') {
      report(['chains', name, 'services', hops.length - 1], `service "${String(last)}" has "fail: open", but nobody else has what this chain delivers: with no instance left there is nowhere to go on to; make it "fail: closed"`, 'a service with fail: closed', last);
    }
    const passive = isObject(service) && isObject(service['health']) && isObject(service['health']['passive']) ? service['health']['passive'] : {};
    if (typeof passive['silent'] === 'number') {
      report(['services', String(last), 'health', 'passive', 'silent'], `chain "${name}" ends at this service, which therefore returns nothing: silence says nothing of its instances; make it "off"`, 'off', passive['silent']);
    }
    const attached = list(isObject(service) ? service['instances'] : []).find((instance) => isObject(instance) && instance['attach'] !== undefined) as { name?: unknown } | undefined;
    if (attached !== undefined) {
      report(['chains', name, 'services', hops.length - 1], `instance ${String(last)}/${String(attached.name)} is attached without stamps, and a chain that delivers ends at instances that take the stamp off: give it an address on the underlay instead`, 'instances with an address', last);
    }
  }
  if (delivering.size === 0) return;
  const own = ownAddressesIn(raw.underlay).map(({ bytes }) => bytes);
  for (const { policies, path } of policyLists(raw as unknown as Record<string, unknown>)) checkPolicies(policies, path, delivering, own, report);
}

function takenAddresses(raw: RawConfiguration, services: Readonly<Record<string, unknown>>): Map<string, string> {
  const taken = takenBy(raw.underlay);
  const take = (text: unknown, owner: string): void => {
    const bytes = typeof text === 'string' ? parseAddress(text) : null;
    if (bytes !== null) taken.set(formatAddress(bytes), owner);
  };
  for (const [name, service] of Object.entries(services)) {
    for (const instance of list(isObject(service) ? service['instances'] : [])) if (isObject(instance)) take(instance['address'], `${name}/${String(instance['name'])}`);
  }
  return taken;
}

function checkAddresses(addresses: readonly unknown[], path: readonly PathStep[], chain: string, taken: Map<string, string>, report: Report): void {
  addresses.forEach((text, i) => {
    if (typeof text !== 'string') return;
    const bytes = parseAddress(text);
    const kind = bytes === null ? null : notOneHost(bytes);
    if (bytes === null) return report([...path, i], `expected an IP address, found "${text}"`, 'an IP address', text);
    if (kind !== null) return report([...path, i], `expected the address of one host, found "${text}", which is ${kind}`, 'the address of one host', text);
    const owner = taken.get(formatAddress(bytes));
    if (owner !== undefined) return report([...path, i], `address "${text}" is already used by ${owner}`, 'an address of its own', text);
    taken.set(formatAddress(bytes), `chain ${chain}`);
  });
}

function checkPolicies(policies: readonly unknown[], base: readonly PathStep[], delivering: ReadonlySet<string>, own: readonly Uint8Array[], report: Report): void {
  policies.forEach((policy, i) => {
    const { chain, match } = (isObject(policy) ? policy : {}) as Partial<RawPolicy>;
    if (chain === undefined || !delivering.has(chain) || !isObject(match)) return;
    const destinations = many((match as RawPolicy['match']).destination);
    if (destinations.length === 0) {
      report([...base, i, 'match'], `chain "${chain}" delivers, so only what is for its virtual addresses may take it: say which, as "destination"`, 'a destination', match);
    }
    destinations.forEach((text, at) => {
      const prefix = typeof text === 'string' ? parsePrefix(text) : '';
      const met = typeof prefix === 'string' ? undefined : own.find((address) => within(prefix, address));
      if (met === undefined) return;
      const place = Array.isArray((match as RawPolicy['match']).destination) ? ['destination', at] : ['destination'];
      report([...base, i, 'match', ...place], `"${text}" has ${formatAddress(met)} in it, which is the underlay's own address: what instances send back to it would be delivered to them again`, "virtual addresses, not the underlay's", text);
    });
  });
}

function within({ bytes, length }: Prefix, address: Uint8Array): boolean {
  for (let bit = 0; bit < length; bit += 8) {
    const difference = (bytes[bit >> 3] ?? 0) ^ (address[bit >> 3] ?? 0);
    if (difference >> Math.max(0, 8 - (length - bit)) !== 0) return false;
  }
  return true;
}

/** Services whose instances return nothing, since a chain ends there. */
export function endingServices(chains: RawConfiguration['chains']): ReadonlySet<string> {
  return new Set(entries(chains).flatMap(([, chain]) => (isObject(chain) && chain['deliver'] === true ? list(chain['services']).slice(-1).map(String) : [])));
}

/** What a document can't know: the addresses that the interfaces of underlays have. */
export function checkUnderlayOverlap({ source, chains }: Configuration, addresses: readonly (string | null)[]): ConfigError[] {
  const delivering = new Set(chains.filter((chain) => chain.deliver).map((chain) => chain.name));
  if (delivering.size === 0) return [];
  const own = addresses.flatMap((address) => (address === null ? [] : (parseAddress(address) ?? [])));
  const places = new PathsOnly(source.file);
  const errors: ConfigError[] = [];
  const report: Report = (path, message, expected, found) => void errors.push(places.error(path, message, expected, found));
  for (const { policies, path } of policyLists(source.document)) checkPolicies(policies, path, delivering, own, report);
  const texts = new Set(own.map(formatAddress));
  for (const chain of chains) {
    chain.virtualAddresses.forEach((address, i) => {
      if (texts.has(address)) report(['chains', chain.name, 'virtual_addresses', i], `address "${address}" is already used by the underlay`, 'an address of its own', address);
    });
  }
  return errors;
}

/** Locally administered, and the same wherever and whenever it is asked for. */
export function virtualMac(address: string): string {
  const digest = createHash('sha256').update(`virtual address ${address}`).digest('hex');
  return ['02', ...(digest.slice(0, 10).match(/../g) ?? [])].join(':');
}
