/** `weir capture`: what goes to an instance and comes back, into a capture file, while traffic flows. */
import { setPriority } from 'node:os';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { ControlClient } from '../control/client.js';
import type { CaptureTarget } from '../control/observe-methods.js';
import { requireNetRaw } from '../dataplane/host.js';
import { native, type NativeLiveCapture } from '../dataplane/native.js';
import { Failure } from '../failure.js';
import { DEFAULT_SOCKET, type Globals } from './control.js';

interface Options {
  readonly instance: string;
  readonly underlay?: string;
  readonly write: string;
  readonly inner?: boolean;
  readonly whole?: boolean;
  readonly filter?: string;
  readonly innerFilter?: string;
  readonly direction: 'both' | 'to' | 'from';
  readonly count: number;
  readonly seconds?: number;
  readonly snaplen: number;
  readonly buffer: number;
}

/** A reader at the end of a pipe that takes nothing any more holds the end up for this long. */
const PATIENCE_MS = 2000;
const NICE = 10;

const within = (low: number, high: number) => (text: string): number => {
  if (!/^[0-9]+$/.test(text) || Number(text) < low || Number(text) > high) throw new InvalidArgumentError(`expected a whole number from ${low} to ${high}.`);
  return Number(text);
};

export function captureSummary({ packets, bytes, frames, filtered, unread, dropped }: ReturnType<NativeLiveCapture['counters']>): string {
  const more = [
    ...(filtered > 0 ? [`${filtered} left out by the filter`] : []),
    ...(unread > 0 ? [`${unread} without a stamp that can be read`] : []),
  ];
  return `${packets} packets written (${bytes} bytes), ${frames} frames seen, ${dropped} dropped by the kernel${more.length > 0 ? `, ${more.join(', ')}` : ''}`;
}

async function capture(options: Options, { socket = DEFAULT_SOCKET, json = false }: Globals): Promise<void> {
  const toPipe = options.write === '-';
  if (toPipe && process.stdout.isTTY) throw new Failure('--write -: standard output is a terminal; send it on: weir capture … --write - | tshark -i -', 2);
  requireNetRaw();
  try {
    setPriority(NICE); // what moves packets goes first
  } catch {
    // Then it does not.
  }
  const client = await ControlClient.connect(socket);
  let running: NativeLiveCapture;
  let target: CaptureTarget;
  try {
    target = await client.call<CaptureTarget>('capture.open', { instance: options.instance, ...(options.underlay === undefined ? {} : { underlay: options.underlay }) });
    running = new native.Capture({
      interface: target.interface,
      addresses: target.instances.map(({ address }) => address),
      direction: options.direction,
      filter: options.filter ?? '',
      innerFilter: options.innerFilter ?? '',
      inner: options.inner ?? false,
      whole: options.whole ?? false,
      write: options.write,
      snaplen: options.snaplen,
      count: options.count,
      megabytes: options.buffer,
    });
  } catch (error) {
    client.abandon();
    throw error instanceof Failure || !(error instanceof Error) || error.constructor !== Error ? error : new Failure(`${error.message}.`);
  }
  let stopping = false;
  const stop = (): void => {
    if (stopping) return;
    stopping = true;
    void running.stop().catch(() => undefined);
    setTimeout(() => {
      console.error('whoever reads the capture has stopped reading; the last packets are lost');
      process.exit(1);
    }, PATIENCE_MS).unref();
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  const timer = options.seconds === undefined ? undefined : setTimeout(stop, options.seconds * 1000);
  let orphaned = false;
  void client.closed.then(() => {
    orphaned = !stopping;
    stop();
  });
  console.error(`capturing ${target.instances.map(({ name, address }) => `${name} (${address})`).join(', ')} on ${target.interface}`);
  try {
    await running.finished;
  } catch (error) {
    throw new Failure(`${(error as Error).message}.`);
  } finally {
    clearTimeout(timer);
    stopping = true;
    client.close();
    console.error(captureSummary(running.counters()));
  }
  if (json) (toPipe ? console.error : console.log)(JSON.stringify(running.counters()));
  if (orphaned) throw new Failure('weir ended, or closed the connection: the capture ends with it.');
  process.exit(); // the timer above would hold a pipe that nobody reads
}

export function registerCapture(program: Command): void {
  program
    .command('capture')
    .description('write what goes to an instance and comes back into a capture file (pcap, nanoseconds), until Ctrl-C')
    .requiredOption('--instance <service/name>', 'the instance; a service alone: all of its instances')
    .option('--underlay <name>', 'where a service has instances on several underlays: those on this one')
    .requiredOption('-w, --write <file>', 'where to; - is standard output: weir capture … --write - | tshark -i -')
    .option('--inner', 'the packets inside instead of the stamped frames')
    .option('--filter <expression>', 'what is written must match (pcap-filter(7)): "tcp port 443"')
    .option('--inner-filter <expression>', 'the packet inside must match, whichever of the two is written')
    .addOption(new Option('--direction <which>', 'to the instance, from it, or both').choices(['both', 'to', 'from']).default('both'))
    .option('--count <number>', 'end after this many packets; 0: never', within(0, Number.MAX_SAFE_INTEGER), 0)
    .option('--seconds <number>', 'end after this time', within(1, 2_000_000))
    .option('--snaplen <bytes>', 'keep this much of each packet', within(64, 262_144), 262_144)
    .option('--whole', 'leave super-frames as the kernel has them, instead of the datagrams that a wire would carry')
    .option('--buffer <MiB>', 'what the kernel may hold until it is written; beyond that packets are dropped and counted', within(2, 1024), 32)
    .action((options: Options, command: Command) => capture(options, command.optsWithGlobals<Globals>()));
}
