/** `weir completion`: a script that lets a shell complete weir's words and options. */
import { Argument, type Command } from 'commander';
import { bashCompletion, fishCompletion, zshCompletion } from './completion-scripts.js';
import { treeOf } from './tree.js';

const SHELLS = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion } as const;

export function registerCompletion(program: Command): void {
  program
    .command('completion')
    .description('print a completion script for a shell; for bash: source <(weir completion bash)')
    .addArgument(new Argument('<shell>', 'which shell').choices(Object.keys(SHELLS)))
    .action((shell: keyof typeof SHELLS) => void process.stdout.write(SHELLS[shell](treeOf(program))));
}
