/** A lab with a mesh chain A > B > C: three hosts of three instances each, so that each hands on over the wire. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MeshView } from '../../src/control/mesh-methods.js';
import { ROOT, until, type Lab, type Running } from './lab.js';

const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
const STREAMS = join(ROOT, 'test/support/tcp_streams.py');

export const HOSTS = { a: 'fw1', b: 'fw2', c: 'ids1' } as const;
export type ServiceName = keyof typeof HOSTS;
const FIRST: Readonly<Record<ServiceName, number>> = { a: 100, b: 110, c: 120 };

export const MESH_KEY = 'a key that nobody else in the lab has';

export const addressOf = (service: ServiceName, i: number): string => `10.20.0.${FIRST[service] + i}`;

export interface MeshPlan {
  readonly functions: Readonly<Record<ServiceName, string>>;
  readonly sync: Readonly<Record<ServiceName, 'off' | 'async' | 'strict'>>;
  readonly settings?: Readonly<Partial<Record<ServiceName, unknown>>>;
  /** `health:` of each service. */
  readonly health: string;
  readonly lease?: string;
  readonly chain?: readonly ServiceName[];
  /** Of the chain; its policy is then of streams that the workload opens. */
  readonly exit?: 'direct';
  readonly return?: 'hub' | 'mesh';
  /** Of each service; 3 unless told. */
  readonly instances?: number;
}

export class MeshLab {
  readonly nodes = new Map<string, Running>();
  weir!: Running;
  readonly #key: string;

