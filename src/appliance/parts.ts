/** What each member is told: only what its role needs. */
import { mergePatch } from '../config/patch.js';
import type { ApplianceConfig } from './document.js';
import type { DispatcherPart, UnitPart } from './messages.js';
import { listFor, unitsIn, type Rollout } from './rollout.js';

export function unitPart(appliance: ApplianceConfig, rollout: Rollout, name: string, placeOf: (unit: string) => string): UnitPart {
  const names = unitsIn(rollout);
  const index = new Map(names.map((unit, i) => [unit, i]));
  const own = appliance.units.find((unit) => unit.name === name)?.settings ?? {};
  return {
    type: 'unit_part',
    term: rollout.term,
    revision: rollout.revision,
    service: appliance.service,
    function: appliance.function,
    settings: appliance.settings === null ? null : (mergePatch(appliance.settings, own) as UnitPart['settings']),
    epoch: rollout.epochs[name] ?? 0,
    opened: rollout.opened,
    dispatchers: appliance.dispatchers.map(({ address }) => address),
    units: names.map((unit) => [unit, placeOf(unit)]),
    maps: rollout.maps.map(({ version, members }) => ({ version, members: members.flatMap(([unit, weight]) => [index.get(unit) ?? 0, weight]) })),
  };
}

export function dispatcherPart(appliance: ApplianceConfig, rollout: Rollout, placeOf: (unit: string) => string): DispatcherPart {
  const { serving, leaving } = listFor(rollout);
  const weights = new Map(appliance.units.map(({ name, weight }) => [name, weight]));
  return {
    type: 'dispatcher_part',
    term: rollout.term,
    revision: rollout.revision,
    service: appliance.service,
    instances: [
      ...serving.map(([name, weight]) => ({ name, address: placeOf(name), weight, leaving: false })),
      ...leaving.map((name) => ({ name, address: placeOf(name), weight: weights.get(name) ?? 1, leaving: true })),
    ].sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
}
