/** A dataplane on this host: its interfaces, the neighbours of its instances, its port. */
import { availableParallelism } from 'node:os';
import { isIpv4 } from '../config/address.js';
import type { Configuration, ServiceConfig } from '../config/configuration.js';
import { Failure } from '../failure.js';
import type { Logger } from '../observe/log.js';
import { loadReportKey } from '../load/key.js';
import { receiveReports } from '../load/receiver.js';
import { MeshServer } from '../mesh/server.js';
import { isGroupMessage } from '../group/message.js';
import { Registrar } from '../group/registrar.js';
import { AddressedSockets, type SourceOf } from '../load/addressed-sockets.js';
import { SYSTEM_CLOCK } from '../conditions/clock.js';
import { FRESH, type Origin } from '../state/state.js';
import { Attachments } from './attachments.js';
import { destinationsOf, placesOf } from '../program/destinations.js';
import { affinityKeyOf } from './affinity-key.js';
import { Dataplane } from './dataplane.js';
import { openFlowTable, sameTenants, tellAdopted, type FlowTable } from './flow-table.js';
import { inspectHost, ownAddresses, type LiveHost } from './host.js';
import { native, type NativeProgram } from './native.js';
import { Neighbours } from './neighbours.js';
import { begun, startRing, type Runner, type RunnerOptions } from './runner.js';
import type { Successor } from './successor.js';
import { StampPorts, type HeldPort } from './udp-sink.js';

const MAX_WORKERS = 8;
const RESOLVE_TIMEOUT_MS = 2000;
/** How long a weir that hands over may take to end. */
const PORT_WAIT_MS = 10_000;

const workersOf = ({ workers }: Configuration): number => (workers === 'auto' ? Math.min(availableParallelism(), MAX_WORKERS) : workers);

export interface StartOptions {
  /** Begin without the streams of the last run. */
  readonly freshFlows?: boolean;
  /** Go on where a running weir stops, instead of with interfaces of our own. */
  readonly successor?: Successor | null;
}

/** A dataplane with what is held beside it on the host. */
export interface Started {
  readonly dataplane: Dataplane;
  readonly table: FlowTable | null;
  readonly ports: () => readonly HeldPort[];
  /** By port number, as they are now. */
  readonly interfaces: () => readonly (string | null)[];
  readonly workers: number;
  /** Once the dataplane has stopped. */
  readonly release: () => void;
}

/** Starts a dataplane on this host. */
export async function startOnHost(configuration: Configuration, log: Logger, origin: Origin = FRESH, { freshFlows = false, successor = null }: StartOptions = {}): Promise<Started> {
  const host = inspectHost(configuration);
  const stampPorts = new StampPorts();
  const hold = (): void => stampPorts.follow(ownAddresses(host));
  // The ports of a running weir come with everything else.
  if (successor === null) hold();
  host.changed = () => {
    try {
      hold();
    } catch (error) {
      log.warn(`${(error as Error).message} Until then this host answers what instances send back with "port unreachable".`);
    }
  };
  let table: FlowTable | null = null;
  try {
    const neighbours = new Neighbours(() => host.links);
    const attachments = new Attachments(configuration);
    attachments.require(configuration);
    const detached = await attachments.resolve(configuration, RESOLVE_TIMEOUT_MS);
    if (detached.length > 0) log.warn({ attachments: detached }, 'these instances are not there yet: they get no packets until they are');
    if (configuration.underlays.length > 0) await meet(configuration, neighbours, log);
    const workers = configuration.port === 'ring' ? workersOf(configuration) : 1;
    const interfacesOf = (): (string | null)[] => [...host.interfaces, ...attachments.interfaces];
    const startRunner = async (program: NativeProgram, _: unknown, keep: () => Promise<boolean>, onProbeNews: () => void): Promise<Runner> => {
      const { continuity } = origin;
      const handed = (await successor?.begin({ port: configuration.port, workers, interfaces: interfacesOf() })) ?? null;
      if (handed !== null) {
        stampPorts.take(handed.ports);
        hold();
      }
      // A running weir that hands over changes nothing from begin() on.
      if ((await keep()) && continuity !== undefined) {
        const key = affinityKeyOf(configuration, origin);
        table = await openFlowTable(configuration, continuity, key, log, { fresh: freshFlows, handedOver: handed?.flowFile ?? null });
      }
      const tenants = continuity === undefined ? [] : sameTenants(configuration, continuity);
      const options: RunnerOptions = { flowsMax: configuration.flows.max, workers, interfaces: interfacesOf(), program, flowFile: table?.file ?? null, tenants, onProbeNews };
      const runner = await run(configuration, options, handed);
      if (successor !== null) log.info({ pid: successor.pid, waited_ms: Math.round(successor.waitedMs * 100) / 100 }, `took over from process ${successor.pid}: packets waited ${successor.waitedMs.toFixed(1)} ms`);
      if (table !== null) {
        const problem = table.file.publish();
        if (problem !== '') log.warn(`live streams will not outlive this process: ${problem}`);
        if (runner.adopted) tellAdopted(log, table, runner.adopted);
      }
      return runner;
    };
    const sourceOf = sourcesOn(host, neighbours);
    let following: Dataplane | null = null;
    const mesh = meshOf(configuration, log, (what) => void following?.followMesh(what));
    const dataplane = await Dataplane.start(configuration, log, { host, neighbours, attachments, startRunner, ...(mesh === null ? {} : { mesh: mesh.controller }) }, origin).catch((error: unknown) => {
      throw error instanceof Failure ? error : new Failure(`the dataplane can't start: ${(error as Error).message}`);
    });
    const deafen = await listenForLoad(configuration, { host, sourceOf }, dataplane, log, successor !== null).then(async (stop) => {
      await mesh?.listen(ownAddresses(host), configuration.mesh?.port ?? 0, successor === null ? 0 : PORT_WAIT_MS, sourceOf);
      return stop;
    }).catch(async (error: unknown) => {
      await dataplane.stop();
      throw error;
    });
    following = dataplane;
    const release = (): void => {
      deafen();
      mesh?.close();
      stampPorts.release();
      table?.file.rest(dataplane.runner.counters().streams.active);
    };
    return { dataplane, table, ports: () => stampPorts.ports, interfaces: interfacesOf, workers, release };
  } catch (error) {
    stampPorts.release();
    throw error;
  }
}

