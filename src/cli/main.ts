#!/usr/bin/env node
/** `weir`: one program, one word for each thing people do with it. */
import { Command, CommanderError, type Option } from 'commander';
import { RpcError } from '../control/protocol.js';
import { Failure } from '../failure.js';
import { VERSION } from '../version.js';
import { registersFor, wordOf } from './words.js';

const program = new Command('weir')
  .description('Steers packets through chains of service instances over raw sockets.')
  .version(VERSION)
  .option('--socket <path>', 'control socket (default: /run/weir/weir.sock)')
  .option('--json', 'answers for programs')
  .showHelpAfterError('(--help lists the options)')
  .exitOverride();

const [first, ...others] = process.argv.slice(2);
// Nothing has to be known of the words to say which weir this is.
const asksForVersion = (first === '--version' || first === '-V') && others.length === 0;
if (!asksForVersion) for (const register of await registersFor(wordOf(process.argv.slice(2)))) register(program);

/** Looked for when all else is known to be right: who writes `--cofig x` is told of that, and not that --config is missing. */
const needed: Option[] = [];
program.hook('preAction', (_, command) => {
  for (const option of needed) option.mandatory = true;
  const missing = command.options.find((option) => option.mandatory && command.getOptionValue(option.attributeName()) === undefined);
  if (missing !== undefined) command.error(`error: required option '${missing.flags}' not specified`, { code: 'commander.missingMandatoryOptionValue' });
});

/** Options are inherited by each word, so that they may stand behind it too. */
function inherit(command: Command): void {
  for (const child of command.commands) {
    child.exitOverride().showHelpAfterError('(--help lists the options)');
    if (!child.options.some((option) => option.long === '--json')) child.option('--json', 'answers for programs');
    if (!child.options.some((option) => option.long === '--socket')) child.option('--socket <path>', 'control socket');
    for (const option of child.options.filter(({ mandatory }) => mandatory)) {
      needed.push(option);
      option.mandatory = false;
    }
    inherit(child);
  }
}
inherit(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  } else if (error instanceof Failure) {
    console.error(error.message);
    process.exitCode = error.exitCode;
  } else if (error instanceof RpcError) {
    console.error(error.message);
    process.exitCode = 1;
  } else {
    console.error(error);
    process.exitCode = 1;
  }
}
