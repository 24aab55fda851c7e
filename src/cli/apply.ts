/** `weir apply` and `weir config`: the whole document in, the whole document out. */
import type { Command } from 'commander';
import type { PlainDocument } from '../config/configuration.js';
import { ask } from './control.js';
import { changing, paramsOf, showChange, type ChangeOptions } from './edits.js';
import { documentOf } from './documents.js';
import { yaml } from '../lazily.js';

export function registerApply(program: Command): void {
  changing(program.command('apply').description('replace the configuration of the running weir by a file, in one swap').argument('<file>', 'configuration (YAML)')).action(
    (file: string, options: ChangeOptions, command: Command) => ask<Parameters<typeof showChange>[0]>(command, 'config.apply', { document: documentOf(file), ...paramsOf(options) }, showChange),
  );
  program
    .command('config')
    .description('print the configuration in force (YAML)')
    .action((_: object, command: Command) =>
      ask<{ generation: number; document: PlainDocument }>(command, 'config.get', {}, ({ generation, document }) => `# generation ${generation}\n${yaml().stringify(document, { flowCollectionPadding: false }).trimEnd()}`),
    );
}
