/** A node as a member of the mesh: says hello to weir, takes the service map, and has native code hand packets on by it. */
import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { isIpv4 } from '../config/address.js';
import type { InterfaceInfo } from '../dataplane/native-host.js';
import { native, type NativeNode } from '../dataplane/native.js';
import { Neighbours } from '../dataplane/neighbours.js';
import { Failure } from '../failure.js';
import { steadyMs } from '../mesh/clock.js';
import type { SyncReport } from '../mesh/hello.js';
import { MeshMember } from '../mesh/member.js';
import type { ServiceMap } from '../mesh/service-map.js';
import type { Logger } from '../observe/log.js';
import { InstalledMap } from './installed-map.js';
import type { NodeIdentity } from './service-function.js';

export interface NodeMeshOptions extends NodeIdentity {
  readonly interface: string;
  readonly address: string;
  /** weir's, on the underlay of this node. */
  readonly controller: { readonly address: string; readonly port: number };
  readonly key: Uint8Array;
  readonly sync: () => SyncReport | null;
}

export interface MeshStatus {
  /** 0: no map yet. */
  readonly version: number;
  readonly instances: number;
  readonly paths: number;
  /** Messages, by reason. */
  readonly refused: Readonly<Record<string, number>>;
}

export class NodeMesh {
  readonly #socket: Socket;
  readonly #member: MeshMember;
  #hello: NodeJS.Timeout | null = null;
  readonly #installed: InstalledMap;

  private constructor(
    options: NodeMeshOptions,
    node: NativeNode,
    socket: Socket,
    mapped: (map: ServiceMap, renewed: string | null) => void,
    log: Logger,
  ) {
    this.#socket = socket;
    let link: InterfaceInfo | null = null;
    const neighbours = new Neighbours(() => [(link = native.interfaceInfo(options.interface))]);
    this.#installed = new InstalledMap({ ...options, node, neighbours, ownMac: () => link?.mac ?? null });
    this.#member = new MeshMember({
      now: steadyMs,
      send: (datagram) => socket.send(datagram, options.controller.port, options.controller.address, () => undefined),
      key: options.key,
      service: options.service,
      name: options.name,
      unreachable: () => this.#installed.unreachable(),
      sync: options.sync,
      mapped: (view, renewed) => {
        if (renewed !== null) log.info('weir has given this instance up: it begins anew, without the states that it had');
        this.#installed.install(view.map);
        mapped(view.map, renewed);
        this.#arm();
      },
      newSession: () => NodeMesh.newSession(),
      tell: (reason, why) => log.warn({ refused: reason }, `mesh: ${why}; refused, and from now on only counted`),
    });
    socket.on('message', (datagram, { address }) => {
      if (address === options.controller.address) this.#member.receive(datagram);
    });
  }

  /** Throws a Failure where its address can't be used. */
  static async start(options: NodeMeshOptions, node: NativeNode, mapped: (map: ServiceMap, renewed: string | null) => void, log: Logger): Promise<NodeMesh> {
    const socket = createSocket(isIpv4(options.address) ? 'udp4' : 'udp6');
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind({ address: options.address, port: 0, exclusive: true }, resolve);
    }).catch((error: unknown) => {
      throw new Failure(`--mesh: can't send from ${options.address}: ${(error as Error).message}`);
    });
    socket.removeAllListeners('error').on('error', () => undefined);
    return new NodeMesh(options, node, socket, mapped, log);
  }

  static newSession(): string {
    return randomBytes(8).toString('hex');
  }

  /** A run of the function begins: with no state, or with what others give it. */
  begin(session: string, syncPort: number): void {
    this.#member.begin(session, syncPort);
    this.#arm();
  }

  end(): void {
    this.#member.end();
  }

  get map(): ServiceMap | null {
    return this.#member.view?.map ?? null;
  }

  get status(): MeshStatus {
    const map = this.#member.view?.map;
    return { version: map?.version ?? 0, instances: map?.instances.length ?? 0, paths: map?.paths.length ?? 0, refused: this.#member.refusals.counts as Record<string, number> };
  }

  close(): void {
    if (this.#hello !== null) clearTimeout(this.#hello);
    this.#installed.close();
    this.#member.end();
    this.#socket.close();
  }

  /** Has the next hello said when it is due, and this process left alone until then: each waking costs packets a core. */
  #arm(): void {
    if (this.#hello !== null) clearTimeout(this.#hello);
    const waitMs = this.#member.dueMs - steadyMs();
    if (waitMs === Infinity) return void (this.#hello = null);
    this.#hello = setTimeout(() => {
      this.#member.tick();
      this.#arm();
    }, Math.max(1, Math.ceil(waitMs)));
  }
}
