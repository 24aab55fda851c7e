/**
 * The counts that scripts/test adds up, from recorded runs: `npx tap run FILES --reporter=tap --timeout=3 2>&1` on small
 * test files whose names are in the recordings.
 */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { tapCounts, type Counts } from '../../scripts/tap-counts.js';

const recorded = (name: string): string => readFileSync(new URL(`tap-counts/${name}.tap`, import.meta.url), 'utf8');
const counts = (passed: number, failed: number, skipped: number): Counts => ({ passed, failed, skipped });

const RUNS: readonly (readonly [name: string, status: number, expected: Counts, what: string])[] = [
  ['clean', 0, counts(3, 0, 2), 'passed and skipped ones; a file that skips itself is one skipped'],
  ['failing', 1, counts(8, 5, 2), 'failed assertions, however they are described; those around them are not counted again'],
  ['killed', 1, counts(5, 1, 1), 'a file that is killed while all its assertions hold'],
  ['killed-and-failing', 1, counts(8, 6, 1), 'killed files beside failed assertions: one for each file in which none failed'],
  ['timeouts', 1, counts(5, 2, 1), 'a file that is ended for its time counts once, whether it said so itself or not'],
  ['todo', 1, counts(2, 1, 3), 'a failing "todo" is no failure, a file that breaks its plan is one'],
  ['exit', 1, counts(5, 3, 1), 'files that exit, throw and do not compile'],
  ['bail', 1, counts(1, 2, 0), 'after a bail-out: the files without a result'],
  ['none', 1, counts(0, 1, 0), 'no TAP at all, and a status that is not 0'],
];

for (const [name, status, expected, what] of RUNS) t.strictSame(tapCounts(recorded(name), status), expected, `${name}: ${what}`);

const whole = recorded('killed-and-failing');
const cut = whole.slice(0, whole.indexOf('# Subtest: test/good.test.ts'));
t.strictSame(tapCounts(cut, 137), counts(3, 7, 0), 'tap itself killed: each planned file without a result is failed');
t.strictSame(tapCounts(recorded('clean'), 1), counts(3, 1, 2), 'a status that nothing in the output explains is one failure');
