/** `weir events`: what happens to a running weir, one line each, until Ctrl-C. */
import { InvalidArgumentError, type Command } from 'commander';
import { ControlClient } from '../control/client.js';
import { Failure } from '../failure.js';
import { EVENT_KINDS, KEPT_EVENTS, type EventKind, type History, type WeirEvent } from '../observe/events.js';
import { Who } from '../observe/who.js';
import { DEFAULT_SOCKET, type Globals } from './control.js';

interface Options {
  readonly kinds?: readonly EventKind[];
  readonly last: number;
}

function parseKinds(text: string): EventKind[] {
  const wanted = text.split(',').map((kind) => kind.trim());
  const unknown = wanted.find((kind) => !(EVENT_KINDS as readonly string[]).includes(kind));
  if (unknown !== undefined) throw new InvalidArgumentError(`there is no kind "${unknown}"; there are: ${EVENT_KINDS.join(', ')}.`);
  return [...new Set(wanted as EventKind[])];
}

function parseLast(text: string): number {
  if (!/^[0-9]+$/.test(text) || Number(text) > KEPT_EVENTS) throw new InvalidArgumentError(`expected a whole number, ${KEPT_EVENTS} at most: no more are kept.`);
  return Number(text);
}

function what(event: WeirEvent): string {
  switch (event.kind) {
    case 'config':
      return event.cause;
    case 'path':
      return `path ${event.path} of chain ${event.chain} freed: ${event.cause}`;
    case 'instance':
      return event.cause === 'set' ? `${event.instance} is now ${event.state}` : event.cause.startsWith('neighbour') ? `${event.instance} (${event.state}): ${event.cause}` : `${event.instance} is now ${event.state}: ${event.cause}`;
    case 'condition':
      return `${event.variant} is ${event.active ? 'now' : 'no longer'} in force: ${event.cause}`;
    case 'scale':
      return `${event.instance}: ${event.phase}: ${event.cause}`;
    case 'overflow':
      return `${event.cause}: ${event.evicted} live streams given up for new ones (${event.total} since the start, room for ${event.capacity})`;
    case 'ring':
      return `${event.interface}: ${event.cause}, ${event.dropped} frames lost (${event.total} since the start)`;
    case 'capture':
      return `${event.capture === null ? 'underlay' : event.capture}${event.interface === null ? '' : ` (${event.interface})`} is ${event.state}: ${event.cause}`;
    case 'offload':
      return `${event.interface}: ${event.cause}, super-frames are cut before they reach it`;
  }
}

/** Names come from other people: what could steer a terminal does not reach it. */
const plain = (text: string): string => text.replace(/\p{Cc}/gu, '?');

export function eventLine(event: WeirEvent): string {
  return plain(`${event.time}  ${`g${event.generation}`.padEnd(5)} ${event.kind.padEnd(9)} ${what(event)}  (${event.who})`);
}

/** As it comes over the socket `who` is no more than its fields. */
export function revivedEvent(params: unknown): WeirEvent {
  const event = params as WeirEvent;
  const { name, uid, gid, pid } = event.who;
  return { ...event, who: new Who(name, uid, gid, pid) };
}

async function follow({ kinds, last: wanted }: Options, { socket = DEFAULT_SOCKET, json = false }: Globals): Promise<void> {
  const client = await ControlClient.connect(socket);
  let ended = false;
  const end = (): void => {
    ended = true;
    client.abandon();
  };
  process.once('SIGINT', end).once('SIGTERM', end);
  process.stdout.on('error', end); // `weir events | head -1`: nobody reads any more
  const print = (event: WeirEvent): void => void process.stdout.write(`${json ? JSON.stringify(event) : eventLine(event)}\n`);

  // Those that come while the past ones are asked for wait, so that all stand in order and none twice.
  let early: WeirEvent[] | null = [];
  client.notified((method, params) => {
    if (method !== 'event') return;
    const event = revivedEvent(params);
    if (early === null) print(event);
    else early.push(event);
  });
  const filter = kinds === undefined ? {} : { events: kinds };
  try {
    const { last } = await client.call<{ last: number }>('subscribe', filter);
    const { events } = await client.call<History>('events', { limit: wanted, ...filter });
    for (const event of events) if (event.sequence <= last) print(revivedEvent(event));
    early.forEach(print);
    early = null;
    await client.closed;
  } catch (error) {
    if (!ended) throw error;
  } finally {
    client.abandon();
    process.off('SIGINT', end).off('SIGTERM', end);
  }
  if (!ended) throw new Failure('the connection is lost: weir ended, or cut it because its events were not read in time (its log says which). Run `weir events` again.');
}

export function registerEvents(program: Command): void {
  program
    .command('events')
    .description('what happens, one line each, until Ctrl-C')
    .option('--kinds <list>', `only these, by commas: ${EVENT_KINDS.join(', ')}`, parseKinds)
    .option('--last <number>', `begin with this many of the past ones, at most ${KEPT_EVENTS}`, parseLast, 10)
    .action((options: Options, command: Command) => follow(options, command.optsWithGlobals<Globals>()));
}
