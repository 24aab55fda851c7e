/**
 * Proves from captures at the instances, and from nothing that weir says of itself but the meaning of its SPIs, that every packet
 * went through the services of its path in order, and every stream always through the same instance of a service.
 */
import type { Arrival } from './stamped-capture.js';

export interface PathInfo {
  readonly id: number;
  readonly services: readonly string[];
}

export interface Proof {
  readonly packets: number;
  readonly streams: number;
  /** Packets that were seen at some hop but not at the next one: lost in between, or under way when the capture ended. */
  readonly lost: number;
  /** Packets by the order of services they went through, such as `firewall > ids`. */
  /** `SPI n after hop k` to the number lost there. */
  readonly lostAt: ReadonlyMap<string, number>;
  readonly orders: ReadonlyMap<string, number>;
  readonly violations: readonly string[];
}

/**
 * `serviceOf`: by host of the capture. `crossing`: a packet that was at an instance while its stream was moved goes on by the stream's
 * new path, as behind Geneve, whose returned header says only whose stream it is. The service before has to have been visited all the same.
 */
export function prove(all: readonly Arrival[], paths: readonly PathInfo[], serviceOf: (host: string) => string, { crossing = false } = {}): Proof {
  const violations: string[] = [];
  const orders = new Map<string, number>();
  const instanceOf = new Map<string, string>();
  const streams = new Set<string>();
  const byPacket = new Map<string, Arrival[]>();
  const everywhere = new Map<string, Arrival[]>();
  for (const arrival of all) {
    const path = paths.find((candidate) => candidate.id === Math.floor(arrival.spi / 2));
    const backwards = arrival.spi % 2 === 1;
    const step = 255 - arrival.si;
    const service = path === undefined ? undefined : path.services[backwards ? path.services.length - 1 - step : step];
    if (service !== serviceOf(arrival.host)) violations.push(`${arrival.host} got a packet of SPI ${arrival.spi} SI ${arrival.si}, which is for ${service ?? 'nobody'}`);
    if (arrival.stream !== '') {
      streams.add(arrival.stream);
      const key = `${arrival.stream} ${serviceOf(arrival.host)}`;
      const before = instanceOf.get(key);
      if (before === undefined) instanceOf.set(key, arrival.host);
      else if (before !== arrival.host) violations.push(`stream ${arrival.stream} met ${before} and ${arrival.host}`);
    }
    const key = `${arrival.spi} ${arrival.packet}`;
    for (const [map, of] of [[byPacket, key], [everywhere, arrival.packet]] as const) {
      const list = map.get(of);
      if (list === undefined) map.set(of, [arrival]);
      else list.push(arrival);
    }
  }
  /** Whether the packet had been at the service before it, on another version of the path. */
  const crossed = (arrival: Arrival, before: string): boolean =>
    crossing && (everywhere.get(arrival.packet) ?? []).some((other) => other.spi !== arrival.spi && other.spi % 2 === arrival.spi % 2 && other.timeUs < arrival.timeUs && serviceOf(other.host) === before);

  let lost = 0;
  const lostAt = new Map<string, number>();
  for (const [key, list] of byPacket) {
    const path = paths.find((candidate) => candidate.id === Math.floor((list[0]?.spi ?? 0) / 2));
    if (path === undefined) continue;
    list.sort((a, b) => a.timeUs - b.timeUs);
    const hops = path.services.length;
    // The k-th time a packet (or its identical twin) is seen at a hop belongs to its k-th time at the hop before.
    const atStep = Array.from({ length: hops }, (_, step) => list.filter((arrival) => 255 - arrival.si === step));
    for (let step = 1; step < hops; step++) {
      const [before, here] = [atStep[step - 1] ?? [], atStep[step] ?? []];
      const previous = path.services[(list[0]?.spi ?? 0) % 2 === 1 ? hops - step : step - 1] ?? '';
      if (here.length > before.length && !here.slice(before.length).every((arrival) => crossed(arrival, previous))) violations.push(`${key}: seen at hop ${step + 1} without hop ${step}`);
      if (here.length < before.length) {
        const missing = before.length - here.length;
        const place = `SPI ${list[0]?.spi} after hop ${step}`;
        lostAt.set(place, (lostAt.get(place) ?? 0) + missing);
        lost += missing;
      }
      here.forEach((arrival, i) => {
        if (arrival.timeUs < (before[i]?.timeUs ?? 0)) violations.push(`${key}: reached hop ${step + 1} before hop ${step}`);
      });
    }
    const last = atStep[hops - 1]?.length ?? 0;
    if (last > 0) {
      const order = list.slice(0, hops).map((arrival) => serviceOf(arrival.host)).join(' > ');
      orders.set(order, (orders.get(order) ?? 0) + last);
    }
  }
  return { packets: [...orders.values()].reduce((sum, n) => sum + n, 0), streams: streams.size, lost, lostAt, orders, violations };
}
