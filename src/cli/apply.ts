/** `weir apply` and `weir config`: the whole document in, the whole document out. */
import type { Command } from 'commander';
import { stringify } from 'yaml';
import type { PlainDocument } from '../config/configuration.js';
import { ask } from './control.js';
import { changing, paramsOf, showChange, type ChangeOptions } from './edits.js';
import { configurationFrom } from './run.js';

/** Paths in it are relative to the file; the running weir has another one. */
function documentOf(file: string): PlainDocument {
  const { source, affinityKeyFile } = configurationFrom(file);
  return affinityKeyFile === null ? source.document : { ...source.document, affinity_key: { file: affinityKeyFile } };
}

export function registerApply(program: Command): void {
  changing(program.command('apply').description('replace the configuration of the running weir by a file, in one swap').argument('<file>', 'configuration (YAML)')).action(
    (file: string, options: ChangeOptions, command: Command) => ask<Parameters<typeof showChange>[0]>(command, 'config.apply', { document: documentOf(file), ...paramsOf(options) }, showChange),
  );
  program
    .command('config')
    .description('print the configuration in force (YAML)')
    .action((_: object, command: Command) =>
      ask<{ generation: number; document: PlainDocument }>(command, 'config.get', {}, ({ generation, document }) => `# generation ${generation}\n${stringify(document, { flowCollectionPadding: false }).trimEnd()}`),
    );
}
