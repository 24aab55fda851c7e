/** `weir node`: one service instance in this process. */
import { networkInterfaces } from 'node:os';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { ApplianceUnit } from '../appliance/unit.js';
import { isIpv4, parseAddress } from '../config/address.js';
import { durationMs } from '../config/forms.js';
import { MESH_PORT } from '../config/mesh.js';
import { parsePlace } from '../config/place.js';
import { requireInterface, requireNetRaw } from '../dataplane/host.js';
import { native } from '../dataplane/native.js';
import { Failure } from '../failure.js';
import { createLogger, type Logger } from '../observe/log.js';
import { checkDeliverWords, deliver } from './deliver.js';
import { managersOf, type ManagerWords } from './members.js';
import { PASS } from '../service/functions/built-in.js';
import { MOST_STREAMS } from '../service/handler.js';
import { checkFunctionName } from '../service/load-function.js';
import { DEFAULT_MEMORY_MB, DEFAULT_STALL_LIMIT_MS, ServiceNode, type NodeOptions, type NodeStatus } from '../service/node.js';
import { GroupMember } from '../group/member.js';
import { loadReportKey } from '../load/key.js';
import { LoadMeter } from '../service/load-report.js';
import { parseTarget, startReporting } from '../service/reporting.js';

interface Options extends ManagerWords {
  readonly service: string;
  readonly name: string;
  readonly listen: string;
  readonly function?: string;
  readonly settings?: string | undefined;
  readonly fail: 'open' | 'closed';
  readonly maxStreams: number;
  readonly maxMemory: number;
  readonly stallLimit: number;
  readonly interface?: string;
  readonly health?: number;
  readonly report?: readonly string[];
  readonly reportKey?: string;
  readonly reportInterval: string;
  readonly group?: boolean;
  readonly mesh?: string;
  readonly meshKey?: string;
  readonly to?: string;
  readonly toMac?: string;
}

const SAID_AFTER_MS = 2000;
/** Two leases as they are by default: the node learns its lease from the map that does not come. */
const MAP_LATE_MS = 2000;

/** The interface that has the address, or through which the kernel reaches it (127.0.0.11 is on `lo` without being listed). */
function interfaceOf(address: string): string {
  for (const name of Object.keys(networkInterfaces())) {
    const info = native.interfaceInfo(name);
    if (info !== null && [...info.ipv4, ...info.ipv6].includes(address)) return name;
  }
  if (address.startsWith('127.')) return 'lo';
  throw new Failure(`no interface of this host has the address ${address}: add it with \`ip address add\`, or name the interface with --interface.`);
}

/** What a log line says of the node: nothing that is zero. */
function counted({ received, returned, bypassed, handedOn, exited, unknownPath, fragments, dropped, group, appliance, running, mesh }: NodeStatus): Record<string, unknown> {
  const drops = Object.fromEntries(Object.entries(dropped).filter(([, n]) => n > 0));
  const metrics = Object.fromEntries(running.metrics.map(({ name, value }) => [name, value]));
  return {
    received,
    returned,
    ...(bypassed.packets > 0 ? { bypassed } : {}),
    ...(handedOn.packets > 0 ? { handed_on: handedOn } : {}),
    ...(exited.packets > 0 ? { exited } : {}),
    ...(unknownPath > 0 ? { unknown_path: unknownPath } : {}),
    ...(fragments.received > 0 ? { fragments } : {}),
    ...(mesh === null ? {} : { mesh }),
    dropped: drops,
    ...(group === null ? {} : { group }),
    ...(appliance === null ? {} : { appliance }),
    ...(running.restarts > 0 ? { restarts: running.restarts } : {}),
    ...(running.metrics.length > 0 ? { metrics } : {}),
  };
}

function parsePort(text: string): number {
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw new InvalidArgumentError('expected a port from 1 to 65535.');
  return port;
}

/** What somebody should know who starts a function as it comes; null: nothing. `unit`: its settings are in the document of an appliance. */
export function unsettled(name: string, settings: string | undefined, unit: boolean): string | null {
  if (name !== 'firewall' || settings !== undefined) return null;
  const how = unit ? 'give `settings:` of the appliance\'s document rules' : 'start it with --settings FILE';
  return `the firewall has no settings, so it drops every packet (its default): ${how}, such as {rules: [{action: accept, protocol: tcp, destination_port: 443}]} or {default: accept}`;
}

