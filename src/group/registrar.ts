/**
 * weir's side of groups with a primary node: hears their members and tells each who there is and who directs. Pure but for what it is given:
 * time comes with a clock, datagrams go by a function.
 */
import type { Clock } from '../conditions/clock.js';
import { canonical } from '../config/address.js';
import type { ServiceConfig } from '../config/configuration.js';
import type { InstanceState } from '../dataplane/native.js';
import { instanceKey } from '../program/compile.js';
import { MOST_SKEW_MS, open, seal, type Hello, type Roster, type RosterMember } from './message.js';

/** Nobody who has been silent for longer is told anything; hellos come every 200 ms. */
const GONE_MS = 3000;
const MOST_FAULTS = 64;

export interface GroupFacts {
  readonly stateOf: (key: string) => InstanceState;
  /** Of a service whose group has one. */
  readonly primaryOf: (service: ServiceConfig) => string | null;
  readonly warn: (text: string) => void;
}

interface Heard {
  readonly hello: Hello;
  readonly port: number;
  readonly heardMs: number;
}

export interface GroupView {
  readonly primary: string | null;
  /** Parts of new streams that the primary gives, by instance; null: it has not said. */
  readonly shares: Readonly<Record<string, number>> | null;
  /** Streams that the primary has decided in its run. */
  readonly chosen: number;
  /** Whether the primary knows that it is. */
  readonly told: boolean;
}

export class Registrar {
  #services: readonly ServiceConfig[] = [];
  readonly #heard = new Map<string, Heard>();
  readonly #numbers = new Map<string, { readonly text: string; readonly number: number }>();
  readonly #told = new Set<string>();

  constructor(
    private readonly clock: Clock,
    private readonly facts: GroupFacts,
    private readonly key: Uint8Array,
    private readonly send: (datagram: Buffer, address: string, port: number) => void,
  ) {}

  /** The services in force; whoever is in a group that has changed is told at once. */
  follow(services: readonly ServiceConfig[]): void {
    this.#services = services.filter(({ balancer }) => balancer === 'primary' || balancer === 'primary_shares');
    const keys = new Set(this.#services.flatMap((service) => service.instances.map(({ name }) => instanceKey(service.name, name))));
    for (const heard of this.#heard.keys()) if (!keys.has(heard)) this.#heard.delete(heard);
    for (const service of this.#services) {
      for (const { name } of service.instances) {
        const heard = this.#heardOf(instanceKey(service.name, name));
        if (heard !== null && heard.hello.roster !== this.#numberOf(service)) this.#tell(service, name, heard);
      }
    }
  }

  receive(datagram: Uint8Array, from: string, port: number): void {
    const read = open(datagram, this.key);
    if ('refused' in read) return this.#refuse(from, `${read.why} (${read.refused})`);
    if (read.kind !== 'hello') return this.#refuse(from, 'it is for members');
    const service = this.#services.find(({ name }) => name === read.service);
    const instance = service?.instances.find(({ name }) => name === read.name);
    if (service === undefined || instance === undefined) return this.#refuse(from, `there is no ${read.service}/${read.name} in a service with a primary (\`balancer\`)`);
    if (instance.address !== canonical(from)) return this.#refuse(from, `it says that it is ${read.service}/${read.name}, which is at ${instance.address}`);
    const instanceName = instanceKey(service.name, instance.name);
    const last = this.#heard.get(instanceName);
    const nowMs = this.clock.now();
    if (Math.abs(read.atMs - nowMs) > MOST_SKEW_MS) return this.#refuse(from, `${instanceName}'s clock is off by ${Math.round(Math.abs(read.atMs - nowMs) / 1000)} s`);
    if (last !== undefined && read.atMs <= last.hello.atMs) return;
    const heard = { hello: read, port, heardMs: nowMs };
    this.#heard.set(instanceName, heard);
    this.#tell(service, instance.name, heard);
  }

  /** Null: it is no group with a primary node. */
  view(name: string): GroupView | null {
    const service = this.#services.find((candidate) => candidate.name === name);
    if (service === undefined) return null;
    const primary = this.facts.primaryOf(service);
    const heard = primary === null ? null : this.#heardOf(instanceKey(name, primary));
    return { primary, shares: heard?.hello.shares ?? null, chosen: heard?.hello.chosen ?? 0, told: heard !== null && heard.hello.roster === this.#numberOf(service) };
  }

  #heardOf(key: string): Heard | null {
    const heard = this.#heard.get(key);
    return heard === undefined || this.clock.now() - heard.heardMs > GONE_MS ? null : heard;
  }

  #membersOf(service: ServiceConfig): RosterMember[] {
    return service.instances.flatMap(({ name, address, weight }) => {
      if (address === null) return [];
      const key = instanceKey(service.name, name);
      const state = this.facts.stateOf(key);
      return [{ name, address, port: this.#heardOf(key)?.port ?? null, state: state === 'up' || state === 'draining' ? state : ('down' as const), weight }];
    });
  }

  #metricOf({ placement }: ServiceConfig): Roster['metric'] {
    return placement === null ? null : placement.metric === 'cpu' ? 'cpu' : 'packets_per_second';
  }

  /** Another one whenever the roster says something else. */
  #numberOf(service: ServiceConfig): number {
    const text = JSON.stringify([this.facts.primaryOf(service), service.balancer, this.#metricOf(service), this.#membersOf(service)]);
    const known = this.#numbers.get(service.name);
    if (known?.text === text) return known.number;
    // Past those of a weir before this one, which members still have.
    const number = Math.max((known?.number ?? 0) + 1, Math.trunc(this.clock.now()));
    this.#numbers.set(service.name, { text, number });
    return number;
  }

  #tell(service: ServiceConfig, name: string, { hello, port }: Heard): void {
    const address = service.instances.find((instance) => instance.name === name)?.address;
    if (address == null) return;
    const number = this.#numberOf(service);
    const roster: Roster = { kind: 'roster', service: service.name, to: hello.session, atMs: this.clock.now(), number, primary: this.facts.primaryOf(service), directs: service.balancer === 'primary', metric: this.#metricOf(service), members: this.#membersOf(service) };
    this.send(seal(roster, this.key), address, port);
  }

  /** Each kind is told once. */
  #refuse(from: string, why: string): void {
    const kind = `${from} ${why.replace(/\d+ s$/, '')}`;
    if (this.#told.has(kind) || this.#told.size >= MOST_FAULTS) return;
    this.#told.add(kind);
    this.facts.warn(`a message of a group from ${from} was refused: ${why}; from now on it is only ignored`);
  }
}
