/**
 * Policies to rules: each combination of a policy's alternatives is one rule, and the rules are sorted by precedence
 * (priority, then specificity, then document order), so that the first match wins.
 */
import type { Prefix } from '../config/address.js';
import { addressPairs } from '../config/alternatives.js';
import type { Configuration, PolicyConfig, PortRange } from '../config/configuration.js';
import { MAX_RULES } from '../config/limits.js';
import type { RULE_BYTES } from '../dataplane/native.js';

/** RULE_BYTES of native.ts, not imported as a value: whoever only compiles needs no addon. */
const ROW: typeof RULE_BYTES = 64;
const NO_SUCH_CAPTURE = 65_534;

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
  // 16 - ceil(log2(size)), in whole numbers.
  return range === null ? 0 : Math.clz32(range.high - range.low) - 16;
}

/** How much of a packet a rule pins down, in bits; the more specific of two rules of one priority wins. */
function specificity(addressBits: number, rule: Pick<Rule, 'sourcePorts' | 'destinationPorts' | 'protocol' | 'capture' | 'vlan' | 'direction'>): number {
  const given = (value: unknown, bits: number): number => (value === null ? 0 : bits);
  return (
    addressBits +
    rangeSpecificity(rule.sourcePorts) +
    rangeSpecificity(rule.destinationPorts) +
    given(rule.protocol, 8) +
    given(rule.capture, 8) +
    given(rule.vlan, 8) +
    given(rule.direction, 1)
  );
}

const alternatives = <T>(values: readonly T[]): readonly (T | null)[] => (values.length === 0 ? [null] : values);

/** Every rule of a configuration, first match first. `policyId` numbers policies by name. Throws a RangeError over MAX_RULES. */
export function expandRules(configuration: Pick<Configuration, 'captures' | 'policies'>, policyId: (name: string) => number): Rule[] {
  const captureIndex = new Map(configuration.captures.map((capture, i) => [capture.name, i]));
  const rules: Rule[] = [];
  configuration.policies.forEach(({ name, priority, match, action }, order) => {
    const policy = policyId(name);
    const { direction } = match;
    const captures = alternatives(match.captures.map((capture) => captureIndex.get(capture) ?? NO_SUCH_CAPTURE));
    for (const { source, destination, bits } of addressPairs(match))
      for (const capture of captures)
        for (const vlan of alternatives(match.vlans))
          for (const protocol of alternatives(match.protocols))
            for (const sourcePorts of alternatives(match.sourcePorts))
              for (const destinationPorts of alternatives(match.destinationPorts)) {
                if (rules.length >= MAX_RULES) throw new RangeError(`policy "${name}" brings the rules over ${MAX_RULES}: give it fewer alternatives`);
                const pinned = specificity(bits, { sourcePorts, destinationPorts, protocol, capture, vlan, direction });
                rules.push({ policy, order, priority, specificity: pinned, capture, vlan, direction, protocol, source, destination, sourcePorts, destinationPorts, action });
              }
  });
  return rules.sort((a, b) => b.priority - a.priority || b.specificity - a.specificity || a.order - b.order);
}

/** Rows of RULE_BYTES, laid out as native.ts says. */
export function encodeRules(rules: readonly Rule[], chainId: (name: string) => number): Uint8Array {
  const rows = Buffer.alloc(rules.length * ROW);
  let at = 0;
  for (const { source, destination, protocol, direction, sourcePorts, destinationPorts, capture, vlan, action, policy } of rules) {
    if (source !== null) rows.set(source.bytes, at);
    if (destination !== null) rows.set(destination.bytes, at + 16);
    rows[at + 32] = source?.length ?? 0;
    rows[at + 33] = destination?.length ?? 0;
    rows[at + 34] = protocol ?? 255;
    rows[at + 35] = direction === null ? 0 : direction === 'out' ? 1 : 2;
    rows.writeUInt16LE(sourcePorts?.low ?? 0, at + 36);
    rows.writeUInt16LE(sourcePorts?.high ?? 65_535, at + 38);
    rows.writeUInt16LE(destinationPorts?.low ?? 0, at + 40);
    rows.writeUInt16LE(destinationPorts?.high ?? 65_535, at + 42);
    rows.writeUInt16LE(capture ?? 65_535, at + 44);
    rows.writeUInt16LE(vlan ?? 65_535, at + 46);
    rows[at + 48] = { pass: 0, drop: 1, chain: 2 }[action.kind];
    if (action.kind === 'chain') rows.writeUInt32LE(chainId(action.chain), at + 52);
    rows.writeUInt32LE(policy, at + 56);
    at += ROW;
  }
  return rows;
}