/** Takes part in a group with a primary node, where that is asked for. */
async function joinGroup({ group = false, service, name, listen, report = [], reportKey }: Options, device: string, running: ServiceNode, log: Logger): Promise<GroupMember | null> {
  if (!group) return null;
  if (reportKey === undefined) throw new Failure('--group: the group is known by the forwarders of --report and the key of --report-key; give both.', 2);
  const meter = new LoadMeter({ received: () => running.counters().received });
  const load = (): { cpu: number | null; packetsPerSecond: number } => {
    const { cpu, packetsPerSecond } = meter.read();
    return { cpu, packetsPerSecond: packetsPerSecond ?? 0 };
  };
  const forwarders = report.map((text) => parseTarget(text, listen));
  return GroupMember.start({ service, name, interface: device, address: listen, forwarders, key: loadReportKey(reportKey, '--report-key'), load, chosen: () => running.counters().group?.chosen ?? 0, join: (members) => running.joinGroup(members) }, log);
}

/** Of --mesh and --mesh-key. Throws a Failure. */
function meshOf({ mesh, meshKey, listen }: Options): NodeOptions['mesh'] {
  if ((mesh === undefined) !== (meshKey === undefined)) throw new Failure('--mesh and --mesh-key belong together: weir takes no node without a key.', 2);
  if (mesh === undefined || meshKey === undefined) return undefined;
  const place = parsePlace(mesh, MESH_PORT);
  if (place === null) throw new Failure(`--mesh: expected ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT, found "${mesh}".`, 2);
  if (isIpv4(place.address) !== isIpv4(listen)) throw new Failure(`--mesh: hellos leave from ${listen}, and ${place.address} is of the other family.`, 2);
  return { controller: place, key: loadReportKey(meshKey, '--mesh-key') };
}

/** What keeps a node without a map is mostly on the other side, and there nobody is told. Returns what ends the wait. */
function watchForMap(mesh: NodeOptions['mesh'], { service, name, listen }: Options, running: ServiceNode, log: Logger): () => void {
  if (mesh === undefined) return () => undefined;
  const { address, port } = mesh.controller;
  const timer = setTimeout(() => {
    if ((running.status().mesh?.version ?? 0) > 0) return;
    log.warn(`the weir at ${address} has sent no service map for ${MAP_LATE_MS / 1000} s, and is asked on: does it run there with \`mesh:\` and UDP port ${port}, has its configuration ${service}/${name} at ${listen}, and is --mesh-key the same file? \`weir mesh\` there says what it refused`);
  }, MAP_LATE_MS);
  timer.unref();
  return () => clearTimeout(timer);
}

/** Becomes a unit, and waits for what a manager has it do. */
async function joinAppliance(options: Options, managers: NonNullable<ReturnType<typeof managersOf>>, device: string, log: Logger): Promise<{ readonly unit: ApplianceUnit; readonly function: string; readonly settings: string | undefined }> {
  const { service, name, listen: address } = options;
  const unit = new ApplianceUnit({ service, name, interface: device, address, ...managers }, log);
  const late = setTimeout(() => log.info('waiting for a manager to say what this unit does'), SAID_AFTER_MS);
  const ended = new Promise<null>((resolve) => {
    process.once('SIGTERM', () => resolve(null));
    process.once('SIGINT', () => resolve(null));
  });
  const part = await Promise.race([unit.first, ended]);
  clearTimeout(late);
  if (part === null) {
    unit.close();
    throw new Failure('ended before a manager had said what this unit does.');
  }
  return { unit, function: part.function, settings: unit.settingsFile(part) ?? undefined };
}

async function node(words: Options): Promise<void> {
  const managers = managersOf(words);
  if (managers !== null) {
    const other = (['function', 'settings', 'group', 'mesh'] as const).find((key) => words[key] !== undefined);
    if (other !== undefined) throw new Failure(`--${other} and --manager: what a unit of an appliance does is in the appliance's document; leave --${other} out.`, 2);
  }
  const options = { ...words, function: words.function ?? PASS };
  if (parseAddress(options.listen) === null) throw new Failure(`--listen: expected an IP address, found "${options.listen}".`, 2);
  checkDeliverWords(options.function, options);
  if (options.function === 'deliver' && options.group === true) throw new Failure('--group: an instance that ends chains returns nothing, so it can be in no group with a primary.', 2);
  if (options.function !== 'deliver') checkFunctionName(options.function);
  if (options.function === 'pass' && options.settings !== undefined) throw new Failure('--settings: the function pass takes no settings.', 2);
  requireNetRaw();
  const name = options.interface ?? interfaceOf(options.listen);
  requireInterface(name, '--interface');
  const log = createLogger().child({ instance: `${options.service}/${options.name}` });
  if (options.function === 'deliver') return deliver(name, options.listen, options, log, (source) => startReporting({ ...options, address: options.listen }, source));
  if (managers === null) return serve(options, name, null, log);
  const joined = await joinAppliance(options, managers, name, log);
  try {
    await serve({ ...options, function: joined.function, settings: joined.settings }, name, joined.unit, log);
  } finally {
    joined.unit.close();
  }
}

