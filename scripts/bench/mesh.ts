/** `npm run bench:mesh`: what a second copy of the state costs (sync off, async, strict), and mesh chains beside hub chains. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { getuid } from 'node:process';
import { Benchmark, parseOptions, until, type Contender, type Figures, type Metric } from './harness.js';
import { FIRST_PORT, PORTS, SERVER } from './live/paths.js';
import { quantile } from './statistics.js';
import { Topology } from './topology.js';
import { READY, scratch, weirCommand } from './weir.js';
import { Running, bare, countsOf, run } from './yardsticks.js';

if (getuid?.() !== 0) {
  console.error('bench:mesh makes network namespaces: run it as root');
  process.exit(1);
}
const bench = new Benchmark('mesh', parseOptions('mesh'));
const { seconds, weir } = bench.options;

const METRICS: Readonly<Record<string, Metric>> = {
  goodput: { unit: 'Gbit/s', better: 'higher' },
  tcp50: { unit: 'µs median', better: 'lower' },
  tcp99: { unit: 'µs 99 %', better: 'lower' },
  ping50: { unit: 'µs median', better: 'lower' },
};

interface Plan {
  readonly name: string;
  /** Of each service on the chain. */
  readonly functions: readonly string[];
  readonly instances: number;
  readonly sync: 'off' | 'async' | 'strict';
  readonly return: 'hub' | 'mesh';
}

const UNDERLAY_MTU = 1600;
const key = scratch('mesh.key');
writeFileSync(key, 'a key of the benchmark alone');

/** client ── in0 [dut] out0 ── server; each instance a host of its own at a switch. */
function topologyOf({ functions, instances }: Plan): Topology {
  const hosts = functions.flatMap((_, s) => Array.from({ length: instances }, (_, i) => `i${s}${i}`));
  const topology = new Topology('client', 'dut', 'server', 'switch', ...hosts);
  topology.wire('client', 'eth0', 'dut', 'in0');
  topology.wire('dut', 'out0', 'server', 'eth0');
  topology.address('client', 'eth0', '10.1.0.2/24');
  topology.address('server', 'eth0', `${SERVER}/24`);
  topology.ip('switch', 'link', 'add', 'br0', 'mtu', String(UNDERLAY_MTU), 'type', 'bridge', 'mcast_snooping', '0');
  topology.ip('switch', 'link', 'set', 'br0', 'up');
  ['dut', ...hosts].forEach((host, port) => {
    topology.wire(host, host === 'dut' ? 'und0' : 'eth0', 'switch', `p${port}`, UNDERLAY_MTU);
    topology.ip('switch', 'link', 'set', `p${port}`, 'master', 'br0');
    topology.address(host, host === 'dut' ? 'und0' : 'eth0', `10.20.0.${port + 1}/24`);
  });
  return topology;
}

