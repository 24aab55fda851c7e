/** Where the flow table's memory is: a file on tmpfs that the next process finds, or, where none can be had, memory that ends with this one. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, realpathSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Configuration } from '../config/configuration.js';
import { Failure } from '../failure.js';
import type { Logger } from '../observe/log.js';
import type { Continuity } from '../state/state.js';
import { native, type Adoption, type NativeFlowFile } from './native.js';

/** How long a process that is being killed may still hold the file. */
const BUSY_MS = 3000;

const digest = (...parts: readonly (string | Uint8Array)[]): string => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest('hex');

/** What the names of all flow tables of a state directory begin with. */
export function flowFilePrefix(stateDir: string): string {
  let path = resolve(stateDir);
  try {
    path = realpathSync(path);
  } catch {
    // It is not there: the name of nothing.
  }
  return `weir-${digest(path).slice(0, 12)}-`;
}

export interface FlowTable {
  readonly file: NativeFlowFile;
  readonly path: string;
}

export interface FlowTableOptions {
  /** Begin without the streams of the last run. */
  readonly fresh: boolean;
  /** The file as the process has it that hands over. */
  readonly handedOver?: { readonly path: string; readonly descriptor: number } | null;
  /** Where to look for room, in this order. */
  readonly directories?: readonly string[];
}

/** Null, and a line in the log that says why, where streams can't outlive this process. Throws a Failure when another process uses the table. */
export async function openFlowTable(configuration: Configuration, continuity: Continuity, affinityKey: Uint8Array, log: Logger, options: FlowTableOptions): Promise<FlowTable | null> {
  const { fresh, handedOver = null, directories = ['/dev/shm', dirname(resolve(configuration.control.socket))] } = options;
  const common = {
    flowsMax: configuration.flows.max,
    bootId: bootId(),
    identity: Buffer.from(continuity.identity, 'hex'),
    affinityKey,
    fresh,
  };
  if (handedOver !== null) return { file: new native.FlowFile({ ...common, ...handedOver }), path: handedOver.path };

  const prefix = flowFilePrefix(configuration.stateDir);
  // Nobody but its owner can tell the name in advance, and put something in the way.
  const name = `${prefix}${digest('flow table', continuity.identity, continuity.affinityKey).slice(0, 16)}`;
  removeOthers(directories, prefix, name);
  const reasons: string[] = [];
  for (const directory of [...directories].sort((a, b) => Number(existsSync(join(b, name))) - Number(existsSync(join(a, name))))) {
    const path = join(directory, name);
    for (const end = Date.now() + BUSY_MS; ; await sleep(20)) {
      try {
        return { file: new native.FlowFile({ ...common, path, descriptor: null }), path };
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        if (code === 'EBUSY' && Date.now() < end) continue;
        if (code === 'EBUSY') throw new Failure(`another weir has state_dir ${configuration.stateDir} in use (${message}): stop it, replace it (\`weir run --takeover\`), or give this one a state_dir of its own.`);
        reasons.push(message);
        break;
      }
    }
  }
  log.warn({ reasons }, `live streams will not outlive this process: the flow table's memory is its own (${reasons.join('; ')})`);
  return null;
}

/** Tables that nobody can read any more: their key or the meaning of their ids is gone. */
function removeOthers(directories: readonly string[], prefix: string, name: string): void {
  for (const directory of directories) {
    let files: string[];
    try {
      files = readdirSync(directory);
    } catch {
      continue;
    }
    for (const file of files) if (file.startsWith(prefix) && file !== name) native.FlowFile.removeUnused(join(directory, file));
  }
}

function bootId(): Uint8Array {
  return Buffer.from(readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').replace(/[^0-9a-f]/g, ''), 'hex');
}

/** Tenants of captures that are what they were: streams of others would come out elsewhere. */
export function sameTenants({ captures }: Configuration, { before }: Continuity): number[] {
  const key = ({ name, in: inside, out, tenant }: Configuration['captures'][number]): string => JSON.stringify([name, inside, out, tenant]);
  const were = new Set((before?.captures ?? []).map(key));
  return captures.filter((capture) => were.has(key(capture))).map(({ tenant }) => tenant);
}

/** Says in the log, and returns in words, how many streams go on. */
export function tellAdopted(log: Logger, { file, path }: FlowTable, adopted: Adoption): string {
  const { kept, repinned, milliseconds, ...lost } = adopted;
  const words: readonly (readonly [keyof typeof lost, string])[] = [
    ['expired', 'were idle for too long'],
    ['noPath', 'are of paths that are gone'],
    ['noCapture', 'are of captures that changed'],
    ['noRoom', 'found no room'],
    ['damaged', 'were being changed or are damaged'],
  ];
  const dropped = words.filter(([reason]) => lost[reason] > 0).map(([reason, why]) => `${lost[reason]} ${why}`);
  const text =
    file.note !== '' ? `no live streams are taken over: ${file.note}` : `${kept} live streams go on${repinned > 0 ? `, ${repinned} of them with an instance less` : ''}${dropped.length > 0 ? `; ${dropped.join(', ')}` : ''}`;
  log[lost.damaged > 0 ? 'warn' : 'info']({ flow_table: path, huge_pages: file.huge, ...adopted, milliseconds: Math.round(milliseconds * 10) / 10 }, text);
  return text;
}
