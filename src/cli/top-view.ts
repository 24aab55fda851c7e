/** What `weir top` shows, as lines of text: a pure function of two looks at a weir and the size of the screen. */
import { styleText } from 'node:util';
import type { chains as chainsOf, InstanceView, services as servicesOf, stats as statsOf, status as statusOf } from '../dataplane/views.js';
import type { WeirEvent } from '../observe/events.js';
import { table, type Cell } from '../observe/print.js';
import { eventLine } from './events.js';

type Answer<F extends (...args: never[]) => unknown> = Awaited<ReturnType<F>>;

export interface Look {
  readonly atMs: number;
  readonly status: Answer<typeof statusOf>;
  readonly stats: Answer<typeof statsOf>;
  readonly chains: Answer<typeof chainsOf>;
  readonly services: Answer<typeof servicesOf>;
  /** Oldest first. */
  readonly events: readonly WeirEvent[];
}

export interface Screen {
  /** Infinity: as many as it takes. */
  readonly rows: number;
  readonly columns: number;
  readonly colour: boolean;
}

const BAR = 10;
const FEWEST_EVENTS = 3;

/** `950`, `12.3k`, `4.56M`, `7.8G`. */
export function short(value: number): string {
  if (value < 999.5) return value < 10 && value % 1 !== 0 ? value.toFixed(1) : value.toFixed(0);
  const steps = [['k', 1e3], ['M', 1e6], ['G', 1e9], ['T', 1e12]] as const;
  const [unit, size] = steps.findLast(([, from]) => value >= from * 0.9995) ?? steps[0];
  return `${(value / size).toPrecision(3)}${unit}`;
}

/** `####......`: `share` from 0 to 1. */
export function bar(share: number): string {
  const filled = Math.max(0, Math.min(BAR, Math.round(share * BAR)));
  return `${'#'.repeat(filled)}${'.'.repeat(BAR - filled)}`;
}

interface Count {
  readonly packets: number;
  readonly bytes: number;
}
const NONE: Count = { packets: 0, bytes: 0 };

/** Per second between two looks; null before the second one. */
class Rates {
  readonly #seconds: number;

  constructor(before: Look | null, now: Look) {
    // Another process counts from 0 again.
    const same = before !== null && before.status.pid === now.status.pid;
    this.#seconds = same ? Math.max(0.001, (now.atMs - before.atMs) / 1000) : 0;
  }

  of(before: number | undefined, now: number): number | null {
    return this.#seconds === 0 ? null : Math.max(0, now - (before ?? 0)) / this.#seconds;
  }

  text(before: Count | undefined, now: Count): [packets: Cell, bits: Cell] {
    const [packets, bits] = [this.of(before?.packets, now.packets), this.of(before?.bytes, now.bytes)];
    return [packets === null ? '-' : short(packets), bits === null ? '-' : short(bits * 8)];
  }
}

/** What an instance says of its CPU; else its streams beside those of the busiest of its service. */
function loadOf({ load, streams }: InstanceView, most: number): string {
  const cpu = load.load?.cpu ?? null;
  if (cpu !== null) return `${bar(cpu / 100)} ${cpu.toFixed(0).padStart(3)}% cpu`;
  return most === 0 ? `${bar(0)}   -` : `${bar(streams / most)} ${((streams / most) * 100).toFixed(0).padStart(3)}% of most`;
}

function head({ status, stats }: Look, before: Look | null, rates: Rates): string[] {
  const [packets, bits] = rates.text(before?.stats.captured ?? NONE, stats.captured);
  const dropped = (of: Look['stats'] | undefined): number => Object.values(of?.dropped ?? {}).reduce((sum, n) => sum + n, 0);
  const lost = (of: Look['stats'] | undefined): number => of?.ports.reduce((sum, port) => sum + port.rxDropped, 0) ?? 0;
  const each = (value: number | null): string => (value === null ? '-' : short(value));
  return [
    `weir ${status.pid}  up ${status.uptimeSeconds} s  generation ${status.generation}  instances ${status.instances.up} of ${status.instances.total} up`,
    `streams ${status.streams.active} of ${status.streams.capacity}  ${packets} packets/s  ${bits} bit/s  dropped ${each(rates.of(dropped(before?.stats), dropped(stats)))}/s (${dropped(stats)} in all)  ring full ${each(rates.of(lost(before?.stats), lost(stats)))}/s`,
  ];
}

