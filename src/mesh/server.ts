/** weir's end of the mesh on this host: sockets on the underlay, a timer, and the controller that they drive. */
import { randomBytes } from 'node:crypto';
import { AddressedSockets, type SourceOf } from '../load/addressed-sockets.js';
import { receiveReports } from '../load/receiver.js';
import { steadyMs } from './clock.js';
import { MeshController, type Refusal } from './controller.js';

const TICK_MS = 10;

export interface MeshServerOptions {
  readonly key: Uint8Array;
  readonly leaseMs: number;
  readonly changed: (what: string) => void;
  readonly tell: (reason: Refusal, why: string) => void;
}

export class MeshServer {
  readonly controller: MeshController;
  #sockets: AddressedSockets | null = null;
  #timer: NodeJS.Timeout | null = null;
  #close: (() => void) | null = null;

  constructor(options: MeshServerOptions) {
    this.controller = new MeshController({
      ...options,
      session: randomBytes(8).toString('hex'),
      now: steadyMs,
      send: ({ address, port }, datagram) => this.#sockets?.send(datagram, address, port),
    });
  }

  /** Takes hellos from now on. `waitMs`: how long the port may still be another's. Throws a Failure. */
  async listen(addresses: readonly string[], port: number, waitMs: number, sourceOf?: SourceOf): Promise<void> {
    this.#close = await receiveReports(addresses, port, (datagram, address, from) => this.controller.receive(datagram, { address, port: from }), waitMs, 'mesh.port: can\'t listen for service nodes');
    // Not the ports that are listened on: what comes back from a node that is gone (ICMP) is then nobody's.
    this.#sockets = new AddressedSockets(addresses, sourceOf);
    this.#timer = setInterval(() => this.controller.tick(), TICK_MS);
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#close?.();
    this.#sockets?.close();
    this.#sockets = null;
  }
}
