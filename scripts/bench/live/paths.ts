/**
 * The ways a TCP stream can take from a client to a server: through weir, through a bare program, through a router or a
 * switch. Each has hosts of its own; its programs run only while it is measured.
 */
import type { Benchmark } from '../harness.js';
import { until } from '../harness.js';
import { OpenVSwitch, ovsInstalled } from '../ovs.js';
import { Topology } from '../topology.js';
import { startNode, startWeir, type WeirSetup } from '../weir.js';
import { Running, bare, run } from '../yardsticks.js';

export const SERVER = '10.1.0.3';
export const FIRST_PORT = 7000;
export const PORTS = 16;

interface Stoppable {
  stop(): Promise<unknown>;
}

export interface Path {
  readonly name: string;
  readonly topology: Topology;
  /** Starts what stands between client and server. */
  readonly start: () => Promise<Stoppable[]>;
}

const MTU = 1500;
/** Room for a stamp behind whole packets, so that every contender carries the same segments. */
const UNDERLAY_MTU = 1600;

function ends(...more: string[]): Topology {
  return new Topology('client', 'server', ...more);
}

/** client 10.1.0.2 and server 10.1.0.3 on one link, whatever stands in it. */
function addresses(topology: Topology): void {
  topology.address('client', 'eth0', '10.1.0.2/24');
  topology.address('server', 'eth0', `${SERVER}/24`);
}

const instance = (i: number): string => `10.20.0.${10 + i}`;

/** client ── in0 [dut] out0 ── server, und0 to the instances: a wire to one, a bridge to several. */
function hubTopology(instances: number): Topology {
  const topology = ends('dut', ...Array.from({ length: instances }, (_, i) => `i${i + 1}`));
  topology.wire('client', 'eth0', 'dut', 'in0', MTU);
  topology.wire('dut', 'out0', 'server', 'eth0', MTU);
  addresses(topology);
  if (instances === 1) {
    topology.wire('dut', 'und0', 'i1', 'eth0', UNDERLAY_MTU);
  } else {
    topology.host('switch');
    topology.ip('switch', 'link', 'add', 'br0', 'mtu', String(UNDERLAY_MTU), 'type', 'bridge', 'mcast_snooping', '0');
    topology.ip('switch', 'link', 'set', 'br0', 'up');
    topology.wire('dut', 'und0', 'switch', 'p0', UNDERLAY_MTU);
    for (let i = 1; i <= instances; i++) topology.wire(`i${i}`, 'eth0', 'switch', `p${i}`, UNDERLAY_MTU);
    for (let i = 0; i <= instances; i++) topology.ip('switch', 'link', 'set', `p${i}`, 'master', 'br0');
  }
  topology.address('dut', 'und0', '10.20.0.1/24');
  for (let i = 1; i <= instances; i++) topology.address(`i${i}`, 'eth0', `${instance(i)}/24`);
  return topology;
}

export function weirPath(bench: Benchmark, name: string, hops: number, more: Omit<WeirSetup, 'instances'> = {}): Path {
  const topology = hubTopology(hops);
  const { weir } = bench.options;
  const instances = Array.from({ length: hops }, (_, i) => instance(i + 1));
  return {
    name,
    topology,
    start: async () => {
      const nodes = await Promise.all(instances.map((address, i) => startNode(weir, (argv) => topology.inside(`i${i + 1}`, argv), i + 1, address)));
      return [await startWeir(weir, (argv) => topology.inside('dut', argv), { instances, ...more }), ...nodes];
    },
  };
}

/** weir in the way, with a policy that matches something else. */
export const crossingPath = (bench: Benchmark): Path =>
  weirPath(bench, 'weir, no policy matches', 1, { policies: ['{name: other, match: {protocol: udp, destination_port: 9}, chain: bench}'] });

export function hubPath(): Path {
  const topology = hubTopology(1);
  return {
    name: 'bare hub and echo',
    topology,
    start: async () => [
      await new Running(topology.inside('i1', bare('echo', 'eth0', 0))).ready(/ready/),
      await new Running(topology.inside('dut', bare('hub', 'in0', 'out0', 'und0', topology.macOf('i1', 'eth0'), 0))).ready(/ready/),
    ],
  };
}

export function bumpsPath(count: number): Path {
  const hosts = Array.from({ length: count }, (_, i) => `b${i + 1}`);
  const topology = ends(...hosts);
  const chain = ['client', ...hosts, 'server'];
  for (let i = 0; i + 1 < chain.length; i++) topology.wire(chain[i] ?? '', i === 0 ? 'eth0' : 'right', chain[i + 1] ?? '', i + 2 === chain.length ? 'eth0' : 'left', MTU);
  addresses(topology);
  return {
    name: count === 1 ? 'one bare bump' : `${count} bare bumps`,
    topology,
    start: () => Promise.all(hosts.map((host) => new Running(topology.inside(host, bare('bump', 'left', 'right', 0))).ready(/ready/))),
  };
}

/** Kernel routing: what the machine does without anybody in user space. */
export function routerPath(): Path {
  const topology = ends('router');
  topology.wire('client', 'eth0', 'router', 'left', MTU);
  topology.wire('router', 'right', 'server', 'eth0', MTU);
  topology.address('client', 'eth0', '10.2.0.2/24');
  topology.address('server', 'eth0', `${SERVER}/24`);
  topology.address('router', 'left', '10.2.0.1/24');
  topology.address('router', 'right', '10.1.0.1/24');
  topology.ip('client', 'route', 'add', 'default', 'via', '10.2.0.1');
  topology.ip('server', 'route', 'add', 'default', 'via', '10.1.0.1');
  topology.must('router', 'sysctl', '-qw', 'net.ipv4.ip_forward=1');
  return { name: 'kernel routing', topology, start: () => Promise.resolve([]) };
}

/** Open vSwitch in user space, one pass. Offloads are off all along, since it needs that. None where it is not installed. */
export function ovsPaths(): Path[] {
  if (!ovsInstalled()) return [];
  const topology = ends('dut');
  topology.wire('client', 'eth0', 'dut', 'in0', MTU);
  topology.wire('dut', 'out0', 'server', 'eth0', MTU);
  addresses(topology);
  for (const [host, device] of [['client', 'eth0'], ['dut', 'in0'], ['dut', 'out0'], ['server', 'eth0']] as const) topology.offloadsOff(host, device);
  return [{ name: 'Open vSwitch', topology, start: async () => [await OpenVSwitch.start(topology, 'dut', ['in0', 'out0'])] }];
}

/** Programs up, the way known to work, `measure` done, programs down. */
export async function onPath<T>({ name, topology, start }: Path, server: readonly string[] | null, ready: RegExp, measure: () => Promise<T>): Promise<T> {
  const programs = await start();
  try {
    if (server !== null) programs.push(await new Running(topology.inside('server', server)).ready(ready));
    await until(`${name} to carry a ping`, () => run(topology.inside('client', ['ping', '-q', '-c', '1', '-W', '1', SERVER])).then(() => true, () => false));
    return await measure();
  } finally {
    for (const program of programs.reverse()) await program.stop();
  }
}
