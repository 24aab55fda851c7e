/** Named configurations as the rest of weir sees them, from a document that is known to be valid. */
import { condition, type Condition, type RawCondition, type SwitchConfig } from './conditions.js';
import type { PolicyConfig } from './configuration.js';
import type { RawPolicy } from './normalise.js';

/** Policies that replace those at the top level while the condition holds. */
export interface VariantConfig {
  readonly name: string;
  /** The highest that holds is in force; among equals, the first written. */
  readonly priority: number;
  readonly when: Condition;
  /** Whether measured conditions that flap are taken as unknown until they are calm. */
  readonly damping: boolean;
  readonly policies: readonly PolicyConfig[];
}

export interface RawVariant {
  priority?: number;
  when: RawCondition;
  damping?: 'on' | 'off';
  policies: readonly RawPolicy[];
}

export type RawVariants = Readonly<Record<string, RawVariant>> | readonly (RawVariant & { name: string })[];
export type RawSwitches = Readonly<Record<string, 'on' | 'off'>>;

export function variants(raw: RawVariants | undefined, policies: (raw: readonly RawPolicy[]) => readonly PolicyConfig[]): VariantConfig[] {
  const named = Array.isArray(raw) ? (raw as readonly (RawVariant & { name: string })[]) : Object.entries(raw ?? {}).map(([name, variant]) => ({ ...(variant as RawVariant), name }));
  return named.map((variant) => ({
    name: variant.name,
    priority: variant.priority ?? 0,
    when: condition(variant.when),
    damping: variant.damping !== 'off',
    policies: policies(variant.policies),
  }));
}

export function switches(raw: RawSwitches | undefined): SwitchConfig[] {
  return Object.entries(raw ?? {}).map(([name, position]) => ({ name, on: position === 'on' }));
}