  constructor(
    readonly lab: Lab,
    readonly plan: MeshPlan,
  ) {
    this.#key = join(lab.directory, 'mesh.key');
    writeFileSync(this.#key, MESH_KEY);
  }

  get chain(): readonly ServiceName[] {
    return this.plan.chain ?? ['a', 'b', 'c'];
  }

  get count(): number {
    return this.plan.instances ?? 3;
  }

  /** Nodes and weir; fulfilled when each of them has the map. */
  async start(): Promise<void> {
    for (const service of this.chain) for (let i = 1; i <= this.count; i++) await this.lab.exec(HOSTS[service], 'ip', 'addr', 'add', `${addressOf(service, i)}/24`, 'dev', 'eth0');
    await Promise.all(this.chain.flatMap((service) => Array.from({ length: this.count }, (_, i) => this.startNode(service, i + 1))));
    const file = join(this.lab.directory, 'mesh.yaml');
    writeFileSync(file, this.#document());
    this.weir = await this.lab.start('fwd', [...WEIR, 'run', '--fresh-flows', '--force-config', '--config', file], /"msg":"ready"/);
    await this.complete();
  }

  /** Every instance is a member of the current path, and has the map. */
  async complete(timeoutMs = 60_000): Promise<void> {
    await until('every node to be a member', async () => {
      const view = await this.view();
      const members = view.paths.find(({ current }) => current)?.members ?? {};
      return this.chain.every((service) => members[service]?.length === this.count) && view.nodes.every(({ behind }) => !behind);
    }, timeoutMs);
  }

  #document(): string {
    const { plan, count, chain } = this;
    const instances = (service: ServiceName): string => Array.from({ length: count }, (_, i) => `{name: ${service}${i + 1}, address: ${addressOf(service, i + 1)}}`).join(', ');
    return [
      'underlay: {interface: und0}',
      'captures: [{name: web, in: in0, out: out0}]',
      'services:',
      ...chain.map((service) => `  ${service}: {sync: ${plan.sync[service]}, health: ${plan.health}, instances: [${instances(service)}]}`),
      `chains: {line: {services: [${chain.join(', ')}], return: ${plan.return ?? 'mesh'}${plan.exit === undefined ? '' : `, exit: ${plan.exit}`}}}`,
      `policies: [{name: all, match: {protocol: [tcp, udp]${plan.exit === undefined ? '' : ', direction: out'}}, chain: line}]`,
      `mesh: {key: {file: ${this.#key}}, lease: ${plan.lease ?? '3s'}}`,
      'workers: 1',
      `control: {socket: ${this.lab.socket}}`,
      `state_dir: ${join(this.lab.directory, 'state-mesh')}`,
    ].join('\n');
  }

  async startNode(service: ServiceName, i: number): Promise<void> {
    const { plan, lab } = this;
    const name = `${service}${i}`;
    const settings = plan.functions[service] === 'meter' ? { export: { directory: this.meterDirectory(name), format: 'json' } } : plan.settings?.[service];
    const more: string[] = [];
    if (settings !== undefined) {
      const file = join(lab.directory, `${name}.json`);
      writeFileSync(file, JSON.stringify(settings));
      more.push('--settings', file);
    }
    const node = await lab.start(HOSTS[service], [...WEIR, 'node', '--service', service, '--name', name, '--listen', addressOf(service, i), '--interface', 'eth0', '--function', plan.functions[service], '--mesh', '10.20.0.1', '--mesh-key', this.#key, ...more], /"msg":"ready"/);
    this.nodes.set(name, node);
  }

  meterDirectory(name: string): string {
    return join(this.lab.directory, `meter-${name}`);
  }

  view(): Promise<MeshView> {
    return this.lab.ask<MeshView>('mesh');
  }

  /** What a meter has counted by now, by the stream's source port. */
  async metered(name: string): Promise<Map<number, number>> {
    const node = this.nodes.get(name);
    const file = join(this.meterDirectory(name), 'meter.json');
    const before = node?.output().split('"msg":"status"').length ?? 0;
    const read = (): string => {
      try {
        return readFileSync(file, 'utf8');
      } catch {
        return '';
      }
    };
    const old = read();
    node?.child.kill('SIGUSR2');
    await until(`${name} to write its accounts`, () => (node?.output().split('"msg":"status"').length ?? 0) > before && read() !== old);
    const { streams } = JSON.parse(read()) as { streams: { source_port: number; packets: number; answer_packets: number; end: string }[] };
    return new Map(streams.filter(({ end }) => end === '').map((row) => [row.source_port, row.packets + row.answer_packets]));
  }

  /** The same of a service: what the instance that knows most of a stream has counted. */
  async counted(service: ServiceName): Promise<Map<number, number>> {
    const counted = new Map<number, number>();
    for (let i = 1; i <= this.count; i++) for (const [port, packets] of await this.metered(`${service}${i}`)) counted.set(port, Math.max(counted.get(port) ?? 0, packets));
    return counted;
  }

  /** The same when nothing is under way any more: for when nobody sends. */
  async settled(service: ServiceName): Promise<Map<number, number>> {
    let now = await this.counted(service);
    await until('the last packets to be counted', async () => {
      const before = now;
      now = await this.counted(service);
      return before.size === now.size && [...now].every(([port, packets]) => before.get(port) === packets);
    });
    return now;
  }

  /** Instances that streams are with, as weir pins them: by source port. */
  async pins(): Promise<Map<number, readonly string[]>> {
    const { flows } = await this.lab.ask<{ flows: { sourcePort: number; destinationPort: number; instances: (string | null)[] }[] }>('flows', { limit: 5000 });
    return new Map(flows.map(({ sourcePort, instances }) => [sourcePort, instances.map((key) => key ?? '')]));
  }

  async stop(): Promise<void> {
    await this.weir.stop();
    await Promise.all([...this.nodes.values()].map((node) => node.stop('SIGKILL')));
  }
}

export interface TalkState {
  readonly streams: readonly number[];
  readonly reset: readonly (readonly [stream: number, why: string])[];
  readonly wrong: number;
}

/** Who talks to whom. */
export interface TalkPlaces {
  readonly client: string;
  readonly server: string;
  readonly address: string;
}

/** TCP connections across the chain, from the workload to the destination. */
export class Talkers {
  private constructor(
    private readonly server: Running,
    private readonly client: Running,
    private readonly say: () => void,
  ) {}

  static async start(lab: Lab, streams: number, perSecond: number, port = 9000, { client: from, server: to, address }: TalkPlaces = { client: 'wl', server: 'net', address: '10.2.0.2' }): Promise<Talkers> {
    const server = await lab.start(to, ['python3', STREAMS, 'serve', address, String(port)], /ready/);
    const pipe = join(lab.directory, `ask-${port}`);
    await lab.must(from, 'mkfifo', pipe);
    // Held open for writing by the shell, so that it does not end with the first question.
    const client = await lab.start(from, ['bash', '-c', `exec 3<>${pipe}; exec python3 ${STREAMS} talk ${address} ${port} ${streams} ${perSecond} <&3`], /ready/);
    return new Talkers(server, client, () => writeFileSync(pipe, '\n'));
  }

  async state(): Promise<TalkState> {
    const before = this.client.output().split('\n').length;
    this.say();
    let line = '';
    await until('the talkers to answer', () => {
      const lines = this.client.output().split('\n');
      line = lines.at(-2) ?? '';
      return lines.length > before && line.startsWith('{');
    });
    return JSON.parse(line) as TalkState;
  }

  /** Every connection has got `lines` more answers since then, or has been lost. */
  async advance(since: TalkState, lines: number): Promise<TalkState> {
    let now = since;
    await until('every connection to go on', async () => {
      now = await this.state();
      const lost = new Set(now.reset.map(([stream]) => stream));
      return now.streams.every((count, i) => lost.has(i) || count >= (since.streams[i] ?? 0) + lines);
    }, 60_000);
    return now;
  }

  async stop(): Promise<void> {
    this.client.child.kill('SIGCONT');
    await this.client.stop();
    await this.server.stop();
  }

  /** Nobody says any more, but no connection ends: what instances know of each is still there. */
  pause(): void {
    this.client.child.kill('SIGSTOP');
  }
}
