/** Conditions in virtual time, asked as a dataplane asks them: each second, and at the instants that time alone decides. */
import type { Clock } from '../../src/conditions/clock.js';
import { Conditions } from '../../src/conditions/conditions.js';
import { readingsOf } from '../../src/conditions/readings.js';
import { conditionsView } from '../../src/conditions/view.js';
import type { Configuration } from '../../src/config/configuration.js';
import { valid } from './configuration.js';

export class VirtualClock implements Clock {
  constructor(public ms: number) {}
  now(): number {
    return this.ms;
  }
}

export const at = (iso: string): number => Date.parse(iso);

/** Services firewall (two instances) and ids, a capture web, switches manual (off) and armed (on). */
export const BASE = `
underlay: {interface: eth1}
captures: [{name: web, in: a, out: b}]
services:
  firewall: {instances: [{name: fw-1, address: 10.20.0.11}, {name: fw-2, address: 10.20.0.12}]}
  ids: {instances: [{name: ids-1, address: 10.20.0.21}]}
chains: {inspect: [firewall, ids], short: [firewall]}
policies: [{name: all, match: {}, chain: inspect}]
switches: {manual: off, armed: on}
`;

/** A named configuration of one policy. */
export const variant = (name: string, when: string, more = ''): string => `  ${name}: {when: {${when}}, policies: [{name: ${name}, match: {}, chain: short}]${more}}\n`;

export class VirtualConditions {
  readonly clock: VirtualClock;
  readonly conditions: Conditions;
  readonly configuration: Configuration;
  /** Each switch: when, and what came into force (`-`: the top level). */
  readonly switches: string[] = [];

  constructor(variants: string, start: string) {
    this.clock = new VirtualClock(at(start));
    this.conditions = new Conditions(this.clock);
    this.configuration = valid(`${BASE}configurations:\n${variants}`);
  }

  get inForce(): string {
    return this.conditions.inForce.variant?.name ?? '-';
  }

  look(readings: Readonly<Record<string, number>> = {}): string {
    this.conditions.look(this.configuration, readingsOf(readings));
    if (this.conditions.pending !== null) {
      this.conditions.installed();
      this.switches.push(`${new Date(this.clock.ms).toISOString()} ${this.inForce}`);
    }
    return this.inForce;
  }

  /** Up to and without `end`. Gives the switches on the way. */
  run(end: string, readings: (ms: number) => Readonly<Record<string, number>> = () => ({})): string[] {
    const before = this.switches.length;
    while (this.clock.ms < at(end)) {
      this.look(readings(this.clock.ms));
      const second = (Math.floor(this.clock.ms / 1000) + 1) * 1000;
      this.clock.ms = Math.min(second, Math.max(this.clock.ms + 1, this.conditions.dueMs));
    }
    return this.switches.slice(before);
  }

  turn(name: string, on: boolean): void {
    this.conditions.turn(this.configuration, name, on);
  }

  view() {
    return conditionsView(this.conditions, this.configuration);
  }
}
