/**
 * Holds the stamp's UDP ports: the packets themselves are taken from the ring, and without a holder of the port the kernel would
 * answer each with ICMP "port unreachable". Being the only holder also keeps a second weir away.
 */
import { Failure } from '../failure.js';
import { native } from './native.js';

const STAMP_PORTS = [4790, 6081];

/** Holds both ports on each address; returns a function that lets go. */
export function holdStampPorts(addresses: readonly string[]): () => void {
  const ports = new StampPorts();
  ports.follow(addresses);
  return () => ports.release();
}

type Held = ReturnType<typeof native.holdUdpPort>;

export interface HeldPort {
  readonly address: string;
  readonly port: number;
  readonly descriptor: number;
}

/** Both ports on addresses that may change. */
export class StampPorts {
  readonly #held = new Map<string, readonly Held[]>();

  get ports(): readonly HeldPort[] {
    return [...this.#held].flatMap(([address, held]) => held.map(({ descriptor }, i) => ({ address, port: STAMP_PORTS[i] ?? 0, descriptor })));
  }

  /** Goes on holding what another process holds, where it has both ports of an address. */
  take(others: readonly HeldPort[]): void {
    for (const address of new Set(others.map((other) => other.address))) {
      const own = STAMP_PORTS.map((port) => others.find((other) => other.address === address && other.port === port));
      const held = own.flatMap((other) => (other === undefined ? [] : [native.holdUdpPort(address, other.port, other.descriptor)]));
      if (held.length === STAMP_PORTS.length) this.#held.set(address, held);
      else held.forEach((letGo) => letGo());
    }
  }

  /** Holds them on these addresses and on no others. Throws a Failure where that can't be, holding none of that address. */
  follow(addresses: readonly string[]): void {
    for (const [address, held] of this.#held) if (!addresses.includes(address)) this.#letGo(address, held);
    for (const address of addresses) if (!this.#held.has(address)) this.#held.set(address, holdBoth(address));
  }

  release(): void {
    this.#held.forEach((held, address) => this.#letGo(address, held));
  }

  #letGo(address: string, held: readonly Held[]): void {
    held.forEach((letGo) => letGo());
    this.#held.delete(address);
  }
}

function holdBoth(address: string): Held[] {
  const held: Held[] = [];
  for (const port of STAMP_PORTS) {
    try {
      held.push(native.holdUdpPort(address, port));
    } catch (error) {
      held.forEach((letGo) => letGo());
      if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') {
        throw new Failure(`UDP port ${port} on ${address} is in use: another weir (or a VXLAN-GPE or Geneve tunnel) holds it. Stop that one, or give this one another underlay address.`);
      }
      throw new Failure(`can't hold UDP port ${port} on ${address}: ${(error as Error).message}`);
    }
  }
  return held;
}
