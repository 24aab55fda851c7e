/** Ends an instance under traffic and measures, from a capture at the other one, when its stream arrives there. */
import { join } from 'node:path';
import { ROOT, SERVICES, until, type Lab, type Running } from './lab.js';
import { arrivals } from './stamped-capture.js';

const NUMBERED = join(ROOT, 'test/support/numbered.py');
const SOURCE_PORT = 40_000;
/** Numbered packets a second: the least that can be lost is one each millisecond. */
const RATE = 1000;

export interface FailoverPlan {
  /** `health:` of the service, as the configuration has it. */
  readonly health: string;
  readonly encapsulation?: 'nsh' | 'geneve';
  readonly port?: 'ring' | 'pcap';
  /** How the instance ends: its process at once, or its host from the network. */
  readonly end?: 'kill -9' | 'link down';
}

export interface Failover {
  /** From the end of the instance to the first packet of its stream at the other one. */
  readonly takenOverMs: number;
  /** Numbered packets that never arrived at their destination. */
  readonly lost: number;
  readonly twice: number;
  readonly longestGapMs: number;
  /** What `weir services` gives as the cause. */
  readonly cause: string;
  /** From its restart until it is up again. */
  readonly backMs: number;
}

/** The instance was taken out while it still worked: nothing was measured. */
export class Premature extends Error {}

interface Services {
  readonly name: string;
  readonly instances: readonly { readonly name: string; readonly state: string; readonly health: { readonly state: string; readonly cause: string } | null }[];
}

const wallMs = (): number => performance.timeOrigin + performance.now();

/** Ends what it started, also where it fails. */
export async function failover(lab: Lab, plan: FailoverPlan): Promise<Failover> {
  const started: Running[] = [];
  try {
    return await measure(lab, plan, (running) => {
      started.push(running);
      return running;
    });
  } finally {
    await Promise.all(started.map((running) => running.stop('SIGKILL')));
    for (const port of ['p2', 'p3']) await lab.must('sw', 'ip', 'link', 'set', port, 'up');
  }
}

async function measure(lab: Lab, { health, encapsulation = 'nsh', port = 'ring', end = 'kill -9' }: FailoverPlan, keep: (running: Running) => Running): Promise<Failover> {
  const start = async (host: 'fw1' | 'fw2'): Promise<Running> => keep(await lab.node(host, 'pass', ['--health', '8080']));
  const nodes: Record<string, Running> = { 'fw-1': await start('fw1'), 'fw-2': await start('fw2') };
  const weir = keep(await lab.weir({ encapsulation, port, chain: ['firewall'], of: { firewall: `health: ${health}` }, extra: 'workers: 1' }));
  const instance = async (name: string) => (await lab.ask<Services[]>('services')).find((service) => service.name === 'firewall')?.instances.find((one) => one.name === name);
  const receiver = keep(await lab.start('net', ['python3', NUMBERED, 'receive', '10.2.0.2', '9999'], /ready/));
  const sender = keep(await lab.start('wl', ['python3', NUMBERED, 'send', '10.2.0.2', '9999', String(SOURCE_PORT), String(RATE)], /ready/));

  let name = '';
  await until('the stream to be under way', async () => {
    const { flows } = await lab.ask<{ flows: { sourcePort: number; packets: number; instances: string[] }[] }>('flows', { limit: 1000 });
    const flow = flows.find((one) => one.sourcePort === SOURCE_PORT && one.packets > 500);
    name = flow?.instances[0]?.split('/')[1] ?? '';
    return name !== '' && (await instance(name))?.health?.state !== 'down';
  });
  const [host, other] = name === 'fw-1' ? (['fw1', 'fw2'] as const) : (['fw2', 'fw1'] as const);
  const capture = await lab.capture(other);

  const endedMs = wallMs();
  if (end === 'kill -9') nodes[name]?.child.kill('SIGKILL');
  else await lab.must('sw', 'ip', 'link', 'set', `p${host === 'fw1' ? 2 : 3}`, 'down');
  // Both from one answer: a moment later it may be on trial.
  let cause = '';
  await until(`${name} to be taken out`, async () => {
    const { state, health: said } = (await instance(name)) ?? {};
    cause = said?.cause ?? '';
    return state === 'down';
  }, 30_000);
  const received = async (): Promise<number> => (await lab.ask<{ delivered: { packets: number } }>('stats')).delivered.packets;
  const before = await received();
  await until('packets to arrive again', async () => (await received()) > before + 300);

  const againMs = wallMs();
  if (end === 'kill -9') nodes[name] = await start(host);
  else await lab.must('sw', 'ip', 'link', 'set', `p${host === 'fw1' ? 2 : 3}`, 'up');
  await until(`${name} to be back`, async () => (await instance(name))?.state === 'up', 60_000);
  const backMs = wallMs() - againMs;

  await sender.stop();
  const result = JSON.parse((await receiver.stop()).stdout.split('\n')[1] ?? '{}') as { missing: number; twice: number; longest_gap_ms: number };
  const file = await capture.stop();
  await weir.stop();
  await Promise.all(Object.values(nodes).map((node) => node.stop()));
  const stream = arrivals(file, other, SERVICES[other].address).filter((arrival) => arrival.stream.includes(`:${SOURCE_PORT}`));
  if (stream.some((arrival) => arrival.timeUs / 1000 < endedMs)) throw new Premature(`${name} was taken out before it ended: this machine is too busy for ${health}`);
  const firstMs = Math.min(...stream.map(({ timeUs }) => timeUs / 1000));
  return { takenOverMs: firstMs - endedMs, lost: result.missing, twice: result.twice, longestGapMs: result.longest_gap_ms, cause, backMs };
}

const MOST_TRIES = 4;

/** Runs again where the machine was too busy to measure anything, a few times. */
export async function measured(lab: Lab, plan: FailoverPlan, said: (line: string) => void): Promise<Failover> {
  for (let tries = 1; ; tries++) {
    try {
      return await failover(lab, plan);
    } catch (error) {
      if (!(error instanceof Premature) || tries === MOST_TRIES) throw error;
      said(error.message);
    }
  }
}
