/** A dataplane on this host: its interfaces, the neighbours of its instances, its port. */
import { availableParallelism } from 'node:os';
import type { Configuration } from '../config/configuration.js';
import { Failure } from '../failure.js';
import type { Logger } from '../observe/log.js';
import { FRESH } from '../state/state.js';
import { Dataplane, addressesOf } from './dataplane.js';
import { inspectHost } from './host.js';
import type { NativeProgram } from './native.js';
import { Neighbours } from './neighbours.js';
import { startRing, type Runner } from './runner.js';
import { holdStampPorts } from './udp-sink.js';

const MAX_WORKERS = 8;
const RESOLVE_TIMEOUT_MS = 2000;

const workersOf = ({ workers }: Configuration): number => (workers === 'auto' ? Math.min(availableParallelism(), MAX_WORKERS) : workers);

/** Starts a dataplane on this host. Its second value lets go of what is held beside the dataplane. */
export async function startOnHost(configuration: Configuration, log: Logger, origin = FRESH): Promise<{ dataplane: Dataplane; release: () => void }> {
  const host = inspectHost(configuration);
  const sources = [host.program.ipv4, host.program.ipv6].filter((address) => address !== null);
  const release = host.underlay === null ? (): void => undefined : holdStampPorts(sources);
  try {
    const neighbours = new Neighbours(host.underlay ?? { index: 0, loopback: false });
    const addresses = addressesOf(configuration);
    if (host.underlay !== null) {
      const missing = await neighbours.resolve(addresses, RESOLVE_TIMEOUT_MS);
      if (missing.length > 0) log.warn({ addresses: missing }, `no neighbour answers for these instances yet: they get no packets until one does`);
    }
    const startRunner = async (program: NativeProgram): Promise<Runner> => {
      const options = { flowsMax: configuration.flows.max, workers: workersOf(configuration), interfaces: host.interfaces, program };
      if (configuration.port === 'ring') return startRing(options);
      const { PcapRunner } = await import('./ports/pcap-port.js');
      return new PcapRunner(options);
    };
    const dataplane = await Dataplane.start(configuration, log, { host, neighbours, startRunner }, origin).catch((error: unknown) => {
      throw error instanceof Failure ? error : new Failure(`the dataplane can't start: ${(error as Error).message}`);
    });
    return { dataplane, release };
  } catch (error) {
    release();
    throw error;
  }
}
