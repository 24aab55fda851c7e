/** Verdicts for people (text), for test harnesses (TAP 14) and for CI servers (JUnit). */
import { yaml } from '../lazily.js';
import type { ExpectResult, Miss, Verdict } from './expect.js';

export type ExpectFormat = 'text' | 'tap' | 'junit';
export const EXPECT_FORMATS: readonly ExpectFormat[] = ['text', 'tap', 'junit'];

export const failed = ({ verdicts, error }: ExpectResult): boolean => error !== null || verdicts.some((verdict) => verdict.misses.length > 0);

/** `file`: the expectations; `suite`: what was looked at. Ends with a newline. */
export function formatExpectations(format: ExpectFormat, file: string, suite: string, result: ExpectResult): string {
  return { text, tap, junit }[format](file, suite, result);
}

function sentence({ expected, found, streams, examples }: Miss, of: number): string {
  const which = streams === null ? '' : of > 1 ? ` in ${streams} of ${of} streams` : '';
  const such = examples.length === 0 ? '' : `: ${examples.join('; ')}${streams !== null && streams > examples.length ? '; …' : ''}`;
  return `expected ${expected}, found ${found}${which}${such}`;
}

const caveat = ({ reopened, error }: ExpectResult): string[] => [
  ...(reopened > 0 ? [`${reopened} times the capture opens a 5-tuple that it closed before: only the last of these streams is looked at`] : []),
  ...(error === null ? [] : [`the capture is cut short or broken: ${error}; what was readable was looked at`]),
];

function text(file: string, _: string, result: ExpectResult): string {
  const { verdicts } = result;
  const lines = verdicts.flatMap((verdict) => verdict.misses.map((miss) => `${file}:${miss.line}: ${verdict.name}: ${miss.key}: ${sentence(miss, verdict.streams)}`));
  const bad = verdicts.filter((verdict) => verdict.misses.length > 0).length;
  return [...lines, ...caveat(result), `${verdicts.length} expectations: ${verdicts.length - bad} met, ${bad} missed`, ''].join('\n');
}

/** `#` would begin a directive, and a description is one line. */
const described = (name: string): string => name.replace(/[\r\n]+/g, ' ').replace(/[\\#]/g, '\\$&');

const seen = ({ by, streams, packets }: Verdict): string => (by === 'classifier' ? 'decided by the classifier alone' : `${streams} streams, ${packets} packets`);

function tap(file: string, suite: string, result: ExpectResult): string {
  const lines = ['TAP version 14', `# ${described(suite)}`, `1..${result.verdicts.length + (result.error === null ? 0 : 1)}`];
  result.verdicts.forEach((verdict, i) => {
    lines.push(`${verdict.misses.length === 0 ? 'ok' : 'not ok'} ${i + 1} - ${described(verdict.name)}`);
    if (verdict.misses.length === 0) return;
    const diagnostic = { at: { fileName: file, lineNumber: verdict.line }, seen: seen(verdict), misses: verdict.misses.map(({ streams, ...miss }) => ({ ...miss, ...(streams === null ? {} : { streams }) })) };
    lines.push('  ---', ...yaml().stringify(diagnostic, { lineWidth: 0 }).trimEnd().split('\n').map((line) => `  ${line}`), '  ...');
  });
  if (result.error !== null) lines.push(`not ok ${result.verdicts.length + 1} - ${described(`the capture can be read to its end: ${result.error}`)}`);
  lines.push(...caveat(result).map((line) => `# ${described(line)}`));
  return `${lines.join('\n')}\n`;
}

/** What XML 1.0 does not allow even as a reference is replaced. */
const escaped = (value: string): string =>
  value.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, '\ufffd').replace(/[&<>"'\t\n\r]/g, (c) => `&#${c.charCodeAt(0)};`);

function junit(file: string, suite: string, result: ExpectResult): string {
  const { verdicts, error } = result;
  const cases = verdicts.flatMap((verdict) => {
    const head = `    <testcase classname="${escaped(suite)}" name="${escaped(verdict.name)}" file="${escaped(file)}" line="${verdict.line}" time="0"`;
    if (verdict.misses.length === 0) return [`${head}/>`];
    const said = verdict.misses.map((miss) => `${file}:${miss.line}: ${miss.key}: ${sentence(miss, verdict.streams)}`);
    const message = verdict.misses.map((miss) => `${miss.key}: expected ${miss.expected}, found ${miss.found}`).join('; ');
    return [`${head}>`, `      <failure type="expectation" message="${escaped(message)}">${escaped(said.join('\n'))}</failure>`, '    </testcase>'];
  });
  if (error !== null) cases.push(`    <testcase classname="${escaped(suite)}" name="the capture can be read to its end" time="0">`, `      <error type="capture" message="${escaped(error)}"/>`, '    </testcase>');
  const bad = verdicts.filter((verdict) => verdict.misses.length > 0).length;
  const counts = `tests="${verdicts.length + (error === null ? 0 : 1)}" failures="${bad}" errors="${error === null ? 0 : 1}" skipped="0" time="0"`;
  const notes = caveat(result);
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="weir" ${counts}>`,
    `  <testsuite name="${escaped(suite)}" ${counts}>`,
    ...cases,
    ...(notes.length > 0 ? [`    <system-out>${escaped(notes.join('\n'))}</system-out>`] : []),
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}
