/** Ways to the instances: interfaces of attached ones are opened and closed, neighbours found before the first packet goes to one. */
import type { Configuration } from '../config/configuration.js';
import { attachText } from '../config/diff.js';
import { ChangeRefused } from '../config/refused.js';
import { Failure } from '../failure.js';
import type { Logger } from '../observe/log.js';
import { attachmentsOf } from '../program/attachments.js';
import { destinationsOf, type Destination } from '../program/destinations.js';
import { native } from './native.js';
import type { Runner } from './runner.js';
import { attachmentsIn, type Surroundings } from './surroundings.js';

/** How long a change waits for the neighbours of new instances; traffic goes on meanwhile. */
const RESOLVE_NEW_MS = 1000;

export class Openings {
  /** Interfaces that could not be opened, each told once. */
  readonly #unopened = new Set<string>();

  constructor(
    private readonly surroundings: Surroundings,
    private readonly runner: () => Runner,
    private readonly log: Logger,
  ) {}

  /** Opens the interfaces of attached instances that come. Returns those that can't be used yet, in words. */
  async attach(before: Configuration, after: Configuration): Promise<readonly string[]> {
    const attachments = attachmentsIn(this.surroundings);
    const known = new Set(attachmentsOf(before).map(attachText));
    if (attachmentsOf(after).every((attach) => known.has(attachText(attach)))) return [];
    try {
      attachments.require(after);
    } catch (error) {
      if (error instanceof Failure) throw new ChangeRefused(error.message, 'services');
      throw error;
    }
    const detached = await attachments.resolve(after, RESOLVE_NEW_MS);
    await this.openPorts();
    return detached;
  }

  /** Opens the ports of interfaces that are new or back, and closes those that nothing uses any more. */
  async openPorts(): Promise<void> {
    const { host } = this.surroundings;
    const { interfaces } = attachmentsIn(this.surroundings);
    const rows = new Map(this.runner().counters().ports.map((row) => [row.port, row]));
    for (const [port, name] of [...host.interfaces, ...interfaces].entries()) {
      const row = rows.get(port);
      if (name === null || (row?.open === true && row.interface === name)) continue;
      if (native.interfaceInfo(name)?.up !== true) continue;
      try {
        await this.runner().open(port, name);
        this.#unopened.delete(name);
        this.log.info({ interface: name }, `interface ${name} is open${row === undefined ? '' : ' again'}`);
      } catch (error) {
        if (!this.#unopened.has(name)) this.log.warn(`${(error as Error).message}; it is tried again each second`);
        this.#unopened.add(name);
      }
    }
    for (const [port] of rows) if (port >= host.interfaces.length && (interfaces[port - host.interfaces.length] ?? null) === null) await this.runner().open(port, '');
  }

  /** Finds the neighbours of instances that come, before the first packet goes to one. Returns those that don't answer; upkeep asks them again. */
  async meet(before: Configuration, after: Configuration): Promise<readonly string[]> {
    const { neighbours } = this.surroundings;
    const text = ({ address, underlay }: Destination): string => `${address} ${underlay ?? ''}`;
    const known = new Set(destinationsOf(before).map(text));
    const fresh = destinationsOf(after).filter((destination) => !known.has(text(destination)));
    if (after.underlays.length === 0 || fresh.length === 0 || neighbours.resolve === undefined) return [];
    return neighbours.resolve(fresh, RESOLVE_NEW_MS);
  }
}
