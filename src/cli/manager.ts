/** `weir manager`: a manager of an appliance in this process. */
import { InvalidArgumentError, type Command } from 'commander';
import { MANAGER_PORT } from '../appliance/document.js';
import { ManagerServer } from '../appliance/server.js';
import { parsePlace } from '../config/place.js';
import { APPLIANCE_METHODS } from '../control/appliance-methods.js';
import { call } from '../control/call.js';
import { ControlServer } from '../control/server.js';
import { Failure } from '../failure.js';
import { loadReportKey } from '../load/key.js';
import { Events } from '../observe/events.js';
import { createLogger } from '../observe/log.js';
import type { Who } from '../observe/who.js';

export const MANAGER_SOCKET = '/run/weir/manager.sock';

interface Options {
  readonly name: string;
  readonly listen: string;
  readonly key: string;
  readonly stateDir: string;
}

async function manage({ name, listen, key, stateDir }: Options, socket: string): Promise<void> {
  const place = parsePlace(listen, MANAGER_PORT);
  if (place === null) throw new Failure(`--listen: expected ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT, found "${listen}".`, 2);
  const log = createLogger().child({ manager: name });
  const server = await ManagerServer.listen({ name, ...place, key: loadReportKey(key, '--key'), stateDir }, log);
  let stopping = false;
  let control: ControlServer | undefined;
  let over!: () => void;
  const ended = new Promise<void>((resolve) => (over = resolve));
  const stop = async (why: string): Promise<void> => {
    if (stopping) return;
    stopping = true;
    log.info(`stopping: ${why}; dispatchers and units go on with what they have`);
    await control?.close();
    await server.close();
    over();
  };
  const shutdown = (who: Who): void => void setImmediate(() => void stop(`asked to by ${who}`));
  try {
    control = await ControlServer.serve({
      path: socket,
      mode: 0o660,
      log,
      events: new Events(() => server.manager.edition.revision, log),
      answer: (method, params, { who }) => call(APPLIANCE_METHODS, method, params, { server, log, who, shutdown }),
    });
  } catch (error) {
    await server.close();
    throw error;
  }
  process.on('SIGTERM', () => void stop('SIGTERM'));
  process.on('SIGINT', () => void stop('SIGINT'));
  log.info({ socket, address: place.address, port: place.port, appliance: server.manager.appliance?.name ?? null, pid: process.pid }, 'ready');
  await ended;
}

export const applianceName = (text: string): string => {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(text)) throw new InvalidArgumentError('expected at most 63 letters, digits, ".", "_" and "-".');
  return text;
};

export function registerManager(program: Command): void {
  program
    .command('manager')
    .description('run a manager of an appliance in the foreground')
    .requiredOption('--name <name>', "its name in the appliance's document", applianceName)
    .requiredOption('--listen <address>', 'where dispatchers, units and other managers find it: ADDRESS or ADDRESS:PORT')
    .requiredOption('--key <file>', 'file with the key that all members of the appliance have')
    .option('--state-dir <directory>', 'where it keeps the appliance', '/var/lib/weir/manager')
    .addHelpText('after', `\nThe control socket is ${MANAGER_SOCKET} unless --socket says another: \`weir appliance\` asks there.`)
    .action((options: Options, command: Command) => manage(options, command.optsWithGlobals<{ socket?: string }>().socket ?? MANAGER_SOCKET));
}
