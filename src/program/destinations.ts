/** Where stamped packets go. */
import type { Configuration } from '../config/configuration.js';

export interface Destination {
  readonly address: string;
  /** Number of the underlay that the configuration says it is reached by; null or absent: the kernel's route decides. */
  readonly underlay?: number | null;
}

/** Of a name in the configuration; null where it names none. */
export function underlayNumber({ underlays }: Pick<Configuration, 'underlays'>, name: string | null | undefined): number | null {
  const at = name == null ? -1 : underlays.findIndex((underlay) => underlay.name === name);
  return at < 0 ? null : at;
}

/** Instances that get stamped packets, and where each stands in the configuration. */
export const placesOf = ({ services }: Pick<Configuration, 'services'>): { readonly key: string; readonly path: string; readonly address: string }[] =>
  services.flatMap(({ name: service, instances }) =>
    instances.flatMap(({ name, address, attach }, i) => (address === null || attach !== null ? [] : [{ key: `${service}/${name}`, path: `services.${service}.instances[${i}]`, address }])),
  );

/** Of every instance that gets stamped packets. */
export const destinationsOf = (configuration: Pick<Configuration, 'services' | 'underlays'>): Destination[] =>
  configuration.services.flatMap((service) =>
    service.instances.flatMap(({ address, attach, underlay }) => (address === null || attach !== null ? [] : [{ address, underlay: underlayNumber(configuration, underlay) }])),
  );
