/**
 * Which MAC an instance's packets go to: the kernel's own routing and neighbour tables answer, and a datagram to the discard
 * port makes the kernel resolve what it does not know yet (no privilege, and routers and local instances come for free).
 */
import { createSocket } from 'node:dgram';
import { setTimeout as sleep } from 'node:timers/promises';
import { isIpv4 } from '../config/address.js';
import { native } from './native.js';

const DISCARD_PORT = 9;
/** The kernel forgets neighbours it does not need and finds them again within a second: that is no loss yet. */
const SILENT_ROUNDS = 3;
const LOOPBACK_MAC = '00:00:00:00:00:00';

export class Neighbours {
  readonly #macs = new Map<string, string>();
  /** Rounds in a row in which the kernel no longer had a neighbour that it once had. */
  readonly #unanswered = new Map<string, number>();
  readonly #underlay: { readonly index: number; readonly loopback: boolean };

  constructor(underlay: { readonly index: number; readonly loopback: boolean }) {
    this.#underlay = underlay;
  }

  macOf(address: string): string | null {
    return this.#underlay.loopback ? LOOPBACK_MAC : (this.#macs.get(address) ?? null);
  }

  /** The kernel does not find it any more, though its MAC is still used. */
  silent(address: string): boolean {
    return (this.#unanswered.get(address) ?? 0) >= SILENT_ROUNDS;
  }

  /** Looks all of them up; asks the kernel to resolve what is missing. True if anything changed. */
  refresh(addresses: readonly string[]): boolean {
    if (this.#underlay.loopback) return false;
    let changed = false;
    for (const address of addresses) {
      const route = native.routeTo(address);
      // A route through another interface is no way for packets that leave by the underlay.
      const mac = route === null || route.interfaceIndex !== this.#underlay.index ? null : native.neighbour(route.interfaceIndex, route.nextHop);
      if (mac !== null) this.#unanswered.delete(address);
      else if (this.#macs.has(address)) this.#unanswered.set(address, (this.#unanswered.get(address) ?? 0) + 1);
      if (mac !== null && mac !== this.#macs.get(address)) {
        this.#macs.set(address, mac);
        changed = true;
      }
      // A known MAC is kept while the kernel resolves again: traffic to it may well still arrive.
      if (mac === null && route !== null) solicit(address);
    }
    return changed;
  }

  /** Waits until all are known, `timeoutMs` at most. Returns those that are not. */
  async resolve(addresses: readonly string[], timeoutMs: number): Promise<string[]> {
    const missing = (): string[] => addresses.filter((address) => this.macOf(address) === null);
    for (const end = Date.now() + timeoutMs; ; ) {
      this.refresh(missing());
      if (missing().length === 0 || Date.now() >= end) return missing();
      await sleep(50);
    }
  }
}

function solicit(address: string): void {
  const socket = createSocket(isIpv4(address) ? 'udp4' : 'udp6');
  const done = (): void => {
    socket.close();
  };
  socket.on('error', () => undefined);
  socket.send(Buffer.alloc(0), DISCARD_PORT, address, done);
}
