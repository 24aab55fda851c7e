/** Packets of a mesh chain that a node refuses, or can't send: each reason is told once, the counters say how often. */
import type { Logger } from '../observe/log.js';

const LOOK_EVERY_MS = 1000;

const WHY: Readonly<Record<string, string>> = {
  bad_index: 'a packet has a service index that its path does not have',
  wrong_service: 'a packet is for another service than the one of this node: has it been reached at an address that was another one\'s?',
  no_instance: 'nobody is left who performs the next service of a packet',
  unresolved: 'the link address of the next instance is not known: does it answer on the underlay?',
  ttl_expired: 'a packet has been handed on too often: it goes round in circles',
  loop: 'the map sends a packet of this node to this node again',
  stranger: 'a packet of a mesh chain came from an address that is neither the forwarder\'s nor an instance\'s',
  exit_too_long: 'a packet is longer than the MTU of the way on which it would leave straight from this host',
  exit_no_route: 'this host has no route for a packet that is to leave straight from here (exit: direct)',
  exit_failed: 'this host\'s kernel took no packet that is to leave straight from here (exit: direct): is there a filter, or a blackhole route?',
  si_zero: 'a packet has no service left to do',
};

export class DropLog {
  readonly #told = new Set<string>();
  readonly #timer: NodeJS.Timeout;

  constructor(
    private readonly dropped: () => Readonly<Record<string, number>>,
    private readonly log: Logger,
  ) {
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS).unref();
  }

  #look(): void {
    const now = this.dropped();
    for (const [reason, why] of Object.entries(WHY)) {
      if ((now[reason] ?? 0) === 0 || this.#told.has(reason)) continue;
      this.#told.add(reason);
      this.log.warn({ dropped: reason, packets: now[reason] }, `${why}; dropped, and from now on only counted`);
    }
  }

  close(): void {
    clearInterval(this.#timer);
    this.#look();
  }
}