function contender(plan: Plan): Contender {
  const topology = topologyOf(plan);
  const { functions, instances, sync } = plan;
  const address = (s: number, i: number): string => `10.20.0.${2 + s * instances + i}`;
  const [file, socket] = [scratch(`${plan.name.replaceAll(/[^a-z0-9]+/gi, '-')}.yaml`), scratch(`${plan.name.replaceAll(/[^a-z0-9]+/gi, '-')}.sock`)];
  writeFileSync(file, [
    'underlay: {interface: und0}',
    'captures: [{name: bench, in: in0, out: out0}]',
    'services:',
    ...functions.map((_, s) => `  s${s}: {sync: ${sync}, instances: [${Array.from({ length: instances }, (_, i) => `{name: i${i}, address: ${address(s, i)}}`).join(', ')}]}`),
    `chains: {bench: {services: [${functions.map((_, s) => `s${s}`).join(', ')}], return: ${plan.return}}}`,
    'policies: [{name: all, match: {}, chain: bench}]',
    `mesh: {key: {file: ${key}}, lease: 5s}`,
    'workers: 1',
    `control: {socket: ${socket}}`,
    `state_dir: ${scratch(`state-${plan.name.replaceAll(/[^a-z0-9]+/gi, '-')}`)}`,
  ].join('\n'));
  const start = async (): Promise<Running[]> => {
    const nodes = await Promise.all(functions.flatMap((name, s) => Array.from({ length: instances }, (_, i) => new Running(topology.inside(`i${s}${i}`, weirCommand(weir, 'node', '--service', `s${s}`, '--name', `i${i}`, '--listen', address(s, i), '--function', name, '--mesh', '10.20.0.1', '--mesh-key', key))).ready(READY))));
    const forwarder = await new Running(topology.inside('dut', weirCommand(weir, 'run', '--fresh-flows', '--force-config', '--config', file))).ready(READY, 60_000);
    const programs = [forwarder, ...nodes];
    const ask = weirCommand(weir, 'mesh', '--json', '--socket', socket);
    const wanted = plan.return === 'mesh' || sync !== 'off';
    await until(`${plan.name} to have its members`, () => {
      if (!wanted) return true;
      const { paths } = JSON.parse(execFileSync(ask[0] ?? '', ask.slice(1), { encoding: 'utf8' })) as { paths: { current: boolean; members: Record<string, string[]> }[] };
      return paths.some(({ current, members }) => current && Object.values(members).every((list) => list.length === instances));
    });
    return programs;
  };
  return {
    name: plan.name,
    run: async (): Promise<Figures> => {
      const programs = await start();
      try {
        programs.push(await new Running(topology.inside('server', ['iperf3', '-s', '--forceflush'])).ready(/Server listening/));
        programs.push(await new Running(topology.inside('server', bare('responder', FIRST_PORT, PORTS, 0))).ready(/ready/));
        await until(`${plan.name} to carry a ping`, () => run(topology.inside('client', ['ping', '-q', '-c', '1', '-W', '1', SERVER])).then(() => true, () => false));
        const { end } = JSON.parse(await run(topology.inside('client', ['iperf3', '-c', SERVER, '-J', '-O', '1', '-t', String(seconds)]))) as { end: { sum_received: { bits_per_second: number } } };
        const requests = countsOf(await run(topology.inside('client', bare('requester', 'latency', SERVER, FIRST_PORT, seconds))));
        const printed = await run(topology.inside('client', ['ping', '-c', '100', '-i', '0.01', SERVER]));
        const micros = [...printed.matchAll(/time=([0-9.]+) ms/g)].map(([, ms]) => Number(ms) * 1000);
        return { goodput: end.sum_received.bits_per_second / 1e9, tcp50: requests['p50_us'] ?? NaN, tcp99: requests['p99_us'] ?? NaN, ping50: quantile(micros, 0.5) };
      } finally {
        for (const program of programs.reverse()) await program.stop();
      }
    },
  };
}

if (bench.wanted('sync')) {
  await bench.run({
    name: 'sync',
    title: 'One hop through `meter`, two instances: the state of each stream kept once or twice',
    metrics: METRICS,
    contenders: (['off', 'async', 'strict'] as const).map((sync) => contender({ name: `sync ${sync}`, functions: ['meter'], instances: 2, sync, return: 'hub' })),
    claims: [
      { title: 'async: throughput, of off', metric: 'goodput', of: 'sync async', against: 'sync off', target: null },
      { title: 'strict: throughput, of off', metric: 'goodput', of: 'sync strict', against: 'sync off', target: null },
      { title: 'strict: speed of a TCP request there and back, of off', metric: 'tcp50', of: 'sync strict', against: 'sync off', target: null },
    ],
    notes: ['Client, server, weir and both instances share the cores of this machine; on machines of their own the second copy costs the second instance, not the first.'],
  });
}
if (bench.wanted('chain')) {
  await bench.run({
    name: 'chain',
    title: 'A chain of three `pass`: each instance back to weir, or on to the next one',
    metrics: METRICS,
    contenders: (['hub', 'mesh'] as const).map((way) => contender({ name: way, functions: ['pass', 'pass', 'pass'], instances: 1, sync: 'off', return: way })),
    claims: [
      { title: 'mesh: throughput, times hub', metric: 'goodput', of: 'mesh', against: 'hub', target: null },
      { title: 'mesh: a TCP request there and back, times less than hub', metric: 'tcp50', of: 'mesh', against: 'hub', target: null },
    ],
  });
}
bench.finish();
process.exit(); // programs that only keep namespaces open need not be waited for
