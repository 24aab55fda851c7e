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

/** Bits that a policy's lists of these kinds pin down, whichever alternative a rule takes. */
function listSpecificity({ protocols, captures, vlans, direction }: PolicyConfig['match']): number {
  const given = (list: readonly unknown[]): number => (list.length === 0 ? 0 : 8);
  return given(protocols) + given(captures) + given(vlans) + (direction === null ? 0 : 1);
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
    const [vlans, protocols, sourceRanges, destinationRanges] = [alternatives(match.vlans), alternatives(match.protocols), alternatives(match.sourcePorts), alternatives(match.destinationPorts)];
    const pinnedByLists = listSpecificity(match);
    for (const { source, destination, bits } of addressPairs(match))
      for (const capture of captures)
        for (const vlan of vlans)
          for (const protocol of protocols)
            for (const sourcePorts of sourceRanges)
              for (const destinationPorts of destinationRanges) {
                if (rules.length >= MAX_RULES) throw new RangeError(`policy "${name}" brings the rules over ${MAX_RULES}: give it fewer alternatives`);
                // How much of a packet the rule pins down, in bits; the more specific of two rules of one priority wins.
                const specificity = bits + pinnedByLists + rangeSpecificity(sourcePorts) + rangeSpecificity(destinationPorts);
                rules.push({ policy, order, priority, specificity, capture, vlan, direction, protocol, source, destination, sourcePorts, destinationPorts, action });
              }
  });
  return inOrderOfPrecedence(rules);
}

/** Over any rule's specificity: two prefixes, two port ranges, three lists and a direction. */
const SPECIFICITIES = 512;

/** Rules go by this, the highest first. */
export const rankOf = (rule: Rule): number => rule.priority * SPECIFICITIES + rule.specificity;

/** By priority, then specificity; rules of equal ones stay in document order, in which they come. In one pass: comparing pairs takes several times as long. */
function inOrderOfPrecedence(rules: readonly Rule[]): Rule[] {
  const ranks = new Map<number, Rule[]>();
  for (const rule of rules) {
    const rank = rankOf(rule);
    const equals = ranks.get(rank);
    if (equals === undefined) ranks.set(rank, [rule]);
    else equals.push(rule);
  }
  return [...ranks].sort(([a], [b]) => b - a).flatMap(([, equals]) => equals);
}

const ACTION_CODES: Readonly<Record<PolicyConfig['action']['kind'], number>> = { pass: 0, drop: 1, chain: 2 };

/** Rows of RULE_BYTES, laid out as native.ts says. */
export function encodeRules(rules: readonly Rule[], chainId: (name: string) => number): Uint8Array {
  const rows = new Uint8Array(rules.length * ROW);
  const view = new DataView(rows.buffer);
  // Faster than rows.set() for so few bytes.
  const address = ({ bytes }: Prefix, at: number): void => {
    for (let i = 0; i < 16; i++) rows[at + i] = bytes[i] ?? 0;
  };
  const range = (ports: PortRange | null, at: number): void => {
    view.setUint16(at, ports?.low ?? 0, true);
    view.setUint16(at + 2, ports?.high ?? 65_535, true);
  };
  let at = 0;
  for (const { source, destination, protocol, direction, sourcePorts, destinationPorts, capture, vlan, action, policy } of rules) {
    if (source !== null) address(source, at);
    if (destination !== null) address(destination, at + 16);
    rows[at + 32] = source?.length ?? 0;
    rows[at + 33] = destination?.length ?? 0;
    rows[at + 34] = protocol ?? 255;
    rows[at + 35] = direction === null ? 0 : direction === 'out' ? 1 : 2;
    range(sourcePorts, at + 36);
    range(destinationPorts, at + 40);
    view.setUint16(at + 44, capture ?? 65_535, true);
    view.setUint16(at + 46, vlan ?? 65_535, true);
    rows[at + 48] = ACTION_CODES[action.kind];
    if (action.kind === 'chain') view.setUint32(at + 52, chainId(action.chain), true);
    view.setUint32(at + 56, policy, true);
    at += ROW;
  }
  return rows;
}
