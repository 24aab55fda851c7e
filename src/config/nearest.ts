/** Guessing what a misspelt name was meant to be. */

/** The known name that is most likely meant: one that begins with it, or is within a third of its length in edits; or null. */
export function nearest(name: string, known: readonly string[]): string | null {
  const plain = name.toLowerCase();
  let best: string | null = null;
  let least = Math.min(Math.max(1, Math.floor(name.length / 3)) + 1, name.length);
  for (const candidate of known) {
    const distance = editDistance(plain, candidate.toLowerCase());
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best ?? (plain.length >= 3 ? (known.find((candidate) => candidate.toLowerCase().startsWith(plain)) ?? null) : null);
}

/** Insertions, deletions, replacements and swaps of neighbours: a swap is what fingers do, so it counts once. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? (before[j - 2] ?? Infinity) + 1 : Infinity;
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + same, swapped));
    }
    [before, row] = [row, next];
  }
  return row[b.length] ?? 0;
}
