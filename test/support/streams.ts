/** What tests of streams that outlive their weir share: traffic that counts itself, captures at every instance, and who was where. */
import { readdirSync } from 'node:fs';
import { Lab, ROOT, SERVICES, run, until, type Running, type ServiceHost } from './lab.js';
import type { PathInfo } from './proof.js';
import { arrivals, type Arrival } from './stamped-capture.js';

export const HOSTS = Object.keys(SERVICES) as ServiceHost[];
export const STREAMS = 60;
const RATE = 1000;

export const serviceOf = (host: string): string => SERVICES[host as ServiceHost].service;

export interface Counted {
  readonly sent: number;
  readonly received: number;
  readonly twice: number;
  readonly disorder: number;
  /** Numbers of the first datagrams of each hole. */
  readonly holes: readonly number[];
}

export interface Captures {
  readonly stop: () => Promise<Arrival[]>;
}

export const seconds = (running: Running): number => [...running.output().matchAll(/\d+\.\d\d-\s*(\d+)\.\d\d +sec/g)].reduce((most, [, s]) => Math.max(most, Number(s)), 0);

/** By stream: where it was, and on which path. */
export function routes(seen: readonly Arrival[], of: (stream: string) => boolean): Map<string, string> {
  const found = new Map<string, Set<string>>();
  for (const { stream, host, spi } of seen) {
    if (!of(stream)) continue;
    const set = found.get(stream) ?? new Set();
    found.set(stream, set.add(`${host} on path ${spi >> 1}`));
  }
  return new Map([...found].sort().map(([stream, places]) => [stream, [...places].sort().join(', ')]));
}

/** Datagram streams of these source ports, and TCP to iperf3. */
export const ofPorts = (first: number) => (stream: string): boolean => {
  const ports = [...stream.matchAll(/:(\d+)/g)].map(([, port]) => Number(port));
  return stream.startsWith('17 ') ? ports.some((port) => port >= first && port < first + STREAMS) : ports.includes(5300);
};

export class Streams {
  constructor(readonly lab: Lab) {}

  /** Numbered datagrams of 60 streams, from the first source port on. */
  async datagrams(port: number, first: number): Promise<{ readonly stop: () => Promise<Counted> }> {
    const script = ['python3', `${ROOT}/test/support/udp-streams.py`];
    const receiver = await this.lab.start('net', [...script, 'receive', String(port)], /ready/);
    const sender = await this.lab.start('wl', [...script, 'send', '10.2.0.2', String(port), String(first), String(STREAMS), String(RATE)], /ready/);
    await until('every stream to be live', async () => (await this.codes(first)).size === STREAMS);
    const counts = async (running: Running): Promise<Counted> => JSON.parse((await running.stop()).stdout.trim().split('\n').at(-1) ?? '') as Counted;
    return {
      stop: async () => {
        const sent = await counts(sender);
        return { ...(await counts(receiver)), sent: sent.sent };
      },
    };
  }

  /** Affinity codes by source port of the live datagram streams from this port on. */
  async codes(first: number): Promise<Map<number, number>> {
    const { flows } = await this.lab.ask<{ flows: { sourcePort: number; code: number }[] }>('flows', { protocol: 'udp', limit: 10_000 });
    return new Map(flows.filter(({ sourcePort }) => sourcePort >= first && sourcePort < first + STREAMS).map(({ sourcePort, code }) => [sourcePort, code]));
  }

  /** A TCP stream for as long as it takes: its end is an error when it was reset. */
  async bulk(): Promise<{ readonly stop: () => Promise<void>; readonly running: Running }> {
    const server = await this.lab.start('net', ['iperf3', '-s', '-1', '-p', '5300', '--forceflush'], /Server listening/);
    const running = await this.lab.start('wl', ['iperf3', '-c', '10.2.0.2', '-p', '5300', '-t', '200', '-b', '20M', '-i', '1', '--forceflush'], / 0\.00-[\d.]+ +sec/);
    const stop = async (): Promise<void> => {
      if (running.child.exitCode !== null) throw new Error(`iperf3 ended: ${running.output().slice(-500)}`);
      // As Ctrl-C does: the client tells the server, which answers with its results on the same connections.
      const { stdout, stderr } = await running.stop('SIGINT');
      await server.ended;
      const problems = stderr.replace('iperf3: interrupt - the client has terminated', '');
      if (/reset|broken pipe|error/i.test(problems)) throw new Error(`iperf3: ${stderr}${stdout.slice(-500)}`);
    };
    return { running, stop };
  }

