/** What a dataplane stands in: the host, its neighbours and interfaces, and what runs its program. */
import type { Clock } from '../conditions/clock.js';
import type { MeshController } from '../mesh/controller.js';
import type { Attachments } from './attachments.js';
import type { Host } from './host.js';
import type { NativeProgram } from './native.js';
import type { Neighbours } from './neighbours.js';
import type { Runner } from './runner.js';
import type { NeighbourFacts } from './watch.js';

/** Where a dataplane's program runs and what its host is: the real ones, or a simulation's. */
export interface Surroundings {
  readonly host: Host;
  readonly neighbours: NeighbourFacts & Pick<Neighbours, 'refresh'> & Partial<Pick<Neighbours, 'resolve' | 'underlayOf'>>;
  /** Default: there are none. */
  readonly attachments?: Pick<Attachments, 'attachmentOf' | 'proxyPorts' | 'interfaces' | 'refresh' | 'release' | 'require' | 'resolve'>;
  /** `keep` writes down what the program's numbers mean, so that streams may outlive the process; false where nothing is kept. */
  readonly startRunner: (program: NativeProgram, host: Host, keep: () => Promise<boolean>, onProbeNews: () => void) => Promise<Runner>;
  /** What conditions tell the time by; default: the wall clock. */
  readonly clock?: Clock;
  /** Of mesh chains and of services with sync; default: nobody is asked for, and any instance serves any path. */
  readonly mesh?: MeshController;
}

/** Of a dataplane all of whose instances get stamped packets. */
const NO_ATTACHMENTS: NonNullable<Surroundings['attachments']> = {
  interfaces: [],
  proxyPorts: [],
  attachmentOf: () => ({ kind: 'bump', up: false, workload: { port: 0, vlan: 0, mac: null }, network: { port: 0, vlan: 0, mac: null } }),
  refresh: () => false,
  release: () => undefined,
  require: () => undefined,
  resolve: () => Promise.resolve([]),
};

export const attachmentsIn = ({ attachments }: Surroundings): NonNullable<Surroundings['attachments']> => attachments ?? NO_ATTACHMENTS;
