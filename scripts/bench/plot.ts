/**
 * `npm run bench:plot -- [--out FILE.svg] [RESULTS.json]...`: every claim that has a target, as a bar from results of the
 * benchmarks. A bar's length is the value in units of its target, so that one line marks all targets.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { BARE, ROOT, type ClaimResult, type Results } from './harness.js';
import { figure } from './table.js';

const { values, positionals } = parseArgs({ allowPositionals: true, options: { out: { type: 'string', default: join(ROOT, 'docs/performance.svg') } } });
const defaults = ['engine', 'replay', 'live', 'control'].map((name) => join(BARE, `results/${name}.json`)).filter((file) => existsSync(file));
const files = positionals.length > 0 ? positionals : defaults;
if (files.length === 0) {
  console.error('no results: run the benchmarks first, or name their JSON files');
  process.exit(2);
}
const results = files.map((file) => JSON.parse(readFileSync(file, 'utf8')) as Results);

const ROW = 26;
const LABEL = 420;
const BARS = 300;
const VALUES = 220;
const MOST = 2.5; // longer bars are cut off
const TOP = 52;
const WIDTH = LABEL + BARS + VALUES;

const escape = (text: string): string => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
const x = (units: number): number => Math.round((LABEL + (Math.min(Math.max(units, 0), MOST) / MOST) * BARS) * 10) / 10;

/** How many times its target: above 1 is better than asked, whichever way is better. */
const units = (claim: ClaimResult, value: number): number => (claim.better === 'higher' ? value / (claim.target ?? NaN) : (claim.target ?? NaN) / value);

function bar(claim: ClaimResult, y: number): string {
  const { title, unit, better, value, target, reached } = claim;
  const length = units(claim, value.median);
  const ends = [units(claim, value.min), units(claim, value.max)].sort((a, b) => a - b);
  const middle = y + ROW / 2;
  const said = `${figure(value.median)} ${unit}  (${better === 'higher' ? '≥' : '≤'} ${figure(target ?? NaN)})`;
  return [
    `<g><title>${escape(`${title}: ${said}, ${figure(value.min)} to ${figure(value.max)}`)}</title>`,
    `<text x="${LABEL - 12}" y="${middle + 4}" text-anchor="end">${escape(title)}</text>`,
    `<rect class="${reached === true ? 'reached' : 'missed'}" x="${LABEL}" y="${y + 5}" width="${Math.max(1, Math.round((x(length) - LABEL) * 10) / 10)}" height="${ROW - 10}" rx="2"/>`,
    length > MOST ? `<text class="cut" x="${x(MOST) - 4}" y="${middle + 4}" text-anchor="end">${figure(length)} times the target ›</text>` : `<path class="range" d="M${x(ends[0] ?? 0)} ${middle}H${x(ends[1] ?? 0)}"/>`,
    `<text x="${LABEL + BARS + 14}" y="${middle + 4}">${escape(said)}</text></g>`,
  ].join('\n');
}

const parts: string[] = [];
let y = TOP;
for (const { benchmark, cases } of results) {
  const claims = cases.flatMap((work) => work.claims).filter(({ target, value }) => target !== null && target !== 0 && Number.isFinite(value.median));
  if (claims.length === 0) continue;
  parts.push(`<text class="head" x="8" y="${y + 17}">bench:${benchmark}</text>`);
  y += ROW;
  for (const claim of claims) {
    parts.push(bar(claim, y));
    y += ROW;
  }
  y += 8;
}
const about = results[0];
const machine = Object.entries(about?.machine ?? {}).map(([key, value]) => `${key} ${value}`).join(', ');
const runs = about?.options.runs ?? 0;
const foot = [
  `weir ${about?.weir ?? ''}, ${about?.date.slice(0, 10) ?? ''}; ${runs === 1 ? 'one run' : `medians of ${runs} runs, thin lines from the least to the most`}`,
  machine,
];

writeFileSync(values.out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y + 48}" width="${WIDTH}" height="${y + 48}" role="img" aria-label="What weir's benchmarks measured, against their targets">
<style>
text{font:13px system-ui,sans-serif;fill:#24292f}
.card{fill:#fff}
.head{font-weight:600}
.small{font-size:11px;fill:#57606a}
.reached{fill:#4c8dd6}
.missed{fill:#d98a3d}
.cut{fill:#fff;font-size:11px}
.range{stroke:#24292f;stroke-width:1.5;fill:none}
.target{stroke:#24292f;stroke-width:1.5;stroke-dasharray:4 3}
@media (prefers-color-scheme:dark){.card{fill:#161b22}text{fill:#d0d7de}.small{fill:#8b949e}.range,.target{stroke:#d0d7de}.cut{fill:#fff}}
</style>
<rect class="card" width="100%" height="100%" rx="8"/>
<rect class="reached" x="8" y="12" width="14" height="14" rx="2"/><text x="28" y="24">target reached</text>
<rect class="missed" x="136" y="12" width="14" height="14" rx="2"/><text x="156" y="24">missed</text>
<text class="small" x="${x(1)}" y="24" text-anchor="middle">target</text>
<text class="small" x="${LABEL + BARS + 14}" y="24">measured (target)</text>
${parts.join('\n')}
<path class="target" d="M${x(1)} 32V${y - 4}"/>
${foot.map((line, i) => `<text class="small" x="8" y="${y + 20 + 16 * i}">${escape(line)}</text>`).join('\n')}
</svg>
`);
console.log(`written: ${values.out}`);
