/**
 * The typed edge of the native addon: everything TypeScript can ask of C++ and every shape that crosses.
 * TypeScript decides, native code moves packets; what it should do is one immutable {@link NativeProgram}.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { Affinity } from './native-program.js';
import type { EngineOptions, FlowFileOptions, NativeChannel, NativeEngine, NativeFlowFile, NativeReplay, NativeWorker, NativeWorkerOptions, ReplayOptions } from './native-pipeline.js';
import type { NativeDeliverNode, NativeDeliverOptions, NativeFunctionLink, NativeMeshMap, NativeMeshStep, NativeNode, NativeNodeOptions } from './native-node.js';
import type { CaptureOptions, InterfaceInfo, InterfaceOffloads, KernelProbe, NativeLiveCapture } from './native-host.js';

export * from './native-program.js';
export * from './native-seen.js';
export * from './native-pipeline.js';
export * from './native-node.js';
export * from './native-host.js';

export interface NativeAddon {
  Engine: new (options: EngineOptions) => NativeEngine;
  Worker: new (options: NativeWorkerOptions) => NativeWorker;
  Replay: new (options: ReplayOptions) => NativeReplay;
  Node: new (options: NativeNodeOptions) => NativeNode;
  MeshMap: new (map: NativeMeshMap) => { next(spi: number, si: number, code: number): NativeMeshStep };
  /** `wake` must not throw. Takes the place of a link that was there before. */
  FunctionLink: new (nodeHandle: number, wake: () => void) => NativeFunctionLink;
  readonly slabLayout: { readonly packets: number; readonly verdictsAt: number };
  FlowFile: { new (options: FlowFileOptions): NativeFlowFile; removeUnused(path: string): boolean };
  /** `listen` and `connect` throw an Error. Names are the kernel's (abstract, unix(7)), in this network namespace. */
  Channel: { listen(name: string): NativeChannel; connect(name: string): NativeChannel };
  closeDescriptors(descriptors: readonly number[]): void;
  DeliverNode: new (options: NativeDeliverOptions) => NativeDeliverNode;
  Capture: new (options: CaptureOptions) => NativeLiveCapture;
  /**
   * Holds a UDP port, or goes on holding it by a `descriptor` of another process, and drops in the kernel what comes for it. Returns
   * what lets go of it; throws an Error with the code EADDRINUSE, EADDRNOTAVAIL or EIO.
   */
  holdUdpPort(address: string, port: number, descriptor?: number): (() => void) & { readonly descriptor: number };
  /** Rtnetlink. Null where there is no such interface. */
  interfaceInfo(name: string): InterfaceInfo | null;
  /**
   * Which interface and next hop the kernel would use, or would use if it had to send by this interface; null where unreachable. `mtu`: what
   * was set for the route (`ip route … mtu N`) or the kernel has learnt of the way; null: nothing.
   */
  routeTo(address: string, interfaceIndex?: number): { readonly interfaceIndex: number; readonly interface: string; readonly nextHop: string; readonly source: string | null; readonly mtu: number | null } | null;
  /** Has the kernel look for the MAC of a neighbour: on this interface, wherever its route leads, or where that leads (null). */
  solicit(address: string, interfaceName: string | null): void;
  /** MAC from the kernel's neighbour table; null where absent or failed. */
  neighbour(interfaceIndex: number, address: string): string | null;
  /** Who is at the other end of a connected Unix socket (SO_PEERCRED, unix(7)); null where the kernel does not say. `pid` 0: outside our PID namespace. */
  peerCredentials(descriptor: number): { readonly pid: number; readonly uid: number; readonly gid: number; readonly groups: readonly number[] } | null;
  /** Asks the kernel for each thing that weir uses, on sockets of its own on the loopback interface. */
  probeKernel(): KernelProbe;
  /** As `ethtool -k` shows them. Null where there is no such interface. */
  interfaceOffloads(name: string): InterfaceOffloads | null;
  /** Sends one message to the service manager (sd_notify(3)); `socket` as in $NOTIFY_SOCKET. Null, or why it could not. */
  notify(socket: string, message: string): string | null;
  /** SipHash-2-4 over the canonical tuple (docs/wire.md); unsigned 32 bit. */
  affinityCode(key: Uint8Array, tenant: number, protocol: number, source: string, sourcePort: number, destination: string, destinationPort: number, affinity: Affinity): number;
}

const require = createRequire(import.meta.url);

/** `WEIR_ADDON` names another build of the addon (the sanitizer tests use it). */
function load(): NativeAddon {
  const built = fileURLToPath(new URL('../../build/Release/weir.node', import.meta.url));
  return require(process.env['WEIR_ADDON'] ?? built) as NativeAddon;
}

export const native: NativeAddon = load();
