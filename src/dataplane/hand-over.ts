/**
 * The running weir's side of a takeover. The other process has started up and asks by the control socket; over a channel of its own it gets
 * the flow table's file, the held UDP ports and the rings. Then packets stop here, the other one is told where in the rings to go
 * on, and says when it does. Whatever goes wrong before that: this process goes on, with all that it had.
 */
import { ChangeRefused } from '../config/refused.js';
import type { Logger } from '../observe/log.js';
import type { Who } from '../observe/who.js';
import { native, type NativeChannel, type RingHeads, type Rings } from './native.js';
import { hasRings } from './runner.js';
import type { Started } from './start.js';

/** Another number when a message is no longer what it was. */
export const HAND_OVER_FORMAT = 1;
/** Descriptors in one message; the kernel takes 253. */
const MOST_DESCRIPTORS = 200;
const MOST_TEXT = 128 * 1024;
/** The other one maps memory and rings meanwhile; packets go on. */
const READY_MS = 60_000;
/** Packets wait in the rings meanwhile. */
const COMMIT_MS = 5000;

export interface HandOverRequest {
  readonly channel: string;
  /** Of the state that the other process has read. */
  readonly generation: number;
}

/** First message; descriptors come with it and with those behind it: table, ports, rings, in this order. */
export interface Hello {
  readonly format: number;
  readonly pid: number;
  readonly port: string;
  readonly workers: number;
  readonly interfaces: readonly (string | null)[];
  /** Path of the flow table's file. */
  readonly flowFile: string | null;
  readonly ports: readonly { readonly address: string; readonly port: number }[];
  /** How often the service manager's watchdog has to be told; null where there is none. An older weir does not say. */
  readonly watchdogMs?: number | null;
  /** By worker and port. Descriptors and heads come by other ways, and are 0 here. */
  readonly rings: Rings | null;
  readonly descriptors: number;
}

/** Last message: no packet is handled here any more. */
export interface Paused {
  /** Nanoseconds of the monotonic clock. */
  readonly since: string;
  readonly heads: RingHeads | null;
}

export interface Leaving {
  /** See Hello. */
  readonly watchdogMs: number | null;
  /** Ends this process; called where no error is thrown. */
  readonly over: (pid: number) => void;
}

/** Hands over to the process that `who` is. Throws a ChangeRefused where this one goes on. */
export async function handOver(started: Started, request: HandOverRequest, who: Who, log: Logger, { watchdogMs, over }: Leaving): Promise<void> {
  const refuse: (why: string) => never = (why) => {
    throw new ChangeRefused(`${why}: this weir goes on`, 'channel');
  };
  if (who.uid === null || (who.uid !== 0 && who.uid !== process.geteuid?.())) refuse(`only root and the user that runs weir may take it over, and this is ${who}`);
  await started.dataplane.handOver(request.generation, async () => {
    const channel = connect(request.channel) ?? refuse('nobody waits for what is to be handed over');
    try {
      const peer = channel.peer();
      if (peer === null || peer.uid !== who.uid || (who.pid !== null && peer.pid !== who.pid)) refuse('another process waits for what is to be handed over');
      const { runner, configuration } = started.dataplane;
      if (runner.pause === undefined || runner.resume === undefined) return refuse('this port can not be handed over');
      if (!sendAll(channel, started, configuration.port, watchdogMs)) refuse('the other one is gone');
      if ((await channel.receive(READY_MS))?.text !== 'ready') refuse('the other one was not ready');

      const since = process.hrtime.bigint();
      await runner.pause();
      let committed = false;
      try {
        const paused: Paused = { since: String(since), heads: hasRings(runner) ? runner.rings().map((row) => row.map((port) => port?.rings.map(({ head }) => head) ?? null)) : null };
        committed = channel.send(JSON.stringify(paused)) && (await channel.receive(COMMIT_MS))?.text === 'commit';
      } finally {
        if (!committed) {
          runner.resume();
          log.warn(`the takeover by ${who} failed, this weir goes on: packets waited ${Number(process.hrtime.bigint() - since) / 1e6} ms`);
        }
      }
      if (!committed) refuse('the other one did not go on');
      over(peer?.pid ?? 0);
    } finally {
      channel.close();
    }
  });
}

function connect(name: string): NativeChannel | null {
  try {
    return native.Channel.connect(name);
  } catch {
    return null;
  }
}

function sendAll(channel: NativeChannel, started: Started, port: string, watchdogMs: number | null): boolean {
  const { table, workers } = started;
  const { runner } = started.dataplane;
  const ports = started.ports();
  const rings = hasRings(runner) ? runner.rings() : null;
  const descriptors = [...(table === null ? [] : [table.file.descriptor]), ...ports.map(({ descriptor }) => descriptor)];
  const own = descriptors.length;
  const of = (rows: typeof rings): Hello => ({
    format: HAND_OVER_FORMAT,
    pid: process.pid,
    port,
    workers,
    interfaces: started.interfaces(),
    flowFile: table?.path ?? null,
    ports: ports.map(({ address, port: number }) => ({ address, port: number })),
    watchdogMs,
    rings: rows?.map((row) => row.map((port) => (port === null ? null : { ...port, rings: port.rings.map((ring) => ({ ...ring, descriptor: 0, head: 0 })) }))) ?? null,
    descriptors: descriptors.length,
  });
  descriptors.push(...(rings?.flat() ?? []).flatMap((port) => port?.rings.map(({ descriptor }) => descriptor) ?? []));
  let text = JSON.stringify(of(rings));
  if (text.length > MOST_TEXT) {
    descriptors.length = own;
    text = JSON.stringify(of(null));
  }
  if (!channel.send(text, descriptors.slice(0, MOST_DESCRIPTORS))) return false;
  for (let at = MOST_DESCRIPTORS; at < descriptors.length; at += MOST_DESCRIPTORS) if (!channel.send('more', descriptors.slice(at, at + MOST_DESCRIPTORS))) return false;
  return true;
}
