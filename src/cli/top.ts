/** `weir top`: chains, instances, their load, streams and events, on a terminal until q is pressed; once where there is none. */
import { setTimeout as sleep } from 'node:timers/promises';
import ansi from 'ansi-escapes';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { durationMs } from '../config/forms.js';
import { ControlClient } from '../control/client.js';
import { Failure } from '../failure.js';
import type { History } from '../observe/events.js';
import { DEFAULT_SOCKET, type Globals } from './control.js';
import { revivedEvent } from './events.js';
import { topLines, type Look } from './top-view.js';

interface Options {
  readonly once?: boolean;
  readonly interval: number;
}

const EVENTS = 50;

async function lookAt(client: ControlClient): Promise<Look> {
  // Asked together: answers come in the order of the requests, and belong to nearly the same moment.
  const [status, stats, chains, services, history] = await Promise.all([
    client.call<Look['status']>('status'),
    client.call<Look['stats']>('stats'),
    client.call<Look['chains']>('chains'),
    client.call<Look['services']>('services'),
    client.call<History>('events', { limit: EVENTS }),
  ]);
  return { atMs: performance.now(), status, stats, chains, services, events: history.events.map(revivedEvent) };
}

async function once(path: string, intervalMs: number, json: boolean): Promise<void> {
  const client = await ControlClient.connect(path);
  try {
    const before = await lookAt(client);
    await sleep(intervalMs);
    const now = await lookAt(client);
    if (json) console.log(JSON.stringify({ before, now }));
    else console.log(topLines(now, before, { rows: Infinity, columns: process.stdout.columns ?? Infinity, colour: false }).join('\n'));
  } finally {
    client.abandon();
  }
}

/** A screen of its own, given back whatever happens. */
async function follow(path: string, intervalMs: number): Promise<void> {
  const { stdin, stdout } = process;
  const ended = new AbortController();
  const end = (): void => ended.abort();
  const key = (pressed: Buffer): void => {
    // Ctrl-C is a key while the terminal is raw.
    if (['q', 'Q', '\x03', '\x04', '\x1b'].includes(pressed.toString())) end();
  };
  let before: Look | null = null;
  let client: ControlClient | null = null;
  let drawn: readonly string[] = [];
  const draw = (lines: readonly string[]): void => {
    drawn = lines;
    stdout.write(`${ansi.cursorTo(0, 0)}${lines.map((line) => line + ansi.eraseEndLine).join('\n')}${ansi.eraseDown}`);
  };
  const screen = () => ({ rows: stdout.rows, columns: stdout.columns, colour: stdout.hasColors() });
  let last: Look | null = null;
  const resized = (): void => draw(last === null ? drawn : topLines(last, before, screen()));
  stdin.setRawMode?.(true);
  stdin.on('data', key);
  stdout.on('resize', resized).on('error', end);
  process.once('SIGTERM', end).once('SIGINT', end).once('SIGHUP', end);
  stdout.write(ansi.enterAlternativeScreen + ansi.cursorHide + ansi.clearTerminal);
  try {
    while (!ended.signal.aborted) {
      try {
        client ??= await ControlClient.connect(path);
        const now = await lookAt(client);
        before = last;
        last = now;
        draw(topLines(now, before, screen()));
      } catch (error) {
        // It may be back in a moment: a restart, a takeover.
        client?.abandon();
        client = null;
        draw([`${(error as Error).message}`, 'trying again; q ends this', '', ...drawn.slice(3)].slice(0, stdout.rows));
      }
      await sleep(intervalMs, undefined, { signal: ended.signal }).catch(() => undefined);
    }
  } finally {
    stdout.write(ansi.cursorShow + ansi.exitAlternativeScreen);
    stdin.off('data', key);
    stdin.setRawMode?.(false);
    stdin.pause();
    stdout.off('resize', resized).off('error', end);
    process.off('SIGTERM', end).off('SIGINT', end).off('SIGHUP', end);
    client?.abandon();
  }
}

function interval(text: string): number {
  const ms = durationMs(text);
  if (ms < 100 || ms > 3_600_000) throw new InvalidArgumentError('expected a duration from 100ms to 1h.');
  return ms;
}

export function registerTop(program: Command): void {
  program
    .command('top')
    .description('chains, instances, their load, streams and events, live; q ends it')
    .option('--once', 'print it once and end, as it does where there is no terminal')
    .addOption(new Option('--interval <duration>', 'from one look to the next').argParser(interval).default(1000, '1s'))
    .action(async ({ once: single = false, interval: everyMs }: Options, command: Command) => {
      const { socket = DEFAULT_SOCKET, json = false } = command.optsWithGlobals<Globals>();
      if (single || json || !process.stdout.isTTY || !process.stdin.isTTY) return once(socket, everyMs, json);
      // The first failure is said as every command says it.
      (await ControlClient.connect(socket)).abandon();
      if (process.env['TERM'] === 'dumb') throw new Failure('this terminal can\'t be drawn on (TERM=dumb): use --once.', 2);
      return follow(socket, everyMs);
    });
}
