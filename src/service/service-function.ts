/** What a service function is: one module, one method, a bounded state object per stream. */
import type { Encapsulation } from '../dataplane/native.js';

export interface ServicePacket {
  /** The inner packet: with its Ethernet header under `nsh`, from the IP header on under `geneve`. Valid during the call. */
  readonly bytes: Uint8Array;
  readonly encapsulation: Encapsulation;
  /** Stream-affinity code, the same for both directions. */
  readonly code: number;
  readonly spi: number;
  readonly si: number;
}

export type Verdict = 'forward' | 'drop' | { readonly replace: Uint8Array };

export interface NodeIdentity {
  readonly service: string;
  readonly name: string;
}

export interface ServiceFunction<State = unknown> {
  readonly name: string;
  /** State of a stream that is seen for the first time. */
  newStream(): State;
  onPacket(packet: ServicePacket, stream: State, node: NodeIdentity): Verdict;
}
