/** A dataplane as scaling sees it. */
import { canonical, notOneHost, parseAddress } from '../config/address.js';
import type { Logger } from '../observe/log.js';
import { WEIR } from '../observe/who.js';
import type { ScaleHost } from '../scale/host.js';
import type { Dataplane } from './dataplane.js';
import { ownAddresses } from './host.js';

/** `admit` makes the scaler's members part of the program. */
export function scaleHost(dataplane: Dataplane, admit: ScaleHost['admit'], log: Logger): ScaleHost {
  return {
    stateOf: (key) => dataplane.stateOf(key),
    setStateOf: (key) => dataplane.setStateOf(key),
    causeOf: (key) => dataplane.health.view(key)?.cause ?? 'nothing checks it',
    streamsAt: (key) => dataplane.placement.balancer.measured(key)?.streams ?? 0,
    loadOf: (key, metric) => dataplane.placement.balancer.loadOf(key, metric),
    setInstance: (service, instance, state, deadlineMs) => dataplane.setInstance(service, instance, state, deadlineMs, WEIR),
    admit,
    notFree: (address) => notFree(dataplane, address),
    canonical,
    tell: (event) => void dataplane.events.emit(event),
    warn: (text) => log.warn(text),
    info: (text) => log.info(text),
  };
}

function notFree({ host, whole }: Dataplane, address: string): string | null {
  const bytes = parseAddress(address);
  if (bytes === null) return 'that is no IP address';
  const kind = notOneHost(bytes);
  if (kind !== null) return `that is ${kind}`;
  const text = canonical(address);
  if (ownAddresses(host).includes(text)) return 'that is an address of this host';
  for (const service of whole.services) {
    const holder = service.instances.find((instance) => instance.address === text);
    if (holder !== undefined) return `that is ${service.name}/${holder.name}'s address`;
  }
  const virtual = whole.chains.find((chain) => chain.virtualAddresses.includes(text));
  return virtual === undefined ? null : `that is a virtual address of chain ${virtual.name}`;
}
