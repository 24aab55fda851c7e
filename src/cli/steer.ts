/** `weir steer set | list | delete`: a flow identifier and its services, without a configuration file. */
import { Option, type Command } from 'commander';
import { table } from '../observe/print.js';
import { Failure } from '../failure.js';
import { ask } from './control.js';
import { changing, mapping, paramsOf, showChange, type ChangeOptions } from './edits.js';

interface SetOptions extends ChangeOptions {
  readonly name?: string;
  readonly priority?: string;
  readonly encapsulation?: string;
  readonly answers?: string;
  readonly return?: string;
  readonly exit?: string;
  readonly deliver?: boolean;
  readonly virtualAddress?: readonly string[];
}

interface Row {
  readonly name: string;
  readonly match: object;
  readonly services: readonly string[];
  readonly priority: number;
  readonly options: object;
  readonly streams: number;
  readonly packets: number;
}

const inOneLine = (value: object): string => JSON.stringify(value).replaceAll('"', '').slice(1, -1).replaceAll(',', ', ').replaceAll(':', ': ');

function show({ steerings }: { readonly steerings: readonly Row[] }): string {
  if (steerings.length === 0) return 'nothing is steered; `weir steer set` does';
  return table(['name', 'match', 'services', 'priority', 'options', 'streams', 'packets'], steerings.map((row) => [row.name, inOneLine(row.match), row.services.join(' > '), row.priority, inOneLine(row.options) || '-', row.streams, row.packets]));
}

export function registerSteer(program: Command): void {
  const steer = program.command('steer').description('have the streams that match visit services, without a configuration file');
  changing(
    steer
      .command('set')
      .description('steer what matches, or change how it is steered')
      .argument('<match>', "YAML or JSON, such as '{protocol: tcp, source: 10.1.0.2, source_port: 40000, destination: 10.2.0.2, destination_port: 80}'; - reads it from standard input")
      .argument('<services...>', 'in the order in which a stream visits them')
      .option('--name <name>', 'default: made of the match')
      .option('--priority <number>', 'higher wins; default 0')
      .addOption(new Option('--encapsulation <what>').choices(['nsh', 'geneve']))
      .addOption(new Option('--answers <order>', 'order in which answers visit the services').choices(['backwards', 'forwards']))
      .addOption(new Option('--return <how>', 'each instance returns its packets to weir, or sends them to the next one (mesh)').choices(['hub', 'mesh']))
      .addOption(new Option('--exit <where>', "with --return mesh: packets of the workload leave from weir, or from the last instance's host").choices(['weir', 'direct']))
      .option('--deliver', 'the last service keeps the packets and answers by itself')
      .option('--virtual-address <address...>', 'with --deliver: answer ARP and neighbour discovery for it'),
  ).action((match: string, services: readonly string[], { name, priority, encapsulation, answers, return: back, exit, deliver, virtualAddress, ...change }: SetOptions, command: Command) => {
    if (priority !== undefined && !/^-?[0-9]+$/.test(priority)) throw new Failure(`--priority: expected a whole number, found "${priority}".`, 2);
    const options = { ...(encapsulation === undefined ? {} : { encapsulation }), ...(answers === undefined ? {} : { answers }), ...(back === undefined ? {} : { return: back }), ...(exit === undefined ? {} : { exit }), ...(deliver === true ? { deliver } : {}), ...(virtualAddress === undefined ? {} : { virtual_addresses: virtualAddress }) };
    const params = { match: mapping(match), services, ...(name === undefined ? {} : { name }), ...(priority === undefined ? {} : { priority: Number(priority) }), ...(Object.keys(options).length === 0 ? {} : { options }), ...paramsOf(change) };
    return ask<Parameters<typeof showChange>[0] & { steering: string }>(command, 'steer.set', params, (answer) => `${showChange(answer)}\nsteering ${answer.steering}`);
  });
  steer.command('list').description('what is steered').action((_: object, command: Command) => ask<{ steerings: readonly Row[] }>(command, 'steer.list', {}, show));
  changing(steer.command('delete').description('steer it no longer').argument('[name]').option('--match <match>', 'by its flow identifier instead of its name')).action(
    (name: string | undefined, { match, ...change }: ChangeOptions & { match?: string }, command: Command) => {
      if ((name === undefined) === (match === undefined)) throw new Failure('say which: either NAME or --match MATCH.', 2);
      return ask<Parameters<typeof showChange>[0]>(command, 'steer.delete', { ...(match === undefined ? { name } : { match: mapping(match) }), ...paramsOf(change) }, showChange);
    },
  );
}
