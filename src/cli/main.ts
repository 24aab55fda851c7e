#!/usr/bin/env node
/** `weir`: one program, one word for each thing people do with it. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { RpcError } from '../control/protocol.js';
import { Failure } from '../failure.js';
import { registerApply } from './apply.js';
import { registerConditions } from './conditions.js';
import { registerAny, registerQueries } from './control.js';
import { registerEdits } from './edits.js';
import { registerEvents } from './events.js';
import { registerNode } from './node.js';
import { registerReplay } from './replay.js';
import { registerCheck, registerRun } from './run.js';
import { registerDiff } from './diff.js';
import { registerTrace } from './trace.js';

const version = (JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }).version;

const program = new Command('weir')
  .description('Steers packets through chains of service instances over raw sockets.')
  .version(version)
  .option('--socket <path>', 'control socket (default: /run/weir/weir.sock)')
  .option('--json', 'answers for programs')
  .showHelpAfterError('(--help lists the options)')
  .exitOverride();

registerRun(program);
registerNode(program);
registerReplay(program);
registerCheck(program);
registerQueries(program);
registerTrace(program);
registerDiff(program);
registerEvents(program);
registerConditions(program);
registerApply(program);
registerEdits(program);
registerAny(program);

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
