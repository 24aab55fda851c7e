/** The commands that ask a running weir, or change it, over its control socket. */
import { InvalidArgumentError, type Command } from 'commander';
import { ControlClient } from '../control/client.js';
import type { chains, flows, services, stats, status, trace } from '../dataplane/views.js';
import { Failure } from '../failure.js';
import * as show from './show.js';

type Answer<F extends (...args: never[]) => unknown> = Awaited<ReturnType<F>>;

interface Globals {
  readonly socket?: string;
  readonly json?: boolean;
}

const DEFAULT_SOCKET = '/run/weir/weir.sock';

async function ask<T>(command: Command, method: string, params: object, print: (answer: T) => string): Promise<void> {
  const globals = command.optsWithGlobals<Globals>();
  const client = await ControlClient.connect(globals.socket ?? DEFAULT_SOCKET);
  try {
    const answer = await client.call<T>(method, params);
    console.log(globals.json === true ? JSON.stringify(answer, null, 2) : print(answer));
  } finally {
    client.close();
  }
}

/** `10.1.0.2:443`, `[fd01::2]:443`, or an address alone. */
function parseEnd(text: string): { address: string; port: number } {
  const match = /^\[([0-9a-fA-F:.]+)\](?::([0-9]+))?$/.exec(text) ?? /^([0-9.]+)(?::([0-9]+))?$/.exec(text) ?? /^([0-9a-fA-F:.]+)()$/.exec(text);
  if (match === null || Number(match[2] ?? 0) > 65_535) throw new InvalidArgumentError('expected ADDRESS:PORT, [IPv6]:PORT or an address.');
  return { address: match[1] ?? '', port: Number(match[2] === '' ? 0 : (match[2] ?? 0)) };
}

function parseNumber(text: string): number {
  if (!/^[0-9]+$/.test(text)) throw new InvalidArgumentError('expected a whole number.');
  return Number(text);
}

const collect = (value: string, before: number[]): number[] => [...before, parseNumber(value)];

export function registerQueries(program: Command): void {
  program.command('status').description('what runs, since when').action((_, command: Command) => ask<Answer<typeof status>>(command, 'status', {}, show.status));
  program.command('stats').description('counters').action((_, command: Command) => ask<Answer<typeof stats>>(command, 'stats', {}, show.stats));
  program.command('chains').description('chains, their paths and streams').action((_, command: Command) => ask<Answer<typeof chains>>(command, 'chains', {}, show.chains));
  program.command('services').description('services and their instances').action((_, command: Command) => ask<Answer<typeof services>>(command, 'services', {}, show.services));
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
  program
    .command('trace')
    .description('what would happen to a stream, and why')
    .argument('<protocol>', 'tcp, udp, icmp, icmpv6 or a number')
    .argument('<source>', 'ADDRESS:PORT or [IPv6]:PORT of who opens it', parseEnd)
    .argument('<destination>', 'ADDRESS:PORT or [IPv6]:PORT', parseEnd)
    .option('--capture <name>', 'default: the first')
    .option('--in', 'opened from the network side')
    .option('--vlan <id>', 'VLAN id; twice for QinQ, outer first', collect, [])
    .action((protocol: string, source: ReturnType<typeof parseEnd>, destination: ReturnType<typeof parseEnd>, options: { capture?: string; in?: boolean; vlan: number[] }, command: Command) =>
      ask<Answer<typeof trace>>(
        command,
        'trace',
        {
          protocol: /^[0-9]+$/.test(protocol) ? Number(protocol) : protocol,
          source: source.address,
          source_port: source.port,
          destination: destination.address,
          destination_port: destination.port,
          vlan: options.vlan,
          direction: options.in === true ? 'in' : 'out',
          ...(options.capture === undefined ? {} : { capture: options.capture }),
        },
        show.trace,
      ),
    );
}

interface Change {
  readonly generation: number;
  readonly changed: string;
}
const showChange = (change: Change): string => `generation ${change.generation}: ${change.changed}`;

export function registerChanges(program: Command): void {
  const chain = program.command('chain').description('change a chain under traffic');
  chain
    .command('set')
    .description('replace the services of a chain')
    .argument('<chain>')
    .argument('[services...]', 'in order')
    .option('--existing <what>', 'live streams: keep their path, or move to the new one', 'keep')
    .action((name: string, list: string[], options: { existing: string }, command: Command) =>
      ask<Change>(command, 'chain.set', { chain: name, services: list, existing: options.existing }, showChange),
    );
  chain
    .command('insert')
    .description('insert a service into a chain')
    .argument('<chain>')
    .argument('<service>')
    .option('--after <service>')
    .option('--before <service>')
    .option('--existing <what>', 'live streams: keep their path, or move to the new one', 'keep')
    .action((name: string, service: string, options: Place & { existing: string }, command: Command) => insert(command, name, service, options, options.existing));

  const instance = program.command('instance').description('change the state of an instance');
  for (const [word, state, description] of [
    ['up', 'up', 'give it streams'],
    ['drain', 'draining', 'let its streams end, give it no new ones'],
    ['down', 'down', 'take it out at once'],
  ] as const) {
    const command = instance.command(word).description(description).argument('<service/name>');
    if (state === 'draining') command.option('--deadline <duration>', 'take it out at the latest after this, such as 30s');
    command.action((key: string, options: { deadline?: string }, self: Command) => {
      const [service, name, ...rest] = key.split('/');
      if (service === undefined || name === undefined || rest.length > 0) throw new Failure(`expected SERVICE/NAME, found "${key}".`, 2);
      const deadline = options.deadline === undefined ? {} : { deadline: options.deadline };
      return ask<Change>(self, 'instance.set', { service, instance: name, state, ...deadline }, showChange);
    });
  }

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

interface Place {
  readonly after?: string;
  readonly before?: string;
}

async function insert(command: Command, name: string, service: string, place: Place, existing: string): Promise<void> {
  const anchor = place.after ?? place.before;
  if (anchor === undefined || (place.after !== undefined && place.before !== undefined)) throw new Failure('say where: either --after SERVICE or --before SERVICE.', 2);
  const { socket = DEFAULT_SOCKET } = command.optsWithGlobals<Globals>();
  const client = await ControlClient.connect(socket);
  const list = await client.call<Answer<typeof chains>>('chains').finally(() => client.close());
  const current = list.find((candidate) => candidate.name === name);
  if (current === undefined) throw new Failure(`there is no chain "${name}"; there are: ${list.map((candidate) => candidate.name).join(', ') || 'none'}.`);
  const at = current.services.indexOf(anchor);
  if (at < 0) throw new Failure(`chain "${name}" has no service "${anchor}"; it has: ${current.services.join(', ') || 'none'}.`);
  const services = current.services.toSpliced(place.after === undefined ? at : at + 1, 0, service);
  await ask<Change>(command, 'chain.set', { chain: name, services, existing }, showChange);
}
