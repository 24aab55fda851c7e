/** A service that grows from one instance to four and shrinks to one again, by the lab's hooks, under TCP connections that come and go. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Lab, ROOT, run, until, type Running } from './lab.js';
import { arrivals } from './stamped-capture.js';

const CHURN = join(ROOT, 'test/support/tcp-churn.py');
const HOOK = join(ROOT, 'scripts/lab');
const PORT = 7007;
/**
 * Of a long connection. Shares follow the load over some 5 s, so streams are even where streams live longer than that; and chance alone
 * puts each of four instances off even by some 8 % where they have 120 streams each, by half of that where they have 400.
 */
const lifeOf = (connections: number): readonly [number, number] => (connections < 1000 ? [3, 6] : [40, 60]);
/** The load that four instances are needed for. */
const PEAK_INSTANCES = 3.5;

export interface Churned {
  readonly opened: { readonly long: number; readonly short: number };
  readonly completed: number;
  readonly failed: Readonly<Record<string, number>>;
  readonly longest_wait_ms: number;
  readonly over_1s: number;
}

interface Instance {
  readonly name: string;
  readonly state: string;
  readonly streams: number;
}
interface Service {
  readonly name: string;
  readonly instances: readonly Instance[];
  readonly scale: { readonly members: readonly { readonly name: string; readonly phase: string }[]; readonly faults: readonly unknown[] } | null;
}

export interface ScalingRun {
  readonly churned: Churned;
  /** The number of instances that got new streams, whenever it changed. */
  readonly counts: readonly number[];
  /** Mean streams of each of the four while there were four, and how far the farthest is from even, in percent. */
  readonly streams: readonly number[];
  readonly unevenPercent: number;
  /** Streams in the captures at instances, and those that more than one saw. */
  readonly seen: number;
  readonly seenTwice: readonly string[];
  /** Instances that had streams. */
  readonly busy: number;
  readonly droppedByTcpdump: number;
}

