/** What is typed wrong is refused with what to do, before anything is done; what is typed as it comes and helps nobody is warned of. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { unsettled } from '../../src/cli/node.js';
import { ROOT, run } from '../support/lab.js';

const directory = mkdtempSync(join(tmpdir(), 'weir-usage-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
const weir = (...words: string[]): ReturnType<typeof run> => run([...WEIR, ...words]);

t.test('weir node: what a function is not given, and what it can not be given', async (t) => {
  t.match(unsettled('firewall', undefined, false), /drops every packet.*--settings FILE, such as \{rules:/);
  t.match(unsettled('firewall', undefined, true), /`settings:` of the appliance's document/);
  for (const [name, settings] of [['firewall', 'rules.yaml'], ['meter', undefined], ['pass', undefined]] as const) t.equal(unsettled(name, settings, false), null);
  const settings = join(directory, 'settings.yaml');
  writeFileSync(settings, 'rules: []');
  for (const name of ['deliver', 'pass']) {
    t.match(await weir('node', '--service', 's', '--name', 'n', '--listen', '127.0.0.1', '--function', name, '--settings', settings), { code: 2, stderr: new RegExp(`--settings: the function ${name} takes no settings`) });
  }
});
