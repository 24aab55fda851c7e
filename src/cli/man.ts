/** `weir man`: the manual page in roff, made of the commands as they are. The build writes it to dist/weir.1. */
import type { Command } from 'commander';
import { VERSION } from '../version.js';
import { flatten, treeOf, type CommandWord, type OptionWord } from './tree.js';

/** Text that roff takes as it stands. */
function plain(text: string): string {
  const escaped = text.replace(/\\/g, '\\e').replace(/-/g, '\\-').replace(/\s+/g, ' ');
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped;
}

const bold = (text: string): string => `\\fB${plain(text)}\\fR`;

function optionLines(option: OptionWord): string[] {
  const notes = [
    ...(option.choices.length > 0 ? [`one of ${option.choices.join(', ')}`] : []),
    ...(option.fallback !== null ? [`default ${option.fallback}`] : []),
    ...(option.required ? ['needed'] : []),
  ];
  const description = [option.description, ...(notes.length > 0 ? [`(${notes.join('; ')})`] : [])].join(' ').trim();
  return ['.TP', bold(option.flags), plain(description === '' ? 'see above' : description)];
}

function synopsis({ path, arguments: list, options, words }: CommandWord): string {
  const needed = options.filter(({ required }) => required).map(({ flags }) => flags.split(', ').at(-1) ?? flags);
  const rest = words.length > 0 ? ['<command>'] : list.map(({ text }) => text);
  return [bold(path), ...[...needed, ...rest].map(plain), ...(options.length > needed.length ? ['[options]'] : [])].join(' ');
}

function section(command: CommandWord): string[] {
  const own = command.options.filter(({ long }) => long !== '--help' && long !== '--json' && long !== '--socket');
  const described = command.arguments.filter(({ description }) => description !== '');
  return [
    `.SS ${plain(command.path.split(' ').slice(1).join(' '))}`,
    synopsis(command),
    '.PP',
    plain(`${command.description.charAt(0).toUpperCase()}${command.description.slice(1)}.`),
    ...described.flatMap(({ text, description, choices }) => ['.TP', bold(text), plain(`${description}${choices.length > 0 ? `: ${choices.join(', ')}` : ''}`)]),
    ...own.flatMap(optionLines),
  ];
}

export function manualPage(tree: CommandWord): string {
  const leaves = flatten(tree).filter(({ words, path }) => words.length === 0 && path !== tree.path);
  return `${[
    `.TH WEIR 1 "" ${plain(`"weir ${VERSION}"`)} "User commands"`,
    '.SH NAME',
    'weir \\- steers packets through chains of service instances',
    '.SH SYNOPSIS',
    synopsis(tree),
    '.SH DESCRIPTION',
    plain(tree.description),
    plain('It captures what a workload sends and receives, decides by 5-tuple which chain of service instances a stream belongs to, stamps every packet and carries it through the chain.'),
    plain('It needs CAP_NET_RAW and nothing else.'),
    '.SH OPTIONS',
    'For every command:',
    ...tree.options.flatMap(optionLines),
    '.SH COMMANDS',
    ...leaves.flatMap(section),
    '.SH EXIT STATUS',
    '.TP', '0', 'All is well.', '.TP', '1', 'It failed; standard error says why.', '.TP', '2', 'The command line or the configuration is wrong.',
    '.SH SIGNALS',
    plain('weir run ends in order at SIGTERM and SIGINT, and applies its configuration file anew at SIGHUP (on a terminal it ends).'),
    '.SH FILES',
    '.TP', plain('/run/weir/weir.sock'), 'The control socket.', '.TP', plain('/var/lib/weir'), 'The state that a start comes up with.',
    '.SH ENVIRONMENT',
    '.TP', 'NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID', plain('Set by systemd(1): weir run says when it is ready, reloads and stops, and that its workers move.'),
    '.SH SEE ALSO',
    plain('tcpdump(8), pcap-filter(7), packet(7), capabilities(7), systemd.service(5)'),
  ].join('\n')}\n`;
}

export function registerMan(program: Command): void {
  program
    .command('man')
    .description('print the manual page: weir man | man -l -')
    .action(() => void process.stdout.write(manualPage(treeOf(program))));
}
