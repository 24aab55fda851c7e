/** `weir conditions` and `weir condition switch`. */
import { Argument, type Command } from 'commander';
import type { ConditionRow, ConditionsView } from '../conditions/view.js';
import { table } from '../observe/print.js';
import { ask } from './control.js';
import { showChange } from './edits.js';

const LEVEL = '  ';

/** Local time, to the second. */
function time(iso: string): string {
  const at = new Date(iso);
  const two = (n: number): string => String(n).padStart(2, '0');
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

const holds = (value: boolean | null): string => (value === null ? 'unknown' : value ? 'yes' : 'no');
const amount = ({ value, unit, damped }: ConditionRow): string => {
  const text = unit === null ? '' : value === null ? 'unknown' : `${Math.round(value)} ${unit}`;
  return damped ? `${text} (flaps)` : text;
};
const named = (name: string | null): string => (name === null ? 'the policies at the top level' : `configuration ${name}`);

export function showConditions(view: ConditionsView): string {
  const lines = [`in force: ${named(view.inForce)}, since ${time(view.since)} (${view.cause})`];
  lines.push(`next: ${view.next === null ? 'nothing by time alone' : `${named(view.next.inForce)} at ${time(view.next.at)}, if all else stays as it is`}`);
  if (view.switches.length > 0) {
    lines.push('', table(['switch', '', 'since'], view.switches.map(({ name, on, since }) => [name, on ? 'on' : 'off', since === null ? 'as configured' : time(since)])));
  }
  const rows = view.configurations.flatMap((variant) => [
    [`${variant.name}${variant.inForce ? ' *' : ''}`, variant.priority, '', holds(variant.holds), time(variant.since), variant.policies === 1 ? '1 policy' : `${variant.policies} policies`],
    ...variant.conditions.map((row) => [
      `${LEVEL.repeat(row.level + 1)}${row.condition}`,
      '',
      amount(row),
      holds(row.holds),
      time(row.since),
      row.next.at === null ? row.next.what : `${time(row.next.at)} ${row.next.what}`,
    ]),
  ]);
  lines.push('', rows.length === 0 ? 'the configuration has no named configurations' : table(['configuration', 'priority', 'value', 'holds', 'since', 'next'], rows));
  return lines.join('\n');
}

export function registerConditions(program: Command): void {
  program
    .command('conditions')
    .description('named configurations: what holds, since when, what switches next')
    .action((_, command: Command) => ask<ConditionsView>(command, 'conditions', {}, showConditions));
  program
    .command('condition')
    .description('turn switches that conditions ask for')
    .command('switch')
    .description('turn a switch')
    .argument('<name>')
    .addArgument(new Argument('<position>').choices(['on', 'off']))
    .action((name: string, position: string, _: object, command: Command) => ask<Parameters<typeof showChange>[0]>(command, 'condition.switch', { name, on: position === 'on' }, showChange));
}
