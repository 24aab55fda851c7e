/** Completion scripts for bash, zsh and fish, made of the commands as they are. */
import { flatten, type CommandWord, type OptionWord } from './tree.js';

const quote = (text: string): string => `'${text.replace(/'/g, `'\\''`)}'`;
const names = (option: OptionWord): string[] => [option.long, option.short].filter((name) => name !== null);
const oneLine = (text: string): string => text.replace(/\s+/g, ' ');

/** What may stand next: words, options, choices of the first argument. */
const nextWords = (command: CommandWord): string[] => [...command.words.map(({ name }) => name), ...(command.arguments[0]?.choices ?? []), ...command.options.flatMap(names)];

/** Options with a value, by what completes it. */
function valued(commands: readonly CommandWord[]): { readonly at: readonly string[]; readonly option: OptionWord }[] {
  return commands.flatMap((command) => command.options.filter(({ takesValue }) => takesValue).map((option) => ({ at: names(option).map((name) => `${command.path}:${name}`), option })));
}

export function bashCompletion(tree: CommandWord): string {
  const all = flatten(tree);
  const paths = all.filter(({ path }) => path !== tree.path).map(({ path }) => quote(path));
  const values = valued(all).map(({ at, option }) => {
    const reply = option.choices.length > 0 ? `COMPREPLY=($(compgen -W ${quote(option.choices.join(' '))} -- "$cur"))` : option.file ? 'COMPREPLY=($(compgen -f -- "$cur"))' : 'COMPREPLY=()';
    return `    ${at.map(quote).join(' | ')}) ${reply}; return ;;`;
  });
  const words = all.map((command) => `    ${quote(command.path)}) words=${quote(nextWords(command).join(' '))} ;;`);
  return `# bash completion for weir: source <(weir completion bash)
_weir() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} path=${tree.name} words= i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$path \${COMP_WORDS[i]}" in
      ${paths.join(' | ')}) path="$path \${COMP_WORDS[i]}" ;;
    esac
  done
  case "$path:$prev" in
${values.join('\n')}
  esac
  case "$path" in
${words.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _weir ${tree.name}
`;
}

export function zshCompletion(tree: CommandWord): string {
  const all = flatten(tree);
  const paths = all.filter(({ path }) => path !== tree.path).map(({ path }) => quote(path));
  const values = valued(all).map(({ at, option }) => {
    const reply = option.choices.length > 0 ? `compadd -- ${option.choices.map(quote).join(' ')}` : option.file ? '_files' : ':';
    return `    ${at.map(quote).join(' | ')}) ${reply}; return ;;`;
  });
  const described = (name: string, description: string): string => quote(`${name.replace(/:/g, '\\:')}:${oneLine(description)}`);
  const words = all.map((command) => {
    const rows = [
      ...command.words.map(({ name, description }) => described(name, description)),
      ...(command.arguments[0]?.choices ?? []).map((choice) => described(choice, command.arguments[0]?.description ?? '')),
      ...command.options.flatMap((option) => names(option).map((name) => described(name, option.description))),
    ];
    return `    ${quote(command.path)}) choices=(${rows.join(' ')})${command.arguments.some(({ file }) => file) ? '; _files' : ''} ;;`;
  });
  return `#compdef ${tree.name}
# zsh completion for weir: weir completion zsh > "\${fpath[1]}/_weir"
_weir() {
  local where=${tree.name} i
  local -a choices
  for ((i = 2; i < CURRENT; i++)); do
    case "$where \${words[i]}" in
      ${paths.join(' | ')}) where="$where \${words[i]}" ;;
    esac
  done
  case "$where:\${words[CURRENT - 1]}" in
${values.join('\n')}
  esac
  case "$where" in
${words.join('\n')}
  esac
  _describe ${tree.name} choices
}
if [ "$funcstack[1]" = _weir ]; then _weir "$@"; elif (( $+functions[compdef] )); then compdef _weir ${tree.name}; fi
`;
}

export function fishCompletion(tree: CommandWord): string {
  const all = flatten(tree);
  const escape = (text: string): string => `'${oneLine(text).replace(/\\/g, '\\\\').replace(/'/g, "\\'")}'`;
  const lines = all.flatMap((command) => {
    const at = `complete -c ${tree.name} -n ${escape(`__weir_at ${command.path}`)}`;
    const own = command.options.map((option) => {
      const value = !option.takesValue ? '' : option.choices.length > 0 ? ` -x -a ${escape(option.choices.join(' '))}` : option.file ? ' -r -F' : ' -x';
      return `${at}${option.long === null ? '' : ` -l ${option.long.slice(2)}`}${option.short === null ? '' : ` -s ${option.short.slice(1)}`}${value} -d ${escape(option.description)}`;
    });
    const argument = command.arguments[0];
    return [
      ...command.words.map(({ name, description }) => `${at} -a ${name} -d ${escape(description)}`),
      ...(argument === undefined || argument.choices.length === 0 ? [] : [`${at} -a ${escape(argument.choices.join(' '))} -d ${escape(argument.description)}`]),
      ...(command.arguments.some(({ file }) => file) ? [`${at} -F`] : []),
      ...own,
    ];
  });
  return `# fish completion for weir: weir completion fish > ~/.config/fish/completions/weir.fish
set -g __weir_paths ${all.map(({ path }) => escape(path)).join(' ')}
function __weir_at
  set -l path ${tree.name}
  set -l typed (commandline -opc)
  for word in $typed[2..]
    contains -- "$path $word" $__weir_paths; and set path "$path $word"
  end
  test "$path" = "$argv"
end
complete -c ${tree.name} -f
${lines.join('\n')}
`;
}
