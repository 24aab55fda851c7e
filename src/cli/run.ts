/** `weir run`: the dataplane in this process. */
import type { Command } from 'commander';
import { loadConfiguration } from '../config/load.js';
import { formatErrors } from '../config/errors.js';
import { ControlServer } from '../control/server.js';
import { requireNetRaw } from '../dataplane/host.js';
import { startOnHost } from '../dataplane/start.js';
import { Failure } from '../failure.js';
import { createLogger } from '../observe/log.js';
import type { Who } from '../observe/who.js';
import type { Configuration } from '../config/configuration.js';
import { chooseStart } from '../state/start.js';

export function configurationFrom(file: string): Configuration {
  const loaded = loadConfiguration(file);
  if (!loaded.ok) throw new Failure(formatErrors(loaded.errors), 2);
  return loaded.configuration;
}

interface RunOptions {
  readonly config: string;
  readonly forceConfig?: boolean;
}

async function run({ config: file, forceConfig = false }: RunOptions, socketOption: string | undefined): Promise<void> {
  const given = configurationFrom(file);
  requireNetRaw();
  const log = createLogger(given.log.level);
  const { configuration, origin } = chooseStart(given, file, { forceConfig }, log);
  log.level = configuration.log.level;
  const { dataplane, release } = await startOnHost(configuration, log, origin);

  let stopping = false;
  let control: ControlServer | undefined;
  const stop = async (why: string): Promise<void> => {
    if (stopping) return;
    stopping = true;
    log.info(`stopping: ${why}`);
    await control?.close();
    await dataplane.stop();
    release();
  };
  // An answer to `shutdown` leaves before its connection closes.
  const shutdown = (who: Who): void => void setImmediate(() => void stop(`asked to by ${who}`));
  const path = socketOption ?? configuration.control.socket;
  try {
    control = await ControlServer.listen({ path, mode: configuration.control.mode, dataplane, log, shutdown });
  } catch (error) {
    await dataplane.stop();
    release();
    throw error;
  }
  process.on('SIGTERM', () => void stop('SIGTERM'));
  process.on('SIGINT', () => void stop('SIGINT'));
  log.info({ socket: path, port: configuration.port, captures: configuration.captures.map((capture) => capture.name), pid: process.pid }, 'ready');
  try {
    await dataplane.runner.finished;
  } catch (error) {
    log.error((error as Error).message);
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
    .action(async (options: RunOptions, command: Command) => run(options, command.optsWithGlobals<{ socket?: string }>().socket));
}

export function registerCheck(program: Command): void {
  program
    .command('check')
    .description('check a configuration and say everything that is wrong with it')
    .argument('<file>', 'configuration (YAML)')
    .action((file: string) => {
      const { captures, chains, policies, services } = configurationFrom(file);
      console.log(`${file} is valid: ${captures.length} captures, ${services.length} services, ${chains.length} chains, ${policies.length} policies.`);
    });
}