/** About `connections` of them, two thirds long. `said` gets the progress. */
export async function scaling(lab: Lab, connections: number, said: (line: string) => void = () => undefined): Promise<ScalingRun> {
  const captures = join(lab.directory, 'captures');
  mkdirSync(captures);
  const rates = join(lab.directory, 'rates');
  const peak = connections / (connections < 1000 ? 40 : 80);
  const life = lifeOf(connections);
  const rate = (long: number, short: number): void => writeFileSync(rates, `${long} ${short}\n`);
  // Of a long one: its life, and a second until it is forgotten; of a short one that second.
  const streams = peak * ((life[0] + life[1]) / 2 + 1) + (peak / 2) * 1.2;
  const target = Math.round(streams / PEAK_INSTANCES);
  const file = join(lab.directory, 'scaling.yaml');
  writeFileSync(
    file,
    `underlay: {interface: und0}
captures: [{name: web, in: in0, out: out0}]
services:
  firewall:
    instances: []
    health: {tcp: 8080, interval: 200ms}
    placement: {by: load, metric: streams, interval: 1s}
    scale:
      {min: 1, max: 4, metric: streams, target: ${target}, cooldown: {up: 1s, down: 3s}, addresses: 10.20.0.41-10.20.0.48,
       add: {exec: [${HOOK}, instance]}, remove: {exec: [${HOOK}, instance]}}
chains: {inspect: [firewall]}
policies: [{name: all, match: {protocol: tcp}, chain: inspect}]
flows: {idle: {closed: 1s}}
control: {socket: ${lab.socket}}
state_dir: ${join(lab.directory, 'state')}
`,
  );
  const environment = [`WEIR_LAB=${lab.prefix}`, `WEIR_LAB_CAPTURES=${captures}`];
  const weir = await lab.start('fwd', ['env', ...environment, process.execPath, join(ROOT, 'dist/cli/main.js'), 'run', '--config', file], /"msg":"ready"/);
  const service = async (): Promise<Service> => (await lab.ask<Service[]>('services')).find(({ name }) => name === 'firewall') as Service;
  const counts: number[] = [];
  const upNow = async (): Promise<Instance[]> => {
    const up = (await service()).instances.filter(({ state }) => state === 'up');
    if (up.length !== counts.at(-1)) said(`${up.length} instances`);
    if (up.length !== counts.at(-1)) counts.push(up.length);
    return up;
  };
  await until('the first instance', async () => (await upNow()).length === 1, 60_000);

  const server = await lab.start('net', ['python3', CHURN, 'serve', String(PORT)], /ready/);
  rate(peak / 10, peak / 10);
  const client = await lab.start('wl', ['python3', CHURN, 'run', '10.2.0.2', String(PORT), rates, '15000', String(life[0]), String(life[1])], /ready/);
  const opened = async (): Promise<number> => (await lab.ask<{ streams: { opened: number } }>('stats')).streams.opened;
  await until('the first connections', async () => (await opened()) > 5);

  rate(peak, peak / 2);
  await until('four instances', async () => (await upNow()).length === 4, 120_000);
  // Those that began before the fourth came have to end first.
  const early = await opened();
  await until('the first ones to have ended', async () => (await opened()) > early + peak * 1.5 * life[1], 120_000);
  const samples = new Map<string, number[]>();
  const from = await opened();
  await until('streams at all four', async () => {
    for (const { name, streams: now } of await upNow()) samples.set(name, [...(samples.get(name) ?? []), now]);
    return (await opened()) > from + connections * 0.2;
  }, 120_000);

  rate(peak / 20, peak / 20);
  await until('one instance again', async () => (await upNow()).length === 1 && (await service()).scale?.members.length === 1, 180_000);
  const churned = JSON.parse((await client.stop()).stdout.trim().split('\n').at(-1) ?? '') as Churned;
  const { scale } = await service();
  if (scale?.faults.length !== 0) throw new Error(`hooks failed: ${JSON.stringify(scale)}`);
  await endInstances(lab, weir, server, [...environment, 'WEIR_ACTION=remove', 'WEIR_SERVICE=firewall'], scale.members.map(({ name }) => name));

  const means = [...samples.values()].map((values) => values.reduce((sum, value) => sum + value, 0) / values.length);
  const even = means.reduce((sum, value) => sum + value, 0) / means.length;
  return { churned, counts, streams: means.map((value) => Math.round(value)), unevenPercent: (Math.max(...means.map((value) => Math.abs(value - even))) / even) * 100, ...(await whoSaw(captures)) };
}

/** The last one is still there, and its tcpdump writes. */
async function endInstances(lab: Lab, weir: Running, server: Running, environment: readonly string[], names: readonly string[]): Promise<void> {
  await Promise.all([weir.stop(), server.stop()]);
  for (const name of names) {
    const { code, stderr } = await run(['env', ...environment, `WEIR_INSTANCE=${name}`, 'WEIR_ADDRESS=', HOOK, 'instance-here']);
    if (code !== 0) throw new Error(`${lab.prefix}-${name}: ${stderr}`);
  }
}

async function whoSaw(directory: string): Promise<Pick<ScalingRun, 'seen' | 'seenTwice' | 'busy' | 'droppedByTcpdump'>> {
  const seenAt = new Map<string, Set<string>>();
  const busy = new Set<string>();
  let droppedByTcpdump = 0;
  for (const file of readdirSync(directory).filter((name) => name.endsWith('.pcap'))) {
    const counts = await run(['cat', join(directory, file.replace(/\.pcap$/, '.txt'))]);
    droppedByTcpdump += Number(/(\d+) packets? dropped by kernel/.exec(counts.stdout)?.[1] ?? 0);
    const name = file.replace(/-\d+\.pcap$/, '');
    const address = `10.20.0.${40 + Number(name.split('-')[1])}`;
    for (const { stream } of arrivals(join(directory, file), name, address)) {
      if (!stream.includes(`:${PORT}`)) continue;
      // Each start of a process is an instance of its own.
      seenAt.set(stream, (seenAt.get(stream) ?? new Set()).add(file));
      busy.add(file);
    }
  }
  return { seen: seenAt.size, seenTwice: [...seenAt].filter(([, files]) => files.size > 1).map(([stream, files]) => `${stream}: ${[...files].join(', ')}`), busy: busy.size, droppedByTcpdump };
}
