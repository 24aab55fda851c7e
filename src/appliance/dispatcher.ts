/**
 * A dataplane as a dispatcher of an appliance: the instances of one of its services are those that a manager says. What it was told last
 * stays in its configuration and in its state directory, so it goes on without managers, and after a restart.
 */
import type { PlainDocument } from '../config/configuration.js';
import { setUnits } from '../config/edits.js';
import type { Dataplane } from '../dataplane/dataplane.js';
import { ownAddresses } from '../dataplane/host.js';
import type { Logger } from '../observe/log.js';
import { instanceKey } from '../program/compile.js';
import { ManagerLink } from './link.js';
import type { DispatcherPart, DispatcherReport, Part } from './messages.js';

/** Somebody may have put another document in force. */
const LOOK_EVERY_MS = 1000;
/** Reading all counters takes a moment. */
const STREAMS_EVERY_MS = 1000;

export interface DispatcherOptions {
  readonly name: string;
  readonly managers: readonly { readonly address: string; readonly port: number }[];
  readonly key: Uint8Array;
}

export class ApplianceDispatcher {
  readonly #link: ManagerLink;
  readonly #timer: NodeJS.Timeout;
  #part: DispatcherPart | null = null;
  #error: string | null = null;
  #busy: Promise<void> = Promise.resolve();
  #streams = { atMs: -Infinity, count: 0 };

  constructor(
    private readonly options: DispatcherOptions,
    private readonly dataplane: Dataplane,
    private readonly log: Logger,
  ) {
    this.#link = new ManagerLink({ managers: options.managers, address: null, key: options.key, report: () => this.#report(), take: (part) => this.#take(part) }, log);
    this.#timer = setInterval(() => void this.#follow().catch(() => undefined), LOOK_EVERY_MS).unref();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#link.close();
  }

  #report(): DispatcherReport {
    const addresses = ownAddresses(this.dataplane.host);
    return { type: 'dispatcher', ...this.#link.edition, name: this.options.name, addresses, fingerprint: this.dataplane.affinityFingerprint, error: this.#error, streams: this.#streamsNow() };
  }

  #streamsNow(): number {
    const now = performance.now();
    if (now - this.#streams.atMs >= STREAMS_EVERY_MS) this.#streams = { atMs: now, count: this.dataplane.runner.counters().streams.active };
    return this.#streams.count;
  }

  #take(part: Part): Promise<void> {
    if (part.type !== 'dispatcher_part') return Promise.reject(new Error(`a manager takes this dispatcher for a unit (${part.type})`));
    this.#part = part;
    return this.#follow();
  }

  /** Has the service have the instances that it is to have. Rejects, and says so to the managers, where that can't be. */
  #follow(): Promise<void> {
    const work = this.#busy.then(async () => {
      const part = this.#part;
      if (part === null) return;
      try {
        await this.#put(part);
        if (this.#error !== null) this.log.info(`service ${part.service} has the units of the appliance`);
        this.#error = null;
      } catch (error) {
        const { message } = error as Error;
        this.#error = message.slice(0, 1000);
        throw error;
      }
    });
    this.#busy = work.catch(() => undefined);
    return work;
  }

  async #put({ service: name, instances }: DispatcherPart): Promise<void> {
    const { dataplane } = this;
    const who = `manager of the appliance for ${name}`;
    const service = dataplane.configuration.services.find((one) => one.name === name);
    if (service === undefined) throw new Error(`the configuration has no service "${name}", which the appliance is for: add \`services: {${name}: {instances: []}}\` and put it on a chain`);
    const { balancer } = service;
    if (balancer !== 'forwarder' && balancer !== 'units') throw new Error(`service "${name}" has balancer ${balancer}, and its instances are the units of an appliance: leave balancer out`);
    const state = async (): Promise<void> => {
      for (const { name: instance, leaving } of instances) {
        const key = instanceKey(name, instance);
        const there = dataplane.configuration.services.some((one) => one.name === name && one.instances.some((other) => other.name === instance));
        const set = dataplane.setStateOf(key);
        if (!there || leaving === (set !== 'up')) continue;
        await dataplane.setInstance(name, instance, leaving ? 'draining' : 'up', null, who);
      }
    };
    // Those that leave get no more new streams before others come.
    await state();
    const wanted = instances.map(({ name: instance, address, weight }) => ({ name: instance, address, weight }));
    const has = service.instances.map(({ name: instance, address, weight }) => ({ name: instance, address, weight }));
    if (balancer !== 'units' || JSON.stringify(has) !== JSON.stringify(wanted)) await dataplane.edit((document: PlainDocument) => setUnits(name, wanted)(document), {}, who);
    await state();
  }
}
