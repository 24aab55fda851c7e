/**
 * Counts of one tap run: `tap-counts.ts FILE STATUS` prints `PASSED FAILED SKIPPED`. From the results themselves and not from
 * tap's summary, which leaves out a file that was killed after assertions that all held.
 */
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

const RESULT = /^((?: {4})*)(not )?ok \d+(.*)$/;
/** Before the details of a result: YAML, up to `...`. */
const DETAILS = /^((?: {4})* {2})---$/;
/** A `#` of the description itself has a backslash before it. */
const DIRECTIVE = /(?<!\\)# *(SKIP|TODO)\b/i;
const PLAN = /^1\.\.(\d+)/;

/**
 * A result without others inside counts as what it is. One with others inside (a subtest, a file) counts only where it failed
 * and none inside did: killed, ended for its time, out of plan. So does a planned file without a result.
 */
export function tapCounts(output: string, status: number): Counts {
  let [passed, failed, skipped, planned, files] = [0, 0, 0, 0, 0];
  /** By depth: what the subtest that goes on there has inside so far. */
  const inside: ('passed' | 'failed' | undefined)[] = [];
  let details: string | null = null; // the indentation of those that go on
  for (const line of output.split('\n')) {
    if (details !== null && line.startsWith(details)) {
      if (line === `${details}...`) details = null;
      continue;
    }
    details = DETAILS.exec(line)?.[1] ?? details;
    planned = Number(PLAN.exec(line)?.[1] ?? planned);
    const result = RESULT.exec(line);
    if (result === null) continue;
    details = null;
    const depth = (result[1] ?? '').length / 4;
    const directive = DIRECTIVE.exec(result[3] ?? '')?.[1]?.toUpperCase();
    const bad = result[2] !== undefined && directive === undefined;
    const parts = inside.slice(depth + 1).filter((part) => part !== undefined);
    if (depth === 0) files++;
    if (bad && !parts.includes('failed')) failed++;
    if (!bad && parts.length === 0) {
      if (directive === 'SKIP') skipped++;
      else if (directive === undefined) passed++;
    }
    inside.length = depth + 1;
    if (bad || inside[depth] === undefined) inside[depth] = bad ? 'failed' : 'passed';
  }
  failed += Math.max(0, planned - files);
  return { passed, failed: failed === 0 && status !== 0 ? 1 : failed, skipped };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [file = '', status = ''] = process.argv.slice(2);
  const { passed, failed, skipped } = tapCounts(readFileSync(file, 'utf8'), Number(status));
  console.log(passed, failed, skipped);
}
