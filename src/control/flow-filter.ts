/** Filters of `flows` that can match nothing are refused: an empty table would say that there are no such streams. */
import { canonical, parseAddress } from '../config/address.js';
import { nearest } from '../config/nearest.js';
import { ChangeRefused } from '../config/refused.js';
import type { Dataplane } from '../dataplane/dataplane.js';
import type { FlowFilter } from '../dataplane/views.js';
import { instanceKey } from '../program/compile.js';
import { INVALID_PARAMS, RpcError } from './protocol.js';

/** Of a service with hundreds of instances not all are listed. */
const MOST_NAMED = 20;

function known(what: string, name: string, names: readonly string[], path: string): void {
  if (names.includes(name)) return;
  const near = nearest(name, names);
  const listed = names.length > MOST_NAMED ? `${names.slice(0, MOST_NAMED).join(', ')} and ${names.length - MOST_NAMED} more` : names.join(', ') || 'none';
  throw new ChangeRefused(`there is no ${what} "${name}"; ${near === null ? `there are: ${listed}` : `did you mean "${near}"?`}`, path);
}

/** The filter as addresses of streams are written. What is ending is there, too. Throws a ChangeRefused or an RpcError. */
export function flowFilter(dataplane: Pick<Dataplane, 'whole' | 'paths'>, filter: FlowFilter): FlowFilter {
  const { chain, instance, address } = filter;
  const { chains, services } = dataplane.whole;
  if (chain !== undefined) known('chain', chain, [...new Set([...chains.map(({ name }) => name), ...dataplane.paths.all().map((path) => path.chain)])], 'chain');
  if (instance !== undefined) known('instance', instance, services.flatMap((service) => service.instances.map(({ name }) => instanceKey(service.name, name))), 'instance');
  if (address === undefined) return filter;
  if (parseAddress(address) === null) throw new RpcError(INVALID_PARAMS, `address: expected a whole IP address such as 10.1.0.2 or fd01::2, found "${address}"`, { path: 'address', expected: 'an IP address', found: address });
  return { ...filter, address: canonical(address) };
}
