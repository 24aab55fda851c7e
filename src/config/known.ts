/**
 * Policies that were found good, by identity: an edit of one of a hundred thousand leaves the other objects what they are, and
 * neither their shape nor what they mean by themselves has to be checked again. What they refer to is.
 */
const good = new WeakSet<object>();

export function isKnownGood(policy: unknown): boolean {
  return policy !== null && typeof policy === 'object' && good.has(policy);
}

export function rememberGood(policies: readonly object[]): void {
  for (const policy of policies) good.add(policy);
}
