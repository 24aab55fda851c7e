/** Mesh chains and the sync of state: what a schema can't say of them, and their defaults. */
import { canonical, isIpv4, parseAddress } from './address.js';
import type { MeshConfig } from './configuration.js';
import type { PathStep } from './document.js';
import { durationMs, many } from './forms.js';
import { entries, isObject, list, type Report } from './report.js';
import { policyLists } from './variant-checks.js';

export interface RawMesh {
  key: { file: string };
  port?: number;
  lease?: string;
}

/** UDP port that service nodes say hello to, unless the document says another. */
export const MESH_PORT = 4794;
const LEASE = '1s';
const SHORTEST_LEASE_MS = 50;
const LONGEST_LEASE_MS = 60_000;

export function mesh(raw: RawMesh | undefined, absolute: (file: string) => string): MeshConfig | null {
  if (raw === undefined) return null;
  return { keyFile: absolute(raw.key.file), port: raw.port ?? MESH_PORT, leaseMs: durationMs(raw.lease ?? LEASE) };
}

type Json = Readonly<Record<string, unknown>>;

const servicesOf = (chain: unknown): readonly unknown[] => (Array.isArray(chain) ? chain : isObject(chain) ? list(chain['services']) : []);

/** Tolerates values of the wrong shape. */
export function checkMesh(raw: Json, report: Report): void {
  const services = new Map(entries(raw['services']));
  const has = isObject(raw['mesh']);
  /** Of services whose instances everybody has to find by himself. */
  const why = new Map<string, string>();
  const needs = (path: readonly PathStep[], what: string): void => {
    if (!has) report(path, `${what} needs service nodes that are known by a key: add \`mesh: {key: {file: FILE}}\`, and give it to them with --mesh-key`, 'a key at mesh.key.file', undefined);
  };
  if (has) checkLease((raw['mesh'] as Json)['lease'], report);
  for (const [name, service] of services) {
    if (!isObject(service) || !['async', 'strict'].includes(String(service['sync']))) continue;
    needs(['services', name, 'sync'], 'sync');
    why.set(name, 'has a state that is kept twice');
  }
  for (const [name, chain] of entries(raw['chains'])) {
    if (!isObject(chain) || chain['return'] !== 'mesh') continue;
    const path: PathStep[] = ['chains', name];
    needs([...path, 'return'], 'a mesh chain');
    const encapsulation = chain['encapsulation'] ?? raw['encapsulation'] ?? 'nsh';
    if (encapsulation !== 'nsh') report([...path, 'encapsulation'], 'a mesh chain is stamped with nsh, whose header says how far a packet is; write "encapsulation: nsh"', 'nsh', encapsulation);
    if (chain['deliver'] === true) report([...path, 'deliver'], 'a chain that delivers ends at its last instance, so it can\'t be a mesh chain; make it "return: hub"', 'return: hub', true);
    servicesOf(chain).forEach((service, i) => {
      const one = services.get(String(service));
      if (!isObject(one)) return;
      if (one['affinity'] !== undefined && one['affinity'] !== '5-tuple') {
        report([...path, 'services', i], `service "${String(service)}" has the affinity ${String(one['affinity'])}, but on a mesh chain nodes find the next instance by the code in the stamp, which is that of the 5-tuple`, 'a service with affinity: 5-tuple', service);
      }
      why.set(String(service), 'is on a mesh chain');
    });
    checkFamilies(path, servicesOf(chain).map((service) => services.get(String(service))), report);
  }
  checkExits(raw, report);
  for (const [name, reason] of why) checkMembers(['services', name], services.get(name) as Json, reason, report);
}

/** A stamp says who opened the stream, not which side of the capture a packet came from. */
function checkExits(raw: Json, report: Report): void {
  const direct = new Set<unknown>();
  for (const [name, chain] of entries(raw['chains'])) {
    if (!isObject(chain) || chain['exit'] !== 'direct') continue;
    direct.add(name);
    if (chain['return'] !== 'mesh') report(['chains', name, 'exit'], 'only on a mesh chain does an instance know that it is the last one: add "return: mesh", or make it "exit: weir"', 'exit: weir', 'direct');
  }
  if (direct.size === 0) return;
  for (const { policies, path } of policyLists(raw)) {
    policies.forEach((policy, i) => {
      if (!isObject(policy) || !direct.has(policy['chain']) || !isObject(policy['match'])) return;
      const { direction } = policy['match'];
      if (direction === undefined) report([...path, i, 'match'], `chain "${String(policy['chain'])}" has "exit: direct", which is for streams that the workload opens: add "direction: out", and give the others a chain without it`, 'direction: out', undefined);
      else if (many(direction).some((one) => one !== 'out')) report([...path, i, 'match', 'direction'], `chain "${String(policy['chain'])}" has "exit: direct", which is for streams that the workload opens: give the others a chain without it`, 'out', direction);
    });
  }
}

function checkLease(lease: unknown, report: Report): void {
  if (typeof lease !== 'string') return;
  const ms = durationMs(lease);
  if (ms < SHORTEST_LEASE_MS || ms > LONGEST_LEASE_MS) report(['mesh', 'lease'], `expected a duration from ${SHORTEST_LEASE_MS}ms to 1m, found ${JSON.stringify(lease)}`, '50ms to 1m', lease);
}

function checkMembers(path: readonly PathStep[], service: Json, why: string, report: Report): void {
  list(service['instances']).forEach((instance, i) => {
    if (isObject(instance) && instance['attach'] !== undefined) report([...path, 'instances', i, 'attach'], `the service ${why}, so its instances have to be service nodes (\`weir node\`); give it an address in the place of "attach"`, 'an address', instance['attach']);
  });
  if (service['balancer'] === 'primary') report([...path, 'balancer'], `the service ${why}, and then everybody has to find the same instance for a stream: a primary node that directs streams can't`, 'forwarder', 'primary');
  if (service['placement'] !== undefined && service['placement'] !== 'hash') {
    report([...path, 'placement'], `the service ${why}, and then everybody has to find the same instance for a stream: only placement: hash says which`, 'hash', service['placement']);
  }
}

/** A node changes addresses where they stand, so they have to be of one length. */
function checkFamilies(path: readonly PathStep[], services: readonly unknown[], report: Report): void {
  const addresses = services.flatMap((service) => (isObject(service) ? list(service['instances']) : []).flatMap((instance) => (isObject(instance) && typeof instance['address'] === 'string' && parseAddress(instance['address']) !== null ? [canonical(instance['address'])] : [])));
  const other = addresses.find((address) => isIpv4(address) !== isIpv4(addresses[0] ?? address));
  if (other !== undefined) report([...path, 'services'], `${addresses[0]} and ${other} are of different families, and on a mesh chain instances send to each other: give all of them addresses of one`, 'addresses of one family', other);
}