/** Finds the instances before the first packet goes to one, and tells which get none for now, and why. */
async function meet(configuration: Configuration, neighbours: Neighbours, log: Logger): Promise<void> {
  const destinations = destinationsOf(configuration);
  const missing = await neighbours.resolve(destinations, RESOLVE_TIMEOUT_MS);
  const astray = configuration.underlays.length > 1 ? neighbours.unreachable(destinations.filter(({ address }) => missing.includes(address))) : [];
  const names = configuration.underlays.map(({ interface: device }) => device).join(', ');
  for (const { path, key, address } of placesOf(configuration)) {
    if (astray.includes(address)) log.warn({ path, address }, `${path}: the kernel's route to ${address} (${key}) leads through no underlay (${names}): it gets no packets until one does, or until it names its underlay`);
  }
  const silent = missing.filter((address) => !astray.includes(address));
  if (silent.length > 0) log.warn({ addresses: silent }, `no neighbour answers for these instances yet: they get no packets until one does`);
}

/** The own address that packets to an instance come from. */
function sourcesOn(host: LiveHost, neighbours: Neighbours): SourceOf {
  return (address) => {
    const { ipv4, ipv6 } = host.underlays[neighbours.underlayOf(address) ?? -1] ?? { ipv4: null, ipv6: null };
    return (isIpv4(address) ? ipv4 : ipv6) ?? undefined;
  };
}

function meshOf({ mesh }: Configuration, log: Logger, changed: (what: string) => void): MeshServer | null {
  if (mesh === null) return null;
  const key = loadReportKey(mesh.keyFile, 'mesh.key.file');
  return new MeshServer({ key, leaseMs: mesh.leaseMs, changed, tell: (reason, why) => log.warn({ refused: reason }, `mesh: ${why}; refused, and from now on only counted`) });
}

/** Takes load reports and hellos of groups, where they are configured. `waits`: another weir lets go of the port in a moment. */
async function listenForLoad({ load }: Configuration, { host, sourceOf }: { readonly host: LiveHost; readonly sourceOf: SourceOf }, dataplane: Dataplane, log: Logger, waits: boolean): Promise<() => void> {
  if (load === null) return () => undefined;
  const key = loadReportKey(load.keyFile, 'load.key.file');
  const addresses = ownAddresses(host);
  const sender = new AddressedSockets(addresses, sourceOf);
  const facts = { stateOf: (instance: string) => dataplane.stateOf(instance), primaryOf: (service: ServiceConfig) => dataplane.primaryOf(service), warn: (text: string) => log.warn(text) };
  const groups = new Registrar(SYSTEM_CLOCK, facts, key, (datagram, address, port) => sender.send(datagram, address, port));
  dataplane.serveGroups(groups);
  const take = (datagram: Uint8Array, from: string, port: number): void => (isGroupMessage(datagram) ? groups.receive(datagram, from, port) : dataplane.placement.load.receive(datagram, from, key));
  const deafen = await receiveReports(addresses, load.port, take, waits ? PORT_WAIT_MS : 0).catch((error: unknown) => {
    sender.close();
    throw error;
  });
  return () => {
    deafen();
    sender.close();
  };
}

type Handed = Awaited<ReturnType<Successor['begin']>>;

/** The port, with rings of our own or with those of the weir that hands over: what is ready before that one pauses makes the pause short. */
async function run(configuration: Configuration, options: RunnerOptions, handed: Handed | null): Promise<Runner> {
  if (configuration.port === 'ring') {
    if (handed === null) return startRing(options);
    if (handed.rings !== null) {
      const worker = new native.Worker({ ...options, rings: handed.rings });
      return begun(worker, await handed.paused(), handed.commit);
    }
    await handed.paused();
    return begun(new native.Worker(options), undefined, handed.commit);
  }
  const { PcapRunner } = await import('./ports/pcap-port.js');
  await handed?.paused();
  const runner = new PcapRunner(options);
  if (handed !== null && !handed.commit()) {
    await runner.stop();
    throw new Failure('the running weir goes on: it could not be told to end');
  }
  return runner;
}
