/** JSON merge patches (RFC 7396): an object's members are merged, null takes one out, everything else is put in whole. */

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => value !== null && typeof value === 'object' && !Array.isArray(value);

/** RFC 7396, section 2. Neither argument is changed, and what the patch does not touch is the same object as before. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const merged = new Map(isObject(target) ? Object.entries(target) : []);
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else merged.set(key, mergePatch(merged.get(key), value));
  }
  // Of entries, so that a member "__proto__" is a member like any other.
  return Object.fromEntries(merged);
}
