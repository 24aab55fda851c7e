/** Takes datagrams of instances from the underlay: load reports, hellos of a mesh. */
import { createSocket, type Socket } from 'node:dgram';
import { setTimeout as sleep } from 'node:timers/promises';
import { canonical, isIpv4 } from '../config/address.js';
import { Failure } from '../failure.js';

/** Listens on each address; `waitMs`: how long a port may still be held by another. Returns what closes; throws a Failure. */
export async function receiveReports(addresses: readonly string[], port: number, take: (datagram: Uint8Array, from: string, port: number) => void, waitMs = 0, problem = "load.port: can't listen for load reports"): Promise<() => void> {
  const sockets: Socket[] = [];
  const close = (): void => sockets.forEach((socket) => socket.close());
  const endMs = performance.now() + waitMs;
  for (const address of addresses) {
    for (;;) {
      try {
        const socket = await listen(address, port);
        socket.on('message', (datagram, { address: from, port: fromPort }) => take(datagram, canonical(from.split('%')[0] ?? from), fromPort));
        sockets.push(socket);
        break;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE' && performance.now() < endMs) {
          await sleep(20);
          continue;
        }
        close();
        throw new Failure(`${problem} on ${address}, UDP port ${port}: ${(error as Error).message}`);
      }
    }
  }
  return close;
}

async function listen(address: string, port: number): Promise<Socket> {
  const socket = createSocket({ type: isIpv4(address) ? 'udp4' : 'udp6', recvBufferSize: 1 << 18 });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind({ address, port, exclusive: true }, resolve);
    });
  } catch (error) {
    socket.close();
    throw error;
  }
  // What comes back for what was never sent (ICMP errors) is none of ours.
  return socket.removeAllListeners('error').on('error', () => undefined);
}
