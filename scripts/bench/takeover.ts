/** `npm run bench:takeover`: one weir replaces another under traffic, and one is killed and started again. */
import { getuid } from 'node:process';
import { ControlClient } from '../../src/control/client.js';
import { Benchmark, ROOT, parseOptions, sleep, until, type Figures } from './harness.js';
import { Topology } from './topology.js';
import { READY, startNode, weirCommand, weirConfig } from './weir.js';
import { Running, bare } from './yardsticks.js';

if (getuid?.() !== 0) {
  console.error('bench:takeover makes network namespaces: run it as root');
  process.exit(1);
}
const bench = new Benchmark('takeover', parseOptions('takeover'));
const { weir, quick } = bench.options;
const INSTANCES = ['10.20.0.11', '10.20.0.12'];
const PACKETS_A_SECOND = 10_000;
const PORT = 7000;

/** wl ── in0 [dut] out0 ── net, instances at far */
const topology = new Topology('wl', 'dut', 'net', 'far');
topology.wire('wl', 'eth0', 'dut', 'in0');
topology.wire('dut', 'out0', 'net', 'eth0');
topology.wire('dut', 'und0', 'far', 'eth0', 1600);
topology.address('wl', 'eth0', '10.1.0.2/24');
topology.address('net', 'eth0', '10.1.0.1/24');
topology.address('dut', 'und0', '10.20.0.1/24');
for (const address of INSTANCES) topology.address('far', 'eth0', `${address}/24`);
const inside = (host: string) => (argv: readonly string[]): string[] => topology.inside(host, argv);
for (const [i, address] of INSTANCES.entries()) await startNode(weir, inside('far'), i + 1, address);

const script = (...args: (string | number)[]): string[] => ['python3', `${ROOT}/test/support/udp-streams.py`, ...args.map(String)];
const lastLine = <T>(output: string): T => JSON.parse(output.trim().split('\n').findLast((line) => line.startsWith('{')) ?? '{}') as T;

async function active(socket: string): Promise<number> {
  const client = await ControlClient.connect(socket);
  try {
    return (await client.call<{ streams: { active: number } }>('status')).streams.active;
  } finally {
    client.close();
  }
}

/** Changes processes in the middle of the traffic; `how` gives the new one. */
async function measure(streams: number, takeover: boolean): Promise<Figures> {
  const { file, socket } = weirConfig({ instances: INSTANCES, flows: 1_000_000 });
  const command = (...more: string[]): string[] => topology.inside('dut', weirCommand(weir, 'run', '--config', file, ...more));
  const first = await new Running(command()).ready(READY, 60_000);
  let running = first;
  try {
    if (streams > 0) {
      const generator = await new Running(topology.inside('wl', bare('generator', 'eth0', 200, streams, 0, 100_000))).ready(/ready/);
      await until(`${streams} streams`, async () => (await active(socket)) >= streams * 0.99, 120_000);
      await generator.stop();
    }
    const receiver = await new Running(topology.inside('net', script('receive', PORT))).ready(/ready/);
    const server = await new Running(topology.inside('net', ['iperf3', '-s', '-1', '--forceflush'])).ready(/Server listening/);
    const bulk = new Running(topology.inside('wl', ['iperf3', '-c', '10.1.0.1', '-t', '10', '-b', '100M', '--forceflush']));
    await bulk.ready(/0\.00-1\.0/);
    const sender = await new Running(topology.inside('wl', script('send', '10.1.0.1', PORT, 20_000, 100, PACKETS_A_SECOND))).ready(/ready/);
    await sleep(1000);
    if (!takeover) first.kill();
    running = await new Running(command(...(takeover ? ['--takeover'] : []))).ready(READY, 60_000);
    await sleep(1500);
    const { sent } = lastLine<{ sent: number }>(await sender.stop());
    const { received, twice, disorder, gap_ms: gap } = lastLine<{ received: number; twice: number; disorder: number; gap_ms: number }>(await receiver.stop());
    const waited = Number(/packets waited ([\d.]+) ms/.exec(running.output)?.[1]);
    const adopted = Number(/(\d+) live streams go on/.exec(running.output)?.[1]);
    const judged = Number(/"milliseconds":([\d.]+)/.exec(running.output)?.[1]);
    if (twice > 0 || disorder > 0) throw new Error(`${twice} datagrams came twice, ${disorder} out of order`);
    if (!(adopted >= streams * 0.99)) throw new Error(`${adopted} of ${streams} streams were adopted`);
    await bulk.ended(); // throws if TCP was reset
    await server.ended();
    return { gap, ...(takeover ? { waited } : {}), lost: sent - received, adopted, judged };
  } finally {
    await running.stop();
    await first.stop();
  }
}

const ms = { unit: 'ms', better: 'lower' } as const;
const counts = quick ? [0, 10_000] : [0, 100_000, 990_000];
const named = (count: number): string => `${count.toLocaleString('en')} other streams`;
const metrics = { gap: ms, lost: { unit: 'datagrams', better: 'lower' }, adopted: { unit: 'streams', better: 'higher' }, judged: ms } as const;
await bench.run({
  name: 'takeover',
  title: `\`weir run --takeover\` under ${PACKETS_A_SECOND.toLocaleString('en')} packets/s through two hops, and iperf3`,
  metrics: { ...metrics, waited: { unit: 'ms in the rings', better: 'lower' } },
  contenders: counts.map((count) => ({ name: named(count), run: () => measure(count, true) })),
  claims: counts.map((count) => ({ title: `longest time without a packet, ${named(count)}`, metric: 'gap', of: named(count), unit: 'ms', target: 50 })),
  notes: ['`gap` is the longest time between two arrivals at the destination, by its kernel\'s clock; `judged` is the part in which the table\'s entries are checked.'],
});
await bench.run({
  name: 'kill',
  title: 'kill -9 and start, the same traffic',
  metrics,
  contenders: counts.map((count) => ({ name: named(count), run: () => measure(count, false) })),
  claims: [],
  notes: ['`gap` and `lost` are the time in which no weir runs: most of it is Node starting.'],
});
bench.finish();
