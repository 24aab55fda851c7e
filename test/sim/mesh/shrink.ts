/** The fewest of a list of events with which something still goes wrong, as far as leaving out parts finds them. */
export function shrink<T>(all: readonly T[], fails: (some: readonly T[]) => boolean, mostTries = 400): readonly T[] {
  let kept = all;
  let tries = 0;
  for (let size = Math.ceil(kept.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < kept.length && tries < mostTries; ) {
      const less = [...kept.slice(0, at), ...kept.slice(at + size)];
      tries++;
      if (less.length > 0 && fails(less)) kept = less;
      else at += size;
    }
  }
  return kept;
}
