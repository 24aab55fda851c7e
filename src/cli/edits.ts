/** Edits with a name, one word each: `weir chain insert`, `weir policy add`, `weir instance drain` … */
import { readFileSync } from 'node:fs';
import { Option, type Command } from 'commander';
import { Failure } from '../failure.js';
import { yaml } from '../lazily.js';
import { ask } from './control.js';

interface Change {
  readonly generation: number;
  readonly changed: string;
  readonly who: string;
  readonly changes?: readonly string[];
  readonly dry_run?: boolean;
}

export function showChange(change: Change): string {
  const lines = change.changes ?? [change.changed];
  if (change.dry_run === true) return [`generation ${change.generation} stays in force; this would change:`, ...(lines.length > 0 ? lines : ['nothing']).map((line) => `  ${line}`)].join('\n');
  return lines.length > 1 ? [`generation ${change.generation} (${change.who}):`, ...lines.map((line) => `  ${line}`)].join('\n') : `generation ${change.generation}: ${change.changed} (${change.who})`;
}

export interface ChangeOptions {
  readonly existing: string;
  readonly dryRun?: boolean;
  readonly ifGeneration?: string;
}

/** The options of every change. */
export function changing(command: Command): Command {
  return command
    .addOption(new Option('--existing <what>', 'live streams of what changes: keep their path, or move to the new one').choices(['keep', 'move']).default('keep'))
    .option('--dry-run', 'say what it would do, and do nothing')
    .option('--if-generation <number>', 'only if this generation is still in force');
}

export function paramsOf({ existing, dryRun, ifGeneration }: ChangeOptions): object {
  if (ifGeneration !== undefined && !/^[0-9]+$/.test(ifGeneration)) throw new Failure(`--if-generation: expected a whole number, found "${ifGeneration}".`, 2);
  return { existing, ...(dryRun === true ? { dry_run: true } : {}), ...(ifGeneration === undefined ? {} : { if_generation: Number(ifGeneration) }) };
}

interface Place {
  readonly after?: string;
  readonly before?: string;
}
const placeOf = ({ after, before }: Place): Place => ({ ...(after === undefined ? {} : { after }), ...(before === undefined ? {} : { before }) });
const placed = (command: Command): Command => command.option('--after <name>').option('--before <name>');

/** A mapping in YAML or JSON; `-` reads it from standard input. */
export function mapping(text: string): object {
  let value: unknown;
  try {
    value = yaml().parse(text === '-' ? readFileSync(0, 'utf8') : text);
  } catch (error) {
    throw new Failure(`expected YAML or JSON: ${(error as Error).message}`, 2);
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw new Failure(`expected a mapping such as '{name: web, …}', found ${JSON.stringify(text)}.`, 2);
  return value;
}

function instanceKey(key: string): { service: string; instance: string } {
  const [service, instance, ...rest] = key.split('/');
  if (service === undefined || service === '' || instance === undefined || instance === '' || rest.length > 0) throw new Failure(`expected SERVICE/NAME, found "${key}".`, 2);
  return { service, instance };
}

/** A word whose arguments and options become the parameters of `method`. */
function edit<O extends ChangeOptions>(command: Command, method: string, params: (args: readonly string[], options: O) => object): void {
  changing(command).action((...given: unknown[]) => {
    const self = given.at(-1) as Command;
    const options = given.at(-2) as O;
    return ask<Change>(self, method, { ...params(self.args, options), ...paramsOf(options) }, showChange);
  });
}

export function registerEdits(program: Command): void {
  const chain = program.command('chain').description('change a chain under traffic');
  edit(chain.command('set').description('replace the services of a chain').argument('<chain>').argument('[services...]', 'in order'), 'chain.set', ([name, ...services]) => ({ chain: name, services }));
  edit<ChangeOptions & Place>(placed(chain.command('insert').description('insert a service into a chain').argument('<chain>').argument('<service>')), 'chain.insert', ([name, service], options) => {
    if ((options.after === undefined) === (options.before === undefined)) throw new Failure('say where: either --after SERVICE or --before SERVICE.', 2);
    return { chain: name, service, ...placeOf(options) };
  });
  edit(chain.command('remove').description('take a service out of a chain').argument('<chain>').argument('<service>'), 'chain.remove', ([name, service]) => ({ chain: name, service }));
  edit(chain.command('replace').description('put a service in the place of another').argument('<chain>').argument('<service>').argument('<by>'), 'chain.replace', ([name, service, by]) => ({ chain: name, service, with: by }));

  const policy = program.command('policy').description('add or remove a policy');
  edit<ChangeOptions & Place>(placed(policy.command('add').description('add a policy, at the end or where you say').argument('<policy>', "YAML or JSON, such as '{name: web, match: {destination_port: 80}, chain: inspect}'; - reads it from standard input")), 'policy.add', ([text = ''], options) => ({ policy: mapping(text), ...placeOf(options) }));
  edit(policy.command('remove').description('remove a policy').argument('<name>'), 'policy.remove', ([name]) => ({ policy: name }));

  const service = program.command('service').description('add or remove a service');
  edit(service.command('add').description('add a service').argument('<name>').argument('<definition>', "YAML or JSON, such as '{instances: [{name: fw-1, address: 10.20.0.11}]}'; - reads it from standard input"), 'service.add', ([name, text = '']) => ({ service: name, definition: mapping(text) }));
  edit(service.command('remove').description('remove a service that no chain has').argument('<name>'), 'service.remove', ([name]) => ({ service: name }));

  const instance = program.command('instance').description('add, remove, weigh, drain an instance');
  edit<ChangeOptions & { weight?: string }>(instance.command('add').description('add an instance to a service').argument('<service/name>').argument('<address>').option('--weight <number>', 'share of new streams, default 1'), 'instance.add', ([key = '', address], { weight }) => {
    const { service: owner, instance: name } = instanceKey(key);
    return { service: owner, instance: { name, address, ...(weight === undefined ? {} : { weight: Number(weight) }) } };
  });
  edit(instance.command('remove').description('remove an instance; its streams go to others').argument('<service/name>'), 'instance.remove', ([key = '']) => instanceKey(key));
  edit(instance.command('weight').description('change its share of new streams').argument('<service/name>').argument('<weight>'), 'instance.weight', ([key = '', weight]) => ({ ...instanceKey(key), weight: Number(weight) }));
  registerStates(instance);
}

function registerStates(instance: Command): void {
  for (const [word, state, description] of [
    ['up', 'up', 'give it streams'],
    ['drain', 'draining', 'let its streams end, give it no new ones'],
    ['down', 'down', 'take it out at once'],
  ] as const) {
    const command = instance.command(word).description(description).argument('<service/name>');
    if (state === 'draining') command.option('--deadline <duration>', 'take it out at the latest after this, such as 30s');
    command.action((key: string, options: { deadline?: string }, self: Command) => {
      const deadline = options.deadline === undefined ? {} : { deadline: options.deadline };
      return ask<Change>(self, 'instance.set', { ...instanceKey(key), state, ...deadline }, showChange);
    });
  }
}
