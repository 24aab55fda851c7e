/** Puts what did not change in a document's place in the next one, so that everything known of it by identity stays known. */
import type { PlainDocument } from './configuration.js';

/** Whether two JSON values say the same; the order of keys says nothing. */
export function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (a === null || b === null || typeof a !== 'object' || typeof b !== 'object' || Array.isArray(a) !== Array.isArray(b)) return false;
  if (Array.isArray(a)) return a.length === (b as unknown[]).length && a.every((item, i) => same(item, (b as unknown[])[i]));
  const [x, y] = [a as Record<string, unknown>, b as Record<string, unknown>];
  let keys = 0;
  for (const key in x) {
    if (!Object.hasOwn(y, key) || !same(x[key], y[key])) return false;
    keys++;
  }
  for (const _ in y) keys--;
  return keys === 0;
}

const nameOf = (policy: unknown): unknown => (policy as { name?: unknown } | null | undefined)?.name;

/** `next` with the policies of `before` where they are equal, and with its whole list if all are. */
export function sharePolicies(before: PlainDocument, next: PlainDocument): PlainDocument {
  const [old, fresh] = [before['policies'], next['policies']];
  if (!Array.isArray(old) || !Array.isArray(fresh) || old === fresh) return next;
  let places: Map<unknown, number> | undefined;
  // Where a policy stood, from where it stands: most often there, but for those that were put in or taken out before it.
  let shift = 0;
  let moved = old.length !== fresh.length;
  const policies = fresh.map((policy: unknown, i) => {
    const name = nameOf(policy);
    // Where the next one stands as it did, this one is new: no table of all names for one policy that was replaced.
    if (nameOf(old[i + shift]) !== name && nameOf(old[i + 1 + shift]) !== nameOf(fresh[i + 1])) {
      places ??= new Map(old.map((one: unknown, place) => [nameOf(one), place]));
      shift = (places.get(name) ?? i + shift) - i;
    }
    const candidate: unknown = old[i + shift];
    const kept = candidate !== undefined && same(candidate, policy) ? candidate : policy;
    if (kept !== old[i]) moved = true;
    return kept;
  });
  return { ...next, policies: moved ? policies : old };
}
