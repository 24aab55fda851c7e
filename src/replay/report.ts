/** What a replay did, for people and for programs. */
import type { Configuration } from '../config/configuration.js';
import { bytes, counts, table } from '../observe/print.js';
import { instanceKey } from '../program/compile.js';
import type { ReplayResult } from './replay.js';

export interface Report {
  readonly read: string;
  readonly packets: number;
  readonly unusable: number;
  /** Null: the file was read to its end. */
  readonly error: string | null;
  readonly totals: Readonly<Record<'captured' | 'stamped' | 'delivered' | 'crossed', { packets: number; bytes: number }>>;
  readonly streams: { readonly opened: number; readonly expired: number; readonly evicted: number; readonly live: number };
  readonly policies: readonly { name: string; streams: number; packets: number; bytes: number }[];
  readonly chains: readonly { name: string; streams: number; packets: number; bytes: number }[];
  readonly instances: readonly { name: string; packets: number; bytes: number; returned: number }[];
  readonly dropped: Readonly<Record<string, number>>;
  readonly crossed: Readonly<Record<string, number>>;
}

const positive = (counts: Readonly<Record<string, number>>): Record<string, number> => Object.fromEntries(Object.entries(counts).filter(([, n]) => n > 0));

export function makeReport(read: string, configuration: Configuration, { progress, counters, ids }: ReplayResult): Report {
  const row = (rows: readonly { id: number; packets: number; bytes: number; streams: number }[], id: number) => {
    const found = rows.find((candidate) => candidate.id === id);
    return { streams: found?.streams ?? 0, packets: found?.packets ?? 0, bytes: found?.bytes ?? 0 };
  };
  const { captured, stamped, delivered, crossed } = counters;
  return {
    read,
    packets: progress.packets,
    unusable: progress.unusable,
    error: progress.error,
    totals: { captured, stamped, delivered, crossed },
    streams: { opened: counters.streams.opened, expired: counters.streams.expired, evicted: counters.streams.evicted, live: counters.streams.active },
    policies: configuration.policies.map(({ name }) => ({ name, ...row(counters.policies, ids.policies.id(name)) })),
    chains: configuration.chains.map(({ name }) => ({ name, ...row(counters.chains, ids.chains.id(name)) })),
    instances: configuration.services.flatMap((service) =>
      service.instances.map((instance) => {
        const name = instanceKey(service.name, instance.name);
        const found = counters.instances.find((candidate) => candidate.id === ids.instances.id(name));
        return { name, packets: found?.sent.packets ?? 0, bytes: found?.sent.bytes ?? 0, returned: found?.received.packets ?? 0 };
      }),
    ),
    dropped: positive(counters.dropped),
    crossed: positive(counters.crossedBy),
  };
}

export function formatReport(report: Report): string {
  const { totals, streams } = report;
  const lines = [
    `${report.read}: ${report.packets} packets${report.unusable > 0 ? `, ${report.unusable} of them without Ethernet frame or IP packet` : ''}`,
    `captured ${totals.captured.packets}, stamped ${totals.stamped.packets}, delivered ${totals.delivered.packets}, crossed ${totals.crossed.packets}`,
    `streams: ${streams.opened} opened, ${streams.expired} expired, ${streams.evicted} evicted, ${streams.live} live at the end`,
    '',
    table(['policy', 'streams', 'packets', 'bytes'], report.policies.map((p) => [p.name, p.streams, p.packets, bytes(p.bytes)])),
    '',
    table(['chain', 'streams', 'packets', 'bytes'], report.chains.map((c) => [c.name, c.streams, c.packets, bytes(c.bytes)])),
    '',
    table(['instance', 'packets', 'returned', 'bytes'], report.instances.map((i) => [i.name, i.packets, i.returned, bytes(i.bytes)])),
    '',
    counts('dropped', report.dropped),
    '',
    counts('crossed', report.crossed),
  ];
  if (report.error !== null) lines.push('', `the file is cut short or broken: ${report.error}; what was readable is in the figures above`);
  return lines.join('\n');
}
