/**
 * Policies to rules: each combination of a policy's alternatives is one rule, and the rules are sorted by precedence
 * (priority, then specificity, then document order), so that the first match wins.
 */
import { parsePrefix, type Prefix } from '../config/address.js';
import type { Configuration, PolicyConfig, PortRange } from '../config/configuration.js';
import { RULE_BYTES } from '../dataplane/native.js';

export const MAX_RULES = 1_000_000;

export interface Rule {
  readonly policy: number;
  readonly order: number;
  readonly priority: number;
  readonly specificity: number;
  readonly capture: number | null;
  readonly vlan: number | null;
  readonly direction: 'out' | 'in' | null;
  readonly protocol: number | null;
  readonly source: Prefix | null;
  readonly destination: Prefix | null;
  readonly sourcePorts: PortRange | null;
  readonly destinationPorts: PortRange | null;
  readonly action: PolicyConfig['action'];
}

function rangeSpecificity(range: PortRange | null): number {
  return range === null ? 0 : 16 - Math.ceil(Math.log2(range.high - range.low + 1));
}

/** How much of a packet a rule pins down, in bits; the more specific of two rules of one priority wins. */
export function specificity(rule: Omit<Rule, 'specificity' | 'policy' | 'order' | 'priority' | 'action'>): number {
  const given = (value: unknown, bits: number): number => (value === null ? 0 : bits);
  return (
    (rule.source?.length ?? 0) +
    (rule.destination?.length ?? 0) +
    rangeSpecificity(rule.sourcePorts) +
    rangeSpecificity(rule.destinationPorts) +
    given(rule.protocol, 8) +
    given(rule.capture, 8) +
    given(rule.vlan, 8) +
    given(rule.direction, 1)
  );
}

function alternatives<T, U>(values: readonly T[], convert: (value: T) => U): readonly (U | null)[] {
  return values.length === 0 ? [null] : values.map(convert);
}

function prefixOf(text: string): Prefix {
  const prefix = parsePrefix(text);
  if (typeof prefix === 'string') throw new TypeError(prefix);
  return prefix;
}

/** Every rule of a configuration, first match first. `policyId` numbers policies by name. Throws a RangeError over MAX_RULES. */
export function expandRules(configuration: Configuration, policyId: (name: string) => number): Rule[] {
  const captureIndex = new Map(configuration.captures.map((capture, i) => [capture.name, i]));
  const rules: Rule[] = [];
  configuration.policies.forEach((policy, order) => {
    const { match } = policy;
    const base = { policy: policyId(policy.name), order, priority: policy.priority, action: policy.action, direction: match.direction };
    for (const capture of alternatives(match.captures, (name) => captureIndex.get(name) ?? 65_534))
      for (const vlan of alternatives(match.vlans, (v) => v))
        for (const protocol of alternatives(match.protocols, (p) => p))
          for (const source of alternatives(match.sources, prefixOf))
            for (const destination of alternatives(match.destinations, prefixOf))
              for (const sourcePorts of alternatives(match.sourcePorts, (r) => r))
                for (const destinationPorts of alternatives(match.destinationPorts, (r) => r)) {
                  if (rules.length >= MAX_RULES) throw new RangeError(`policy "${policy.name}" brings the rules over ${MAX_RULES}: give it fewer alternatives`);
                  const rule = { ...base, capture, vlan, protocol, source, destination, sourcePorts, destinationPorts };
                  rules.push({ ...rule, specificity: specificity(rule) });
                }
  });
  return rules.sort((a, b) => b.priority - a.priority || b.specificity - a.specificity || a.order - b.order);
}

/** Rows of RULE_BYTES, laid out as native.ts says. */
export function encodeRules(rules: readonly Rule[], chainId: (name: string) => number): Uint8Array {
  const bytes = Buffer.alloc(rules.length * RULE_BYTES);
  rules.forEach((rule, i) => {
    const row = bytes.subarray(i * RULE_BYTES, (i + 1) * RULE_BYTES);
    if (rule.source) row.set(rule.source.bytes, 0);
    if (rule.destination) row.set(rule.destination.bytes, 16);
    row[32] = rule.source?.length ?? 0;
    row[33] = rule.destination?.length ?? 0;
    row[34] = rule.protocol ?? 255;
    row[35] = rule.direction === null ? 0 : rule.direction === 'out' ? 1 : 2;
    row.writeUInt16LE(rule.sourcePorts?.low ?? 0, 36);
    row.writeUInt16LE(rule.sourcePorts?.high ?? 65_535, 38);
    row.writeUInt16LE(rule.destinationPorts?.low ?? 0, 40);
    row.writeUInt16LE(rule.destinationPorts?.high ?? 65_535, 42);
    row.writeUInt16LE(rule.capture ?? 65_535, 44);
    row.writeUInt16LE(rule.vlan ?? 65_535, 46);
    row[48] = { pass: 0, drop: 1, chain: 2 }[rule.action.kind];
    if (rule.action.kind === 'chain') row.writeUInt32LE(chainId(rule.action.chain), 52);
    row.writeUInt32LE(rule.policy, 56);
  });
  return bytes;
}
