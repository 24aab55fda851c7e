/** Each word of the command line is found where words.ts says that it is. */
import { Command } from 'commander';
import t from 'tap';
import { WORDS, registersFor, wordOf } from '../../src/cli/words.js';

const registered = (registers: readonly ((program: Command) => void)[]): string[] => {
  const program = new Command();
  for (const register of registers) register(program);
  return program.commands.map((command) => command.name());
};

t.test('each file has the words that are said to be in it', async (t) => {
  for (const { words, load } of WORDS) t.strictSame(registered(await load()), words);
  const all = registered(await registersFor(undefined));
  t.strictSame(all, [...WORDS.flatMap(({ words }) => words), 'completion', 'man']);
  t.strictSame(registered(await registersFor('no such word')), all, 'so that it can be told what there is');
  t.strictSame(registered(await registersFor('node')), ['node']);
});

t.test('the word among the arguments', async (t) => {
  t.equal(wordOf(['--json', '--socket', 'run', 'status', '--port']), 'status');
  t.equal(wordOf(['--socket=run', 'flows']), 'flows');
  t.equal(wordOf(['--help']), undefined);
  t.equal(wordOf([]), undefined);
});
