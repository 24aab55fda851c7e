/** An appliance as `weir appliance status` tells of it. */
import type { ApplianceConfig } from './document.js';
import type { Edition } from './messages.js';
import type { Heard, Manager } from './manager.js';
import type { DispatcherReport, UnitReport } from './messages.js';
import { newest, stable, unitsIn } from './rollout.js';

export type UnitState = 'serving' | 'joining' | 'leaving' | 'standby' | 'starting' | 'away' | 'failed';

export interface UnitView {
  readonly name: string;
  readonly address: string;
  readonly host: string;
  readonly state: UnitState;
  /** Why it failed; null. */
  readonly cause: string | null;
  /** Null: it has not been heard of. */
  readonly heard_ms_ago: number | null;
  /** It has not said yet that it has what the manager said last. */
  readonly behind: boolean;
  readonly streams: number;
  readonly cpu: number | null;
  readonly packets_per_second: number | null;
  /** Packets of streams that others may have, and from others. */
  readonly passed_on: number;
  readonly taken_up: number;
  /** Streams that became its own, and of them TCP whose first packet there opened no connection. */
  readonly opened: number;
  readonly opened_midstream: number;
}

export interface DispatcherView {
  readonly name: string;
  readonly address: string;
  readonly state: 'ready' | 'behind' | 'failing' | 'away';
  readonly cause: string | null;
  readonly heard_ms_ago: number | null;
  readonly streams: number;
}

export interface ApplianceStatus extends Edition {
  readonly name: string;
  readonly service: string;
  readonly function: string;
  readonly manager: string;
  readonly leader: string | null;
  readonly managers: readonly { readonly name: string; readonly address: string; readonly leads: boolean }[];
  /** `steady`, or what is waited for. */
  readonly phase: string;
  /** As asked for, serving, and the layout's bounds. */
  readonly count: { readonly wanted: number; readonly serving: number; readonly min: number; readonly max: number };
  /** Oldest first. `streams`: those that are found by this map and by none that is newer. */
  readonly maps: readonly { readonly version: number; readonly units: number; readonly streams: number }[];
  readonly units: readonly UnitView[];
  readonly dispatchers: readonly DispatcherView[];
}

export function statusOf(manager: Manager, appliance: ApplianceConfig): ApplianceStatus {
  const { rollout, edition } = manager;
  const { layout } = appliance;
  const behind = (heard: Heard<Edition> | undefined): boolean => heard === undefined || heard.report.term !== edition.term || heard.report.revision !== edition.revision;
  const ago = (heard: Heard<unknown> | undefined): number | null => (heard === undefined ? null : Math.round(manager.silentMs(heard)));
  const away = (heard: Heard<unknown> | undefined): boolean => heard === undefined || manager.silentMs(heard) > layout.leaseMs;
  const now = newest(rollout);
  const serving = new Set((rollout.maps.find(({ version }) => version === rollout.opened) ?? now)?.members.map(([name]) => name) ?? []);
  const joining = new Set(now?.members.map(([name]) => name).filter((name) => !serving.has(name)) ?? []);

  const stateOf = (name: string, heard: Heard<UnitReport> | undefined): UnitState => {
    if (name in rollout.leaving) return 'leaving';
    if (serving.has(name)) return 'serving';
    if (joining.has(name)) return 'joining';
    if (!away(heard)) return 'standby';
    return manager.starter.starting(name) ? 'starting' : manager.starter.failed(name) ? 'failed' : 'away';
  };
  const known = new Map(appliance.units.map(({ name, address, host }) => [name, { address, host }]));
  const names = [...known.keys(), ...unitsIn(rollout).filter((name) => !known.has(name))];
  const units = names.map((name): UnitView => {
    const heard = manager.units.get(name);
    const report = heard?.report;
    return {
      name,
      address: known.get(name)?.address ?? report?.address ?? '',
      host: known.get(name)?.host ?? '',
      state: stateOf(name, heard),
      cause: manager.starter.cause(name),
      heard_ms_ago: ago(heard),
      behind: !away(heard) && behind(heard),
      streams: report?.streams ?? 0,
      cpu: report?.cpu ?? null,
      packets_per_second: report?.packetsPerSecond ?? null,
      passed_on: report?.passedOn ?? 0,
      taken_up: report?.takenUp ?? 0,
      opened: report?.opened ?? 0,
      opened_midstream: report?.openedMidstream ?? 0,
    };
  });
  const dispatchers = appliance.dispatchers.map(({ name, address }): DispatcherView => {
    const heard: Heard<DispatcherReport> | undefined = manager.dispatchers.get(name);
    const cause = heard?.report.error ?? null;
    return { name, address, state: away(heard) ? 'away' : cause !== null ? 'failing' : behind(heard) ? 'behind' : 'ready', cause, heard_ms_ago: ago(heard), streams: heard?.report.streams ?? 0 };
  });
  const needs = (version: number): number => [...manager.units.values()].reduce((sum, { report }) => sum + (report.needs.find((_, i) => i % 2 === 1 && report.needs[i - 1] === version) ?? 0), 0);
  return {
    ...edition,
    name: appliance.name,
    service: appliance.service,
    function: appliance.function,
    manager: manager.name,
    leader: manager.leader,
    managers: appliance.managers.map(({ name, address }) => ({ name, address, leads: name === manager.leader })),
    phase: phaseOf(manager),
    count: { wanted: manager.count, serving: serving.size, min: layout.min, max: layout.max },
    maps: rollout.maps.map(({ version, members }) => ({ version, units: members.length, streams: needs(version) })),
    units,
    dispatchers,
  };
}

function phaseOf({ rollout }: Manager): string {
  const version = newest(rollout)?.version ?? 0;
  if (version === 0) return 'no unit is there yet';
  if (!stable(rollout)) return rollout.told === version ? `dispatchers get map ${version}` : `units get map ${version}`;
  const leaving = Object.keys(rollout.leaving);
  return leaving.length === 0 ? 'steady' : `steady, ${leaving.join(', ')} leaving`;
}
