/**
 * The rows of all policies, made policy by policy and remembered: an edit of one of a hundred thousand makes the rows of that one,
 * and puts them between those of the others.
 */
import type { Configuration, PolicyConfig } from '../config/configuration.js';
import { KeptEnds } from '../config/kept-ends.js';
import { MAX_RULES } from '../config/limits.js';
import type { RULE_BYTES } from '../dataplane/native.js';
import type { Ids } from './ids.js';
import { encodeRules, expandRules, rankOf } from './rules.js';

const BYTES: typeof RULE_BYTES = 64;
const WORDS = BYTES / 4;

/** Rules of one policy, by rank. */
interface Rows {
  readonly captures: Configuration['captures'];
  readonly ids: Ids;
  readonly ranks: readonly number[];
  /** WORDS for each rank. */
  readonly words: Uint32Array;
}
const made = new WeakMap<PolicyConfig, Rows>();
/** Rows of the list before. */
let last: { readonly captures: Configuration['captures']; readonly ids: Ids; readonly rows: KeptEnds<PolicyConfig, Rows> } | null = null;

function rowsOf(policy: PolicyConfig, captures: Configuration['captures'], ids: Ids): Rows {
  const known = made.get(policy);
  if (known !== undefined && known.captures === captures && known.ids === ids) return known;
  const rules = expandRules({ captures, policies: [policy] }, (name) => ids.policies.id(name));
  const bytes = encodeRules(rules, (name) => ids.chains.id(name));
  const rows = { captures, ids, ranks: rules.map(rankOf), words: new Uint32Array(bytes.buffer) };
  made.set(policy, rows);
  return rows;
}

/** As encodeRules(expandRules()) of the whole configuration, in bytes. Throws a RangeError over MAX_RULES. */
export function policyRows({ captures, policies }: Pick<Configuration, 'captures' | 'policies'>, ids: Ids): Uint8Array {
  if (last?.captures !== captures || last.ids !== ids) last = { captures, ids, rows: new KeptEnds((policy: PolicyConfig) => rowsOf(policy, captures, ids)) };
  const all = last.rows.map(policies);
  let total = 0;
  const counts = new Map<number, number>();
  for (const [i, { ranks }] of all.entries()) {
    total += ranks.length;
    if (total > MAX_RULES) throw new RangeError(`policy "${policies[i]?.name}" brings the rules over ${MAX_RULES}: give it fewer alternatives`);
    for (const rank of ranks) counts.set(rank, (counts.get(rank) ?? 0) + 1);
  }
  // Where the next rule of a rank goes: those of one rank stay in document order.
  const next = new Map<number, number>();
  let at = 0;
  for (const [rank, count] of [...counts].sort(([a], [b]) => b - a)) {
    next.set(rank, at);
    at += count;
  }
  const words = new Uint32Array(total * WORDS);
  for (const { ranks, words: rows } of all) {
    for (let i = 0; i < ranks.length; i++) {
      const rank = ranks[i] ?? 0;
      const place = next.get(rank) ?? 0;
      next.set(rank, place + 1);
      words.set(ranks.length === 1 ? rows : rows.subarray(i * WORDS, (i + 1) * WORDS), place * WORDS);
    }
  }
  return new Uint8Array(words.buffer);
}
