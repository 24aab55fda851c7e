/**
 * What failures cost, measured: writes docs/failures.md. As root.
 *
 *   npm run bench:failures [-- --runs N] [--only SECTION] [--match TEXT] [--out FILE]
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { parseArgs } from 'node:util';
import { appliance } from './failures/appliance.js';
import { instances } from './failures/instances.js';
import { primary } from './failures/primary.js';

const SECTIONS = [instances, primary, appliance];
const { values } = parseArgs({ options: { runs: { type: 'string', default: '5' }, only: { type: 'string', multiple: true }, match: { type: 'string', default: '' }, out: { type: 'string' } } });
const file = values.out ?? new URL('../../docs/failures.md', import.meta.url).pathname;

const HEAD = `# Failures

What the end of each part costs, in milliseconds and packets: real processes in namespaces, a stream of numbered packets through them. Written by \`npm run bench:failures\`
(\`--only SECTION\` for one of them, \`--match TEXT\` for some of its cases, \`--runs N\`).
`;

const wanted = SECTIONS.filter(({ name }) => values.only === undefined || values.only.includes(name));
let text = existsSync(file) ? readFileSync(file, 'utf8') : HEAD;
for (const { name, title, write } of wanted) {
  const place = new RegExp(`<!-- ${name} -->[^]*?<!-- /${name} -->`);
  const body = await write({ runs: Number(values.runs), match: values.match, before: place.exec(text)?.[0] ?? '', said: (line) => console.log(line) });
  const machine = `Node ${process.versions.node}, Linux ${release()}, ${cpus().length} cores.`;
  const section = `<!-- ${name} -->\n## ${title}\n\n${body}\n\n${machine}\n<!-- /${name} -->`;
  text = place.test(text) ? text.replace(place, () => section) : `${text.trimEnd()}\n\n${section}\n`;
  writeFileSync(file, text);
}
