/** `weir run`: the dataplane in this process. */
import type { Command } from 'commander';
import { ApplianceDispatcher } from '../appliance/dispatcher.js';
import { dispatcherOf, type DispatcherWords } from './members.js';
import type { Configuration } from '../config/configuration.js';
import { ControlClient } from '../control/client.js';
import { OTHER_GENERATION, RpcError } from '../control/protocol.js';
import { ControlServer } from '../control/server.js';
import { handOver } from '../dataplane/hand-over.js';
import { requireNetRaw } from '../dataplane/host.js';
import { startOnHost, type Started } from '../dataplane/start.js';
import { Successor } from '../dataplane/successor.js';
import { Failure } from '../failure.js';
import { createLogger, type Logger } from '../observe/log.js';
import type { Who } from '../observe/who.js';
import { chooseStart } from '../state/start.js';
import { configurationFrom } from './documents.js';
import { Supervision } from './supervision.js';

/** Times that a takeover begins again because the running weir was changed meanwhile. */
const MOST_TRIES = 5;

interface RunOptions extends DispatcherWords {
  readonly config: string;
  readonly forceConfig?: boolean;
  readonly freshFlows?: boolean;
  readonly takeover?: boolean;
}

interface Running extends Started {
  readonly configuration: Configuration;
  /** Of the weir that ran before, where it was taken over. */
  readonly successor: Successor | null;
}

async function start(given: Configuration, { config: file, forceConfig = false, freshFlows = false }: RunOptions, log: Logger, running: ControlClient | null): Promise<Running> {
  for (let tries = 1; ; tries++) {
    const { configuration, origin } = chooseStart(given, file, { forceConfig }, log);
    log.level = configuration.log.level;
    const successor = running === null ? null : new Successor((request) => running.call('takeover', request), origin.stateGeneration ?? 0);
    try {
      const started = await startOnHost(configuration, log, origin, { freshFlows, successor });
      return { ...started, configuration, successor };
    } catch (error) {
      successor?.abandon();
      if (!(error instanceof RpcError)) throw error;
      if (error.code !== OTHER_GENERATION || tries === MOST_TRIES) throw new Failure(`the running weir was not taken over: ${error.message}`);
    }
  }
}

/** The weir that runs; null where none answers. */
async function runningAt(path: string, log: Logger): Promise<ControlClient | null> {
  try {
    return await ControlClient.connect(path);
  } catch (error) {
    log.info(`nothing to take over: ${(error as Error).message}`);
    return null;
  }
}

async function run(options: RunOptions, socketOption: string | undefined): Promise<void> {
  const given = configurationFrom(options.config);
  const appliance = dispatcherOf(options);
  requireNetRaw();
  const log = createLogger(given.log.level);
  const running = options.takeover === true ? await runningAt(socketOption ?? given.control.socket, log) : null;
  const started = await start(given, options, log, running).finally(() => running?.abandon());
  const { configuration, dataplane, release, successor } = started;

  let stopping = false;
  let control: ControlServer | undefined;
  let supervision: Supervision | undefined;
  let dispatcher: ApplianceDispatcher | undefined;
  const stop = async (why: string): Promise<void> => {
    if (stopping) return;
    stopping = true;
    log.info(`stopping: ${why}`);
    supervision?.stopping(why);
    dispatcher?.close();
    await control?.close();
    await dataplane.stop();
    release();
  };
  // An answer to `shutdown` leaves before its connection closes.
  const shutdown = (who: Who): void => void setImmediate(() => void stop(`asked to by ${who}`));
  const path = socketOption ?? configuration.control.socket;
  // At once, and without clearing up: table, ports, rings and the name of the socket are another's now.
  const over = (pid: number): void => {
    const ports = dataplane.runner.counters().ports.map((port) => ({ interface: port.interface, rxFrames: port.rxFrames, rxDropped: port.rxDropped }));
    log.info({ pid, ports }, `handed over to process ${pid}`);
    process.exit(0);
  };
  try {
    control = await ControlServer.listen({
      path,
      mode: configuration.control.mode,
      readOnlyGroup: configuration.control.readOnlyGroup,
      dataplane,
      log,
      shutdown,
      replace: successor !== null,
      takeover: (request, who) => handOver(started, request, who, log, { watchdogMs: supervision?.watchdogMs ?? null, over }),
    });
    supervision = await Supervision.start(dataplane, options.config, log, successor);
    if (appliance !== null) dispatcher = new ApplianceDispatcher(appliance, dataplane, log);
  } catch (error) {
    await control?.close();
    await dataplane.stop();
    release();
    throw error;
  }
  process.on('SIGTERM', () => void stop('SIGTERM'));
  process.on('SIGINT', () => void stop('SIGINT'));
  // On a terminal it says that the terminal is gone.
  process.on('SIGHUP', () => void (process.stderr.isTTY ? stop('SIGHUP') : supervision.reload()));
  log.info({ socket: path, port: configuration.port, captures: configuration.captures.map((capture) => capture.name), pid: process.pid }, 'ready');
  supervision.ready();
  try {
    await dataplane.runner.finished;
  } catch (error) {
    log.error((error as Error).message);
    supervision.stopping((error as Error).message);
    dispatcher?.close();
    await control.close();
    release();
    process.exitCode = 1;
  }
}

export function registerRun(program: Command): void {
  program
    .command('run')
    .description('run the dataplane in the foreground')
    .requiredOption('-c, --config <file>', 'configuration (YAML)')
    .option('--force-config', 'begin with the file, even if the last state is newer')
    .option('--fresh-flows', 'begin without the live streams of the last run')
    .option('--takeover', 'replace the weir that runs: streams, rings and ports go over, and no packet is lost')
    .option('--dispatcher <name>', 'be this dispatcher of an appliance: its managers say the instances of its service')
    .option('--manager <address...>', 'the managers of that appliance: ADDRESS or ADDRESS:PORT')
    .option('--manager-key <file>', 'file with the key of that appliance')
    .action(async (options: RunOptions, command: Command) => run(options, command.optsWithGlobals<{ socket?: string }>().socket));
}
