/** What the end of a member of an appliance costs: of a manager, a dispatcher, a unit. */
import { join } from 'node:path';
import { ApplianceLab, SERVER } from '../../../test/support/appliance-lab.js';
import { ROOT, until, type Lab } from '../../../test/support/lab.js';
import { GAP_HEAD, gapOf, gapsOf, median, rowsOf, tableOf, type GapCost, type Section } from './section.js';

const NUMBERED = join(ROOT, 'test/support/numbered.py');
const RATE = 1000;
const PROBE_MS = 10;
const UNITS = 4;

interface Case {
  readonly name: string;
  readonly managers: number;
  readonly victim: 'manager' | 'dispatcher' | 'unit';
}

const CASES: readonly Case[] = [
  { name: '`kill -9` of the only manager', managers: 1, victim: 'manager' },
  { name: '`kill -9` of the manager that leads, of two', managers: 2, victim: 'manager' },
  { name: '`kill -9` of a dispatcher, of three', managers: 1, victim: 'dispatcher' },
  { name: '`kill -9` of a unit, a stream that it serves, `lease: 1s`', managers: 1, victim: 'unit' },
];

interface Cost extends GapCost {
  /** Until another manager leads. */
  readonly successorMs: number | null;
}

async function measure(lab: Lab, { managers, victim }: Case): Promise<Cost> {
  const appliance = new ApplianceLab(lab, { units: UNITS, managers, probeMs: PROBE_MS, layout: { min: 1, max: UNITS, start: UNITS, lease: '1s' } });
  await appliance.start(UNITS);
  const receiver = await lab.start('sv', ['python3', NUMBERED, 'receive', SERVER, '9999'], /ready/);
  const sender = await lab.start('cl', ['python3', NUMBERED, 'send', SERVER, '9999', '40000', String(RATE)], /ready/);
  let unit = 0;
  await until('a unit to serve the stream', async () => {
    unit = Number((await appliance.status(managers)).units.find(({ streams }) => streams > 0)?.name.slice(2) ?? 0);
    return unit > 0;
  });
  const delivered = async (): Promise<number> => {
    const all = await Promise.all([...appliance.dispatchers].filter(([, { child }]) => child.exitCode === null && child.signalCode === null).map(([i]) => appliance.ask<{ delivered: { packets: number } }>(appliance.dispatcherSocket(i), 'stats')));
    return all.reduce((sum, { delivered: { packets } }) => sum + packets, 0);
  };
  const more = async (packets: number): Promise<void> => {
    const before = await delivered();
    await until('packets', async () => (await delivered()) > before + packets);
  };
  await more(RATE);
  const { term } = await appliance.status(managers);
  const at = performance.now();
  const victims = { manager: appliance.managers.get(1), dispatcher: appliance.dispatchers.get(2), unit: appliance.units.get(unit) };
  victims[victim]?.child.kill('SIGKILL');
  await victims[victim]?.ended;
  let successorMs: number | null = null;
  if (victim === 'manager' && managers === 2) {
    await until('the other manager to lead', async () => (await appliance.status(2)).term > term);
    successorMs = performance.now() - at;
  }
  await more(3 * RATE);
  await sender.stop();
  const cost = await gapOf(receiver);
  await appliance.down();
  return { ...cost, successorMs };
}

export const appliance: Section = {
  name: 'appliance',
  title: 'A member of an appliance',
  async write(options) {
    const rows = await rowsOf(CASES, options, measure, (costs) => {
      const { cells, said } = gapsOf(costs);
      const successors = costs.flatMap(({ successorMs }) => (successorMs === null ? [] : [successorMs]));
      if (successors.length === 0) return { cells: [...cells, '-'], said };
      return { cells: [...cells, median(successors).toFixed(0)], said: `${said}; the other leads after ${successors.map((ms) => ms.toFixed(0)).join(', ')} ms` };
    });
    return [
      `The longest time without a packet at the destination, and packets that never arrived, of ${RATE.toLocaleString('en')} a second of one stream. Three dispatchers, ${UNITS} units. Each packet takes one of the dispatchers at random; what`,
      `spreads them probes each path every ${PROBE_MS} ms and leaves it out after three probes were missed.`,
      '',
      tableOf(['who ends', 'runs', ...GAP_HEAD, 'ms until another manager leads'], rows),
    ].join('\n');
  },
};
