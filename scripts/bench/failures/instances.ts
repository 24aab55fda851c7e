/** What the end of an instance costs: a stream of 1,000 packets a second, its instance ended in the middle of it. */
import { measured, type FailoverPlan } from '../../../test/support/failover.js';
import { GAP_HEAD, gapsOf, rowsOf, tableOf, type Section } from './section.js';

interface Case {
  readonly name: string;
  readonly plan: FailoverPlan;
}

const killed: readonly (readonly [string, string])[] = [
  ['probe, default', '{probe: true}'],
  ['tcp, default', '{tcp: 8080}'],
  ['http, default', '{http: {port: 8080}}'],
  ['passive', '{passive: true}'],
  ['probe, 10 ms', '{probe: true, interval: 10ms}'],
  ['tcp, 10 ms', '{tcp: 8080, interval: 10ms}'],
  ['http, 10 ms', '{http: {port: 8080}, interval: 10ms}'],
];

const CASES: readonly Case[] = [
  ...killed.map(([name, health]) => ({ name: `\`kill -9\`, ${name}`, plan: { health } })),
  { name: '`kill -9`, probe, 10 ms, geneve', plan: { health: '{probe: true, interval: 10ms}', encapsulation: 'geneve' } },
  { name: 'link down, probe, default', plan: { health: '{probe: true}', end: 'link down' } },
  { name: 'link down, tcp, default', plan: { health: '{tcp: 8080}', end: 'link down' } },
  { name: 'link down, probe, 10 ms', plan: { health: '{probe: true, interval: 10ms}', end: 'link down' } },
];

export const instances: Section = {
  name: 'instances',
  title: 'An instance',
  async write(options) {
    const rows = await rowsOf(CASES, options, (lab, { plan }) => measured(lab, plan, options.said), (results) => gapsOf(results.map(({ takenOverMs: gapMs, lost, twice }) => ({ gapMs, lost, twice }))));
    return [
      `From the end of the instance to the first packet of its stream at the other one, by a capture there; packets of 1,000 a second that never arrived.`,
      '',
      tableOf(['how it ends, `health:`', 'runs', ...GAP_HEAD], rows),
    ].join('\n');
  },
};
