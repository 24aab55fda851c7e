/** Sends datagrams from the addresses of the underlays, each from that of the underlay that it leaves by. */
import { createSocket, type Socket } from 'node:dgram';
import { isIpv4 } from '../config/address.js';

/** The own address that packets to an address come from; undefined: the first of its family. */
export type SourceOf = (address: string) => string | undefined;

export class AddressedSockets {
  readonly #sockets = new Map<string, Socket>();
  /** The first of each family. */
  readonly #first = new Map<boolean, Socket>();

  constructor(
    addresses: readonly string[],
    private readonly sourceOf: SourceOf = () => undefined,
  ) {
    for (const address of addresses) {
      const socket = createSocket(isIpv4(address) ? 'udp4' : 'udp6');
      // What can't be sent now is said again before long.
      socket.on('error', () => undefined);
      socket.bind({ address, port: 0, exclusive: true });
      this.#sockets.set(address, socket);
      if (!this.#first.has(isIpv4(address))) this.#first.set(isIpv4(address), socket);
    }
  }

  send(datagram: Uint8Array, address: string, port: number): void {
    const source = this.sourceOf(address);
    const socket = (source === undefined ? undefined : this.#sockets.get(source)) ?? this.#first.get(isIpv4(address));
    try {
      socket?.send(datagram, port, address, () => undefined);
    } catch {
      // It could not be bound: the address is gone for a while.
    }
  }

  close(): void {
    for (const socket of this.#sockets.values()) socket.close();
    this.#sockets.clear();
    this.#first.clear();
  }
}
