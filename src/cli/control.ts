/** The commands that ask a running weir, or change it, over its control socket. */
import type { Command } from 'commander';
import { ControlClient, type Listener } from '../control/client.js';
import type { MeshView } from '../control/mesh-methods.js';
import type { chains, flows, services, stats, status } from '../dataplane/views.js';
import { Failure } from '../failure.js';
import { parseNumber } from './ends.js';
import * as show from './show.js';

type Answer<F extends (...args: never[]) => unknown> = Awaited<ReturnType<F>>;

export interface Globals {
  readonly socket?: string;
  readonly json?: boolean;
}

export const DEFAULT_SOCKET = '/run/weir/weir.sock';

export function ask<T>(command: Command, method: string, params: object, print: (answer: T) => string): Promise<void> {
  return askAt(command.optsWithGlobals<Globals>().socket ?? DEFAULT_SOCKET, command, method, params, print);
}

export async function askAt<T>(socket: string, command: Command, method: string, params: object, print: (answer: T) => string, listener?: Listener): Promise<void> {
  const client = await ControlClient.connect(socket, listener);
  try {
    const answer = await client.call<T>(method, params);
    console.log(command.optsWithGlobals<Globals>().json === true ? JSON.stringify(answer, null, 2) : print(answer));
  } finally {
    client.close();
  }
}

export function registerQueries(program: Command): void {
  program.command('status').description('what runs, since when').action((_, command: Command) => ask<Answer<typeof status>>(command, 'status', {}, show.status));
  program.command('stats').description('counters').action((_, command: Command) => ask<Answer<typeof stats>>(command, 'stats', {}, show.stats));
  program.command('metrics').description('every counter in the Prometheus text format').action((_, command: Command) => ask<string>(command, 'metrics', {}, (text) => text.trimEnd()));
  program.command('chains').description('chains, their paths and streams').action((_, command: Command) => ask<Answer<typeof chains>>(command, 'chains', {}, show.chains));
  program.command('services').description('services and their instances').action((_, command: Command) => ask<Answer<typeof services>>(command, 'services', {}, show.services));
  program.command('mesh').description('service nodes of mesh chains, the service map they have, and how far their sync of state is behind').action((_, command: Command) => ask<MeshView>(command, 'mesh', {}, show.mesh));
  program
    .command('flows')
    .description('live streams')
    .option('--chain <name>')
    .option('--instance <service/name>')
    .option('--address <ip>', 'source or destination')
    .option('--port <number>', 'source or destination port', parseNumber)
    .option('--protocol <name>', 'tcp, udp, icmp or icmpv6')
    .option('--limit <number>', 'at most this many', parseNumber, 100)
    .action((options: object, command: Command) => ask<Answer<typeof flows>>(command, 'flows', options, show.flows));
}

/** For what has no word of its own. */
export function registerAny(program: Command): void {
  program
    .command('ctl')
    .description('call a method of the control socket')
    .argument('<method>')
    .argument('[params]', 'JSON object')
    .action((method: string, text: string | undefined, _: object, command: Command) => {
      let params: object;
      try {
        params = text === undefined ? {} : (JSON.parse(text) as object);
      } catch (error) {
        throw new Failure(`the parameters are not JSON: ${(error as Error).message}`, 2);
      }
      return ask<unknown>(command, method, params, (answer) => JSON.stringify(answer, null, 2));
    });
  program.command('shutdown').description('end the running weir').action((_, command: Command) => ask<unknown>(command, 'shutdown', {}, () => 'stopping'));
}
