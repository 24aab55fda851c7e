/**
 * Holds the stamp's UDP ports: the packets themselves are taken from the ring, and without a holder of the port the kernel would
 * answer each with ICMP "port unreachable". Being the only holder also keeps a second weir away.
 */
import { Failure } from '../failure.js';
import { native } from './native.js';

const STAMP_PORTS = [4790, 6081];

/** Holds both ports on each address; returns a function that lets go. */
export function holdStampPorts(addresses: readonly string[]): () => void {
  const held: (() => void)[] = [];
  const release = (): void => held.forEach((letGo) => letGo());
  for (const address of addresses) {
    for (const port of STAMP_PORTS) {
      try {
        held.push(native.holdUdpPort(address, port));
      } catch (error) {
        release();
        if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') {
          throw new Failure(`UDP port ${port} on ${address} is in use: another weir (or a VXLAN-GPE or Geneve tunnel) holds it. Stop that one, or give this one another underlay address.`);
        }
        throw new Failure(`can't hold UDP port ${port} on ${address}: ${(error as Error).message}`);
      }
    }
  }
  return release;
}
