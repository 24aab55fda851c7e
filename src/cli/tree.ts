/** The commands as data: what completion scripts and the manual page are made of. */
import type { Command } from 'commander';

export interface OptionWord {
  /** As help shows it: `-c, --config <file>`. */
  readonly flags: string;
  readonly long: string | null;
  readonly short: string | null;
  readonly description: string;
  readonly takesValue: boolean;
  /** The value is the name of a file. */
  readonly file: boolean;
  readonly choices: readonly string[];
  readonly required: boolean;
  readonly fallback: string | null;
}

export interface ArgumentWord {
  /** As help shows it: `<file>`, `[params]`. */
  readonly text: string;
  readonly description: string;
  readonly choices: readonly string[];
  readonly file: boolean;
}

export interface CommandWord {
  /** With those above it: `weir chain insert`. */
  readonly path: string;
  readonly name: string;
  readonly description: string;
  readonly options: readonly OptionWord[];
  readonly arguments: readonly ArgumentWord[];
  readonly words: readonly CommandWord[];
}

const isFile = (text: string): boolean => /[<[](file|path)\b/.test(text);

export function treeOf(command: Command, above = ''): CommandWord {
  const help = command.createHelp();
  const path = `${above} ${command.name()}`.trim();
  const options = help.visibleOptions(command).map(
    (option): OptionWord => ({
      flags: option.flags,
      long: option.long ?? null,
      short: option.short ?? null,
      description: option.description,
      takesValue: option.required || option.optional,
      file: isFile(option.flags),
      choices: option.argChoices ?? [],
      required: option.mandatory,
      fallback: option.defaultValue === undefined || typeof option.defaultValue === 'object' ? null : String(option.defaultValue),
    }),
  );
  const parameters = command.registeredArguments.map((argument): ArgumentWord => {
    const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
    const text = argument.required ? `<${name}>` : `[${name}]`;
    return { text, description: argument.description, choices: argument.argChoices ?? [], file: isFile(text) };
  });
  const words = help.visibleCommands(command).filter((child) => child.name() !== 'help').map((child) => treeOf(child, path));
  return { path, name: command.name(), description: command.description(), options, arguments: parameters, words };
}

/** A command and all below it. */
export function flatten(tree: CommandWord): CommandWord[] {
  return [tree, ...tree.words.flatMap(flatten)];
}
