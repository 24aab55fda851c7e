/** `weir appliance`: the management tool of an appliance. Asks a manager on this host. */
import { InvalidArgumentError, type Command } from 'commander';
import { loadAppliance } from '../appliance/document.js';
import { formatErrors } from '../config/errors.js';
import type { Listener } from '../control/client.js';
import type { StatusAnswer } from '../control/appliance-methods.js';
import { Failure } from '../failure.js';
import { table } from '../observe/print.js';
import { askAt, type Globals } from './control.js';
import { MANAGER_SOCKET } from './manager.js';

const MANAGER: Listener = { name: 'a manager', start: 'weir manager --name NAME --listen ADDRESS --key FILE' };

function ask<T>(command: Command, method: string, params: object, print: (answer: T) => string): Promise<void> {
  return askAt(command.optsWithGlobals<Globals>().socket ?? MANAGER_SOCKET, command, method, params, print, MANAGER);
}

const age = (ms: number | null): string => (ms === null ? 'never' : ms < 1000 ? `${ms} ms ago` : `${Math.round(ms / 1000)} s ago`);

/** One of several tables: where it has no rows, it says of what. */
const listed = (what: string, ...[head, rows]: Parameters<typeof table>): string => (rows.length === 0 ? `\n${what}: none` : `\n${table(head, rows)}`);

export function showAppliance({ name, service, function: runs, term, revision, phase, count, managers, dispatchers, units, maps, refused }: StatusAnswer): string {
  const missing = count.wanted - count.serving;
  const counted = Object.entries(refused).filter(([, n]) => n > 0);
  return [
    `appliance ${name}: ${count.serving} units perform ${service} (${runs})${missing > 0 ? `, ${missing} more are wanted` : missing < 0 ? `, ${-missing} too many` : ''}; layout ${count.min} to ${count.max}`,
    `${phase}; term ${term}, revision ${revision}`,
    listed('managers', ['manager', 'address', ''], managers.map((one) => [one.name, one.address, one.leads ? 'leads' : ''])),
    listed('dispatchers', ['dispatcher', 'address', 'state', 'streams', 'heard of', 'cause'], dispatchers.map((one) => [one.name, one.address, one.state, one.streams, age(one.heard_ms_ago), one.cause])),
    listed(
      'units',
      ['unit', 'address', 'host', 'state', 'streams', 'cpu %', 'packets/s', 'passed on', 'taken up', 'opened', 'midstream', 'heard of', 'cause'],
      units.map((one) => [one.name, one.address, one.host, one.behind ? `${one.state}, behind` : one.state, one.streams, one.cpu?.toFixed(0), one.packets_per_second?.toFixed(0), one.passed_on, one.taken_up, one.opened, one.opened_midstream, age(one.heard_ms_ago), one.cause]),
    ),
    listed('maps', ['map', 'units', 'streams found by it alone'], maps.map((one, i) => [one.version, one.units, i === maps.length - 1 ? null : one.streams])),
    ...(counted.length === 0 ? [] : [`\nrefused: ${counted.map(([why, n]) => `${why} ${n}`).join(', ')}`]),
  ].join('\n');
}

interface Applied {
  readonly changes: readonly string[];
  readonly dry_run: boolean;
  readonly who: string;
}

function showApplied({ changes, dry_run: dryRun, who }: Applied): string {
  if (changes.length === 0) return dryRun ? 'this would change nothing' : 'nothing changed';
  return [dryRun ? 'this would change:' : `applied (${who}):`, ...changes.map((line) => `  ${line}`)].join('\n');
}

const units = (text: string): number => {
  const count = /^[0-9]{1,3}$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > 256) throw new InvalidArgumentError('expected a whole number from 1 to 256.');
  return count;
};

export function registerAppliance(program: Command): void {
  const appliance = program.command('appliance').description('the distributed appliance of a manager on this host');
  appliance
    .command('apply')
    .description('put the document of an appliance in force')
    .argument('<file>', 'document with the key appliance (YAML)')
    .option('--dry-run', 'say what it would do, and do nothing')
    .action((file: string, { dryRun = false }: { dryRun?: boolean }, command: Command) => {
      const loaded = loadAppliance(file);
      if (!loaded.ok) throw new Failure(formatErrors(loaded.errors), 2);
      return ask<Applied>(command, 'appliance.apply', { document: loaded.appliance.source, dry_run: dryRun }, showApplied);
    });
  appliance
    .command('status')
    .description('managers, dispatchers and units, and which maps there are')
    .action((_: object, command: Command) => ask<StatusAnswer>(command, 'appliance.status', {}, showAppliance));
  appliance
    .command('scale')
    .description('have so many units serve, within the bounds of the layout')
    .argument('<units>', 'how many', units)
    .action((count: number, _: object, command: Command) =>
      ask<{ units: number; before: number }>(command, 'appliance.scale', { units: count }, ({ units: now, before }) => (now === before ? `${now} units, as before` : `${now} units instead of ${before}: \`weir appliance status\` shows how far it is`)),
    );
}
