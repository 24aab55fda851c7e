/** Completion and manual page, asked of the shells and of man themselves. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Command, Option } from 'commander';
import { manualPage } from '../../src/cli/man.js';
import { flatten, treeOf } from '../../src/cli/tree.js';
import { ROOT } from '../support/lab.js';

const directory = mkdtempSync(join(tmpdir(), 'weir-completion-'));
t.teardown(() => rmSync(directory, { recursive: true }));

function run(command: string, args: readonly string[], input?: string): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', input, cwd: directory, env: { ...process.env, LC_ALL: 'C.UTF-8', HOME: directory } });
  if (error !== undefined) throw error;
  return { status, stdout, stderr };
}
const weir = (...words: string[]): { status: number | null; stdout: string; stderr: string } => run(process.execPath, [join(ROOT, 'dist/cli/main.js'), ...words]);

const scripts = Object.fromEntries(
  ['bash', 'zsh', 'fish'].map((shell) => {
    const { status, stdout, stderr } = weir('completion', shell);
    if (status !== 0) throw new Error(stderr);
    writeFileSync(join(directory, shell), stdout);
    return [shell, join(directory, shell)];
  }),
);
writeFileSync(join(directory, 'some.yaml'), '');

/** What each shell offers for the last of these words. */
const ask: Readonly<Record<string, (words: readonly string[]) => string[]>> = {
  bash: (words) => {
    const script = `source ${scripts['bash']}; COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _weir; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { status, stdout, stderr } = run('bash', ['--norc', '-c', script]);
    if (status !== 0 || stderr !== '') throw new Error(stderr);
    return stdout.split('\n').filter((line) => line !== '');
  },
  // Its completion system wants a terminal: what the script hands to it is looked at instead, and narrowed as zsh would.
  zsh: (words) => {
    const script = `_describe() { print -rl -- "\${(@P)2}" }; _files() { print -rl -- * }; compadd() { shift; print -rl -- "$@" }; source ${scripts['zsh']}; words=(${words.map((word) => `'${word}'`).join(' ')}); CURRENT=${words.length}; _weir`;
    const { status, stdout, stderr } = run('zsh', ['-f', '-c', script]);
    if (status !== 0 || stderr !== '') throw new Error(stderr);
    return stdout.split('\n').filter((line) => line !== '' && line.startsWith(words.at(-1) ?? '')).map((line) => line.split(':')[0] ?? '');
  },
  fish: (words) => {
    const { status, stdout, stderr } = run('fish', ['--no-config', '-c', `source ${scripts['fish']}; complete -C '${words.join(' ')}'`]);
    if (status !== 0 || stderr !== '') throw new Error(stderr);
    return stdout.split('\n').filter((line) => line !== '').map((line) => line.split('\t')[0] ?? '');
  },
};

for (const [shell, offers] of Object.entries(ask)) {
  t.test(`${shell} completes words, options, choices and files`, async (t) => {
    t.strictSame(offers(['weir', 'chai']).sort(), ['chain', 'chains']);
    t.strictSame(offers(['weir', 'chain', '']).filter((word) => !word.startsWith('-')).sort(), ['insert', 'remove', 'replace', 'set']);
    t.ok(offers(['weir', 'chain', 'insert', 'a', 'b', '--ex']).includes('--existing'));
    t.strictSame(offers(['weir', 'chain', 'insert', 'a', 'b', '--existing', '']).sort(), ['keep', 'move']);
    t.strictSame(offers(['weir', 'completion', '']).filter((word) => !word.startsWith('-')).sort(), ['bash', 'fish', 'zsh']);
    t.ok(offers(['weir', 'run', '--config', 'so']).includes('some.yaml'));
    t.notOk(offers(['weir', 'status', '--ex']).includes('--existing'), 'only the options that it has');
    t.strictSame(offers(['weir', 'nonsense', 'chai']).sort(), ['chain', 'chains'], 'a word that is none is passed over');
  });
}

t.test('the manual page: man finds nothing to warn of, and every command and option is in it', async (t) => {
  const { stdout: page } = weir('man');
  writeFileSync(join(directory, 'weir.1'), page);
  const { status, stdout, stderr } = run('man', ['--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-P', 'cat', 'weir.1']);
  t.equal(status, 0);
  t.equal(stderr, '');
  const text = stdout.replace(/.\x08/g, '').replace(/\x1b\[[0-9;]*m/g, '').replace(/\s+/g, ' ');
  for (const word of ['weir - steers packets', 'chain insert', '--existing <what>', 'weir capture --instance <service/name> --write <file>', 'one of keep, move', 'SIGHUP', '/run/weir/weir.sock']) t.ok(text.includes(word), word);
  const { stdout: help } = weir('--help');
  for (const line of help.matchAll(/^ {2}([a-z]+) .*\S/gm)) if (line[1] !== 'help') t.ok(text.includes(` ${line[1] ?? ''} `), `${line[1] ?? ''} is in it`);
});

t.test('texts that roff and shells would read as theirs stay texts', async (t) => {
  const odd = new Command('weir').description('.TH it\'s "odd" \\fB $HOME `id`');
  odd.command('ru:n').description("'quoted' and [brackets]: $(id)").addOption(new Option('--what <it>', '.x').choices(['a b', "c'd"]));
  const page = manualPage(treeOf(odd));
  t.notOk(/^\.TH it/m.test(page));
  t.match(page, '\\&.TH it');
  t.equal(flatten(treeOf(odd)).length, 2);
  writeFileSync(join(directory, 'odd.1'), page);
  t.equal(run('man', ['--warnings', '-l', '-Tutf8', '-P', 'cat', 'odd.1']).stderr, '');
});
