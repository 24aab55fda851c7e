#!/usr/bin/env node
/** `weir`: one program, one word for each thing people do with it. */
import { Command, CommanderError } from 'commander';
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

/** Options are inherited by each word, so that they may stand behind it too. */
function inherit(command: Command): void {
  for (const child of command.commands) {
    child.exitOverride().showHelpAfterError('(--help lists the options)');
    if (!child.options.some((option) => option.long === '--json')) child.option('--json', 'answers for programs');
    if (!child.options.some((option) => option.long === '--socket')) child.option('--socket <path>', 'control socket');
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