function chainRows(now: Look, before: Look | null, rates: Rates): (readonly Cell[])[] {
  return now.chains.map((chain) => {
    const was = before?.chains.find(({ name }) => name === chain.name);
    const streams = chain.paths.reduce((sum, path) => sum + path.streams, 0);
    return [chain.name, chain.services.join(' > '), streams, ...rates.text(was, chain)];
  });
}

function instanceRows(now: Look, before: Look | null, rates: Rates): (readonly Cell[])[] {
  return now.services.flatMap((service) => {
    const most = Math.max(0, ...service.instances.map(({ streams }) => streams));
    const was = new Map(before?.services.find(({ name }) => name === service.name)?.instances.map((instance) => [instance.name, instance]));
    return service.instances.map((instance) => {
      const state = `${instance.state}${instance.reachable ? '' : ' (no neighbour)'}`;
      return [`${service.name}/${instance.name}`, state, loadOf(instance, most), instance.streams, ...rates.text(was.get(instance.name)?.sent, instance.sent), instance.state === 'up' ? '' : (instance.health?.cause ?? '')];
    });
  });
}

/** Names come from other people: what could steer a terminal does not reach it. */
const plain = (text: string): string => text.replace(/\p{Cc}/gu, '?');

export function topLines(now: Look, before: Look | null, { rows, columns, colour }: Screen): string[] {
  const rates = new Rates(before, now);
  const title = (text: string): string => (colour ? styleText('bold', text) : text);
  const cut = (text: string): string => plain(text).slice(0, Math.max(1, columns));
  const [chainHead = '', ...chainLines] = table(['chain', 'services', 'streams', 'packets/s', 'bit/s'], chainRows(now, before, rates)).split('\n').map(cut);
  const [instanceHead = '', ...instanceLines] = table(['instance', 'state', 'load', 'streams', 'packets/s', 'bit/s', 'why'], instanceRows(now, before, rates)).split('\n').map(cut);
  const scales = now.services.flatMap(({ name, scale }) => (scale === null ? [] : [cut(`scale ${name}: ${scale.count} of ${scale.min} to ${scale.max}${scale.faults.map(({ hook, cause }) => `; hook ${hook} fails: ${cause}`).join('')}`)]));

  // Heads, blank lines and a few events are always there; of long lists the beginning is.
  const heading = head(now, before, rates).map(cut);
  const events = now.events.map((event) => cut(eventLine(event)));
  const fixed = heading.length + scales.length + 6 + Math.min(FEWEST_EVENTS, events.length);
  const room = Math.max(2, rows - fixed);
  const forChains = Math.min(chainLines.length, Math.max(1, Math.floor(room / 3)));
  const forInstances = Math.min(instanceLines.length, Math.max(1, room - forChains));
  const forEvents = Math.max(FEWEST_EVENTS, room - forChains - forInstances + FEWEST_EVENTS);
  const some = (lines: readonly string[], most: number): string[] => (lines.length <= most ? [...lines] : [...lines.slice(0, most - 1), cut(`… ${lines.length - most + 1} more`)]);
  const lines = [
    title(heading[0] ?? ''),
    ...heading.slice(1),
    '',
    title(chainHead),
    ...some(chainLines, forChains),
    '',
    title(instanceHead),
    ...some(instanceLines, forInstances).map((line) => (colour ? coloured(line) : line)),
    ...scales,
    '',
    title(cut('events')),
    ...(events.length === 0 ? [cut('(none)')] : rows === Infinity ? events : events.slice(-forEvents)),
  ];
  return lines.slice(0, rows);
}

function coloured(line: string): string {
  if (/^\S+ +(down|standby)/.test(line)) return styleText('red', line);
  return /^\S+ +draining/.test(line) ? styleText('yellow', line) : line;
}
