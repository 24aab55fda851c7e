/**
 * Conditional configurations of a running dataplane: keeps what conditions were, so that they know for how long they have held, and
 * decides which policies are to be in force. Pure but for the clock it is given; whoever owns it measures and installs.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Configuration } from '../config/configuration.js';
import type { VariantConfig } from '../config/variants.js';
import { choose, dueAt, evaluateAll, forecast, type Forecast, type States } from './choose.js';
import type { Clock } from './clock.js';
import { conditionText } from './describe.js';
import type { ConditionState } from './evaluate.js';
import { NO_READINGS, type Readings } from './readings.js';

export type Decided = Pick<Configuration, 'configurations' | 'switches'>;

/** A named configuration came into force or left it, as the event bus has it. */
export interface ConditionEvent {
  readonly kind: 'condition';
  readonly cause: string;
  readonly variant: string;
  readonly active: boolean;
}

interface Turned {
  readonly on: boolean;
  readonly sinceMs: number;
}

export interface InForce {
  /** Null: the policies at the top level. */
  readonly variant: VariantConfig | null;
  readonly sinceMs: number;
  readonly cause: string;
}

export class Conditions {
  /** What people turned; other switches are as the configuration has them. */
  #turned: ReadonlyMap<string, Turned> = new Map();
  #readings: Readings = NO_READINGS;
  #looked: Decided = { configurations: [], switches: [] };
  #states: States = new Map();
  #decided: VariantConfig | null = null;
  /** So that a refused configuration costs those before it nothing of what is known of them. */
  readonly #known = new WeakMap<VariantConfig, ConditionState>();
  #inForce: InForce;

  /** `turned`: positions of switches from before a restart. */
  constructor(
    readonly clock: Clock,
    turned: Readonly<Record<string, boolean>> = {},
  ) {
    this.#turned = new Map(Object.entries(turned).map(([name, on]) => [name, { on, sinceMs: clock.now() }]));
    this.#inForce = { variant: null, sinceMs: clock.now(), cause: 'start' };
  }

  /** Judges every condition now. */
  look(configuration: Decided, readings: Readings = this.#readings): void {
    this.#readings = readings;
    const { configurations } = configuration;
    const before = this.#looked.configurations === configurations ? this.#states : this.#adopt(configurations);
    this.#looked = configuration;
    this.#states = evaluateAll(configurations, before, this.#moment(configuration));
    this.#decided = choose(configurations, this.#states);
  }

  /** What is known of the conditions of another configuration: those that are written alike go on. */
  #adopt(configurations: readonly VariantConfig[]): States {
    for (const [variant, state] of this.#states) this.#known.set(variant, state);
    const alike = (variant: VariantConfig): VariantConfig | undefined =>
      this.#looked.configurations.find(({ name, when, damping }) => name === variant.name && damping === variant.damping && isDeepStrictEqual(when, variant.when));
    const found = new Map<VariantConfig, ConditionState>();
    for (const variant of configurations) {
      const twin = alike(variant);
      const state = this.#known.get(variant) ?? (twin === undefined ? undefined : this.#states.get(twin));
      if (state !== undefined) found.set(variant, state);
    }
    return found;
  }

  #moment(configuration: Decided) {
    const switchOn = (name: string): boolean => this.#turned.get(name)?.on ?? configuration.switches.find((one) => one.name === name)?.on ?? false;
    return { nowMs: this.clock.now(), readings: this.#readings, switchOn };
  }

  /** The configuration with the policies that are to be in force. */
  decided<C extends Configuration>(configuration: C): C {
    if (configuration.configurations !== this.#looked.configurations) this.look(configuration);
    return withPolicies(configuration, this.#decided);
  }

  /** The configuration with the policies that are in force, which may still be others. */
  installedIn<C extends Configuration>(configuration: C): C {
    return withPolicies(configuration, this.#inForce.variant);
  }

  /** Why other policies are to be installed; null: those in force are the ones decided on. */
  get pending(): string | null {
    return this.#decided?.name === this.#inForce.variant?.name ? null : this.#cause();
  }

  #cause(): string {
    const [next, last] = [this.#decided, this.#inForce.variant];
    const lastHolds = this.#looked.configurations.some((variant) => variant.name === last?.name && this.#states.get(variant)?.holds === true);
    if (next === null || (last !== null && !lastHolds)) return `${last?.name ?? ''} ended: ${last === null ? '' : conditionText(last.when)}`;
    return `${next.name} holds: ${conditionText(next.when)}`;
  }

  /** Notes that what was decided is in force now, and says what that changed. */
  installed(): readonly ConditionEvent[] {
    const cause = this.pending;
    const last = this.#inForce.variant;
    if (cause === null) {
      this.#inForce = { ...this.#inForce, variant: this.#decided };
      return [];
    }
    this.#inForce = { variant: this.#decided, sinceMs: this.clock.now(), cause };
    const events: ConditionEvent[] = [];
    if (last !== null) events.push({ kind: 'condition', cause, variant: last.name, active: false });
    if (this.#decided !== null) events.push({ kind: 'condition', cause, variant: this.#decided.name, active: true });
    return events;
  }

  turn(configuration: Decided, name: string, on: boolean): void {
    this.#turned = new Map(this.#turned).set(name, { on, sinceMs: this.clock.now() });
    this.look(configuration);
  }

  /** Positions of switches, to put back if a change fails. */
  get switches(): ReadonlyMap<string, Turned> {
    return this.#turned;
  }
  restore(switches: ReadonlyMap<string, Turned>, configuration: Decided): void {
    if (this.#turned === switches && this.#looked.configurations === configuration.configurations) return;
    this.#turned = switches;
    this.look(configuration);
  }
  /** What outlives the process. */
  toSave(): { readonly switches?: Readonly<Record<string, boolean>> } {
    return this.#turned.size === 0 ? {} : { switches: Object.fromEntries([...this.#turned].map(([name, { on }]) => [name, on])) };
  }

  get inForce(): InForce {
    return this.#inForce;
  }
  stateOf(variant: VariantConfig): ConditionState | undefined {
    return this.#states.get(variant);
  }
  /** The next instant at which time alone may change anything; Infinity if never. */
  get dueMs(): number {
    return dueAt(this.#states);
  }
  /** Of what was looked at last. */
  forecast(): Forecast | null {
    return forecast(this.#looked.configurations, this.#states, this.#moment(this.#looked));
  }
}

function withPolicies<C extends Configuration>(configuration: C, variant: VariantConfig | null): C {
  return variant === null ? configuration : { ...configuration, policies: variant.policies };
}
