/** What the end of a member of a group with a primary node costs: streams that it serves, streams of others, new streams. */
import { join } from 'node:path';
import { Group, type MemberName } from '../../../test/support/group.js';
import { ROOT, until, type Lab, type Running } from '../../../test/support/lab.js';
import { GAP_HEAD, gapOf, gapsOf, rowsOf, tableOf, type GapCost, type Section } from './section.js';

const NUMBERED = join(ROOT, 'test/support/numbered.py');
const RATE = 1000;
const FRESH_RATE = 200;

interface Case {
  readonly name: string;
  /** Who ends. */
  readonly victim: MemberName;
  /** Whose stream is measured; null: streams of one datagram each. */
  readonly stream: MemberName | null;
  readonly health: string;
}

const QUICK = '{probe: true, interval: 10ms}';
const CASES: readonly Case[] = [
  ...(['{probe: true}', QUICK] as const).flatMap((health): Case[] => {
    const kind = health === QUICK ? 'probe, 10 ms' : 'probe, default';
    return [
      { name: `\`kill -9\` of the primary, a stream that it serves, ${kind}`, victim: 'fw-1', stream: 'fw-1', health },
      { name: `\`kill -9\` of the primary, a stream of a secondary, ${kind}`, victim: 'fw-1', stream: 'fw-2', health },
      { name: `\`kill -9\` of the primary, new streams, ${kind}`, victim: 'fw-1', stream: null, health },
    ];
  }),
  { name: '`kill -9` of a secondary, a stream that it serves, probe, 10 ms', victim: 'fw-2', stream: 'fw-2', health: QUICK },
  { name: '`kill -9` of a secondary, a stream of the primary, probe, 10 ms', victim: 'fw-2', stream: 'fw-1', health: QUICK },
];

interface Flows {
  readonly flows: readonly { readonly sourcePort: number; readonly packets: number; readonly instances: readonly string[] }[];
}

/** A stream that this member serves. */
async function streamOf(lab: Lab, wanted: MemberName): Promise<Running> {
  for (let port = 40_000; port < 40_100; port++) {
    const sender = await lab.start('wl', ['python3', NUMBERED, 'send', '10.2.0.2', '9999', String(port), String(RATE)], /ready/);
    let served = '';
    await until('the stream to be somewhere', async () => {
      const { flows } = await lab.ask<Flows>('flows', { limit: 1000 });
      served = flows.find((flow) => flow.sourcePort === port && flow.packets > 300)?.instances[0] ?? '';
      return served !== '';
    });
    if (served === `firewall/${wanted}`) return sender;
    await sender.stop();
  }
  throw new Error(`no stream came to ${wanted}`);
}

async function measure(lab: Lab, { victim, stream, health }: Case): Promise<GapCost> {
  const group = await Group.up(lab, { health });
  const sender = stream === null ? await lab.start('wl', ['python3', NUMBERED, 'fresh', '10.2.0.2', '9999', '20000', String(FRESH_RATE)], /ready/) : await streamOf(lab, stream);
  const receiver = await lab.start('net', ['python3', NUMBERED, 'receive', '10.2.0.2', '9999'], /ready/);
  const delivered = async (): Promise<number> => (await lab.ask<{ delivered: { packets: number } }>('stats')).delivered.packets;
  const more = async (packets: number): Promise<void> => {
    const before = await delivered();
    await until('packets', async () => (await delivered()) > before + packets);
  };
  const rate = stream === null ? FRESH_RATE : RATE;
  await more(rate);
  await group.kill(victim);
  await more(2 * rate);
  await sender.stop();
  const cost = await gapOf(receiver);
  await group.down();
  return cost;
}

export const primary: Section = {
  name: 'primary',
  title: 'A member of a group with a primary node',
  async write(options) {
    const rows = await rowsOf(CASES, options, measure, gapsOf);
    return [
      `The longest time without a packet at the destination, and packets that never arrived: of ${RATE.toLocaleString('en')} a second of one stream, or of ${FRESH_RATE} streams a second of one packet each. Three members.`,
      '',
      tableOf(['who ends, what is measured, `health:`', 'runs', ...GAP_HEAD], rows),
    ].join('\n');
  },
};
