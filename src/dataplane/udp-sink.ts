/**
 * Sockets on the stamp's UDP ports that drop everything: the packets themselves are taken from the ring, and without a holder
 * of the port the kernel would answer each with ICMP "port unreachable". Being the only holder also keeps a second weir away.
 */
import { createSocket, type Socket } from 'node:dgram';
import { isIpv4 } from '../config/address.js';
import { Failure } from '../failure.js';

const STAMP_PORTS = [4790, 6081];

async function hold(address: string, port: number): Promise<Socket> {
  const socket = createSocket(isIpv4(address) ? 'udp4' : 'udp6');
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(port, address, resolve);
  });
  // The smallest buffer the kernel grants: what arrives is thrown away in either case.
  socket.setRecvBufferSize(1);
  socket.on('message', () => undefined);
  socket.on('error', () => undefined);
  return socket;
}

/** Holds both ports on each address; returns a function that lets go. */
export async function holdStampPorts(addresses: readonly string[]): Promise<() => void> {
  const sockets: Socket[] = [];
  const release = (): void => sockets.forEach((socket) => socket.close());
  for (const address of addresses) {
    for (const port of STAMP_PORTS) {
      try {
        sockets.push(await hold(address, port));
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