  async captureAll(): Promise<Captures> {
    const captures = await Promise.all(HOSTS.map(async (host) => ({ host, ...(await this.lab.capture(host)) })));
    return { stop: async () => (await Promise.all(captures.map(async ({ host, stop }) => arrivals(await stop(), host, SERVICES[host].address)))).flat() };
  }

  async paths(): Promise<PathInfo[]> {
    return (await this.lab.ask<{ paths: PathInfo[] }[]>('chains')).flatMap((chain) => chain.paths);
  }

  /** Frames that the kernel has taken in at the two sides of the capture. */
  async arrived(): Promise<number[]> {
    return Promise.all(['in0', 'out0'].map(async (name) => Number(await this.lab.must('fwd', 'cat', `/sys/class/net/${name}/statistics/rx_packets`))));
  }

  /** Of them: those that weir had in its rings, or found no room for there (it had no time, with or without a takeover). */
  async taken(handedOver: readonly Running[] = []): Promise<number[]> {
    type Ports = readonly { readonly interface: string; readonly rxFrames: number; readonly rxDropped: number }[];
    const before = handedOver.map((weir) => (JSON.parse(weir.output().split('\n').find((line) => line.includes('"handed over to')) ?? '{}') as { ports: Ports }).ports);
    const { ports } = await this.lab.ask<{ ports: Ports }>('stats');
    return ['in0', 'out0'].map((name) => [...before.flat(), ...ports].filter((port) => port.interface === name).reduce((sum, { rxFrames, rxDropped }) => sum + rxFrames + rxDropped, 0));
  }

  /** Waits until weir has captured so many more packets. */
  async more(packets: number): Promise<void> {
    const count = async (): Promise<number> => (await this.lab.ask<{ captured: { packets: number } }>('stats')).captured.packets;
    const before = await count();
    await until(`${packets} packets`, async () => (await count()) > before + packets);
  }

  /** Instances come and a service is inserted: by hash and by chain most streams would be elsewhere now. */
  async changeUnderneath(): Promise<void> {
    const must = async (...words: string[]): Promise<void> => {
      const { code, stderr } = await this.lab.ctl(...words);
      if (code !== 0) throw new Error(`${words.join(' ')}: ${stderr}`);
    };
    await must('instance', 'add', 'firewall/fw-2', '10.20.0.12');
    await must('instance', 'add', 'ids/ids-2', '10.21.0.22');
    await must('chain', 'insert', 'inspect', 'added', '--after', 'firewall', '--existing', 'keep');
  }

  /** Lets programs go before all else, as far as there is a choice: what the kernel throws away while others run would count as lost. */
  static async first(programs: readonly Running[]): Promise<void> {
    for (const { child } of programs) for (const task of readdirSync(`/proc/${child.pid}/task`)) await run(['renice', '-n', '-19', '-p', task]);
  }

  /** A weir with one instance of each service in the chain, and how to start another on the same state. */
  async beginWithOne(): Promise<{ weir: Running; again: (...args: string[]) => Promise<Running> }> {
    const file = this.lab.config();
    const again = (...args: string[]): Promise<Running> => this.lab.start('fwd', ['nice', '-n', '-19', process.execPath, `${ROOT}/dist/cli/main.js`, 'run', '--config', file, ...args], /"msg":"ready"/);
    const weir = await again('--force-config', '--fresh-flows');
    for (const instance of ['firewall/fw-2', 'ids/ids-2']) {
      const { code, stderr } = await this.lab.ctl('instance', 'remove', instance);
      if (code !== 0) throw new Error(stderr);
    }
    return { weir, again };
  }
}