async function serve(options: Options & { readonly function: string }, device: string, unit: ApplianceUnit | null, log: Logger): Promise<void> {
  const { service, listen: address, fail, maxStreams, maxMemory: maxMemoryMb, stallLimit: stallLimitMs } = options;
  const mesh = meshOf(options);
  const running = await ServiceNode.start({ service, name: options.name, interface: device, address, function: options.function, settings: options.settings, fail, maxStreams, maxMemoryMb, stallLimitMs, mesh }, log);
  const noLongerLate = watchForMap(mesh, options, running, log);
  const meter = new LoadMeter({ received: () => running.counters().received });
  unit?.serve({
    joinAppliance: (maps) => running.joinAppliance(maps),
    liveStreams: () => running.liveStreams(),
    counters: () => running.counters(),
    reload: () => running.reload(),
    load: () => meter.read(),
  });
  const reporting = await startReporting({ ...options, address: options.listen }, { received: () => running.counters().received }).catch(async (error: unknown) => {
    await running.stop();
    throw error;
  });
  const group = await joinGroup(options, device, running, log).catch(async (error: unknown) => {
    await reporting.close();
    await running.stop();
    throw error;
  });
  let stopping = false;
  const stop = async (why: string): Promise<void> => {
    if (stopping) return;
    stopping = true;
    noLongerLate();
    group?.close();
    unit?.close();
    await reporting.close();
    await running.stop();
    log.info(counted(running.status()), `stopping: ${why}`);
  };
  process.on('SIGTERM', () => void stop('SIGTERM'));
  process.on('SIGINT', () => void stop('SIGINT'));
  process.on('SIGHUP', () => running.reload());
  process.on('SIGUSR2', () => {
    const status = running.status();
    log.info({ ...counted(status), state: status.running.state, ...(status.running.cause === null ? {} : { cause: status.running.cause }) }, 'status');
    running.flush();
  });
  const warning = unsettled(options.function, options.settings, unit !== null);
  if (warning !== null) log.warn(warning);
  log.info({ address, interface: device, function: options.function, pid: process.pid }, 'ready');
  try {
    await running.finished;
  } catch (error) {
    const { message } = error as Error;
    await stop(message);
    throw new Failure(message);
  }
}

const wholeNumber = (least: number, most: number) => (text: string): number => {
  const n = Number(text);
  if (!/^[0-9]+$/.test(text) || n < least || n > most) throw new InvalidArgumentError(`expected a whole number from ${least} to ${most}.`);
  return n;
};

function duration(text: string): number {
  const ms = durationMs(text);
  if (ms <= 0) throw new InvalidArgumentError('expected a duration with its unit: 500ms, 10s, 5m.');
  return ms;
}

export function registerNode(program: Command): void {
  program
    .command('node')
    .description('run one service instance in the foreground')
    .requiredOption('--service <name>', 'the service it performs')
    .requiredOption('--name <name>', 'its name')
    .requiredOption('--listen <address>', 'its address on the underlay')
    .option('--function <name>', 'pass, meter, firewall, ids, mark, deliver, or the path of a module; pass where nothing is said')
    .option('--settings <file>', "the function's settings (YAML or JSON); read again on SIGHUP and when the file changes")
    .addOption(new Option('--fail <how>', 'packets that the function can\'t take: it is behind, stuck, or being started').choices(['open', 'closed']).default('closed'))
    .option('--max-streams <number>', 'streams whose state is kept', wholeNumber(1, 10_000_000), MOST_STREAMS)
    .option('--max-memory <MiB>', 'memory of the function', wholeNumber(32, 1_000_000), DEFAULT_MEMORY_MB)
    .addOption(new Option('--stall-limit <duration>', 'a function that is stuck for longer is started anew').argParser(duration).default(DEFAULT_STALL_LIMIT_MS, '10s'))
    .option('--to <interface>', 'with deliver: the loopback, or one end of a veth pair, that the packets are put on (default: lo)')
    .option('--to-mac <mac>', 'with deliver: of the other end, where it can not be looked up')
    .option('--interface <name>', 'default: the one that has the address')
    .option('--health <port>', 'answer TCP and HTTP checks on this port', parsePort)
    .option('--report <address...>', 'tell these forwarders the load: ADDRESS or ADDRESS:PORT')
    .option('--report-key <file>', 'file with the key of load reports')
    .option('--group', 'take part in a group with a primary node (`balancer: primary`), known to the forwarders of --report')
    .option('--report-interval <duration>', 'from one report to the next', '1s')
    .option('--mesh <address>', 'take part in mesh chains and syncs of the weir at ADDRESS or ADDRESS:PORT')
    .option('--mesh-key <file>', 'file with the key of mesh.key')
    .option('--manager <address...>', 'be a data-plane unit of the appliance of these managers: ADDRESS or ADDRESS:PORT')
    .option('--manager-key <file>', 'file with the key of that appliance')
    .addHelpText('after', '\nSIGUSR2: logs counters and metrics, and has the function write out what it has gathered.')
    .action((options: Options) => node(options));
}
