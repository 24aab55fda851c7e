/** A group with a primary node in the lab: three nodes, their weir, and which of them serves which stream, by captures at each. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Lab, ROOT, until, type Running } from './lab.js';
import { arrivals, replies, type Arrival } from './stamped-capture.js';

/** `wire`: the switch's end of the member's cable. What a member sends, its own host's tcpdump does not see. */
export const MEMBERS = { 'fw-1': { host: 'fw1', wire: 'p2', address: '10.20.0.11' }, 'fw-2': { host: 'fw2', wire: 'p3', address: '10.20.0.12' }, 'fw-3': { host: 'add1', wire: 'p5', address: '10.20.0.31' } } as const;
export type MemberName = keyof typeof MEMBERS;
export const NAMES = Object.keys(MEMBERS) as MemberName[];
const FORWARDER = '10.20.0.1';

interface Service {
  readonly name: string;
  readonly group: { readonly primary: string | null; readonly told: boolean; readonly chosen: number; readonly shares: Record<string, number> | null } | null;
  readonly instances: readonly { readonly name: string; readonly state: string; readonly streams: number }[];
}

export class Group {
  readonly nodes = new Map<MemberName, Running>();
  private constructor(
    readonly lab: Lab,
    readonly weir: Running,
    private readonly key: string,
  ) {}

  static async up(lab: Lab, { encapsulation = 'nsh', health = '{probe: true, interval: 100ms}', balancer = 'primary' }: { readonly encapsulation?: 'nsh' | 'geneve'; readonly health?: string; readonly balancer?: 'primary' | 'primary_shares' } = {}): Promise<Group> {
    const key = join(lab.directory, 'group.key');
    writeFileSync(key, randomBytes(32), { mode: 0o600 });
    const file = join(lab.directory, 'group.yaml');
    const instances = NAMES.map((name) => `{name: ${name}, address: ${MEMBERS[name].address}}`).join(', ');
    writeFileSync(
      file,
      `underlay: {interface: und0}
captures: [{name: web, in: in0, out: out0}]
services: {firewall: {balancer: ${balancer}, health: ${health}, instances: [${instances}]}}
chains: {inspect: {services: [firewall], encapsulation: ${encapsulation}}}
policies: [{name: all, match: {protocol: [udp, tcp]}, chain: inspect}]
load: {key: {file: ${key}}}
workers: 1
control: {socket: ${lab.socket}}
state_dir: ${join(lab.directory, 'group-state')}
`,
    );
    const weir = await lab.start('fwd', [process.execPath, join(ROOT, 'dist/cli/main.js'), 'run', '--force-config', '--fresh-flows', '--config', file], /"msg":"ready"/);
    const group = new Group(lab, weir, key);
    await Promise.all(NAMES.map((name) => group.start(name)));
    await until('all to be up and the first to know that it is the primary', async () => {
      const { group: is, instances: all } = await group.service();
      return is?.primary === 'fw-1' && is.told && all.every(({ state }) => state === 'up') && Object.keys(is.shares ?? {}).length === NAMES.length;
    });
    return group;
  }

  async start(name: MemberName): Promise<void> {
    const { host, address } = MEMBERS[name];
    const words = ['node', '--service', 'firewall', '--name', name, '--listen', address, '--function', 'pass', '--report', FORWARDER, '--report-key', this.key, '--group'];
    this.nodes.set(name, await this.lab.start(host, [process.execPath, join(ROOT, 'dist/cli/main.js'), ...words], /"msg":"ready"/));
  }

  async service(): Promise<Service> {
    return (await this.lab.ask<Service[]>('services')).find(({ name }) => name === 'firewall') as Service;
  }

  async kill(name: MemberName): Promise<void> {
    this.nodes.get(name)?.child.kill('SIGKILL');
    await until(`${name} to be down`, async () => (await this.service()).instances.find((one) => one.name === name)?.state === 'down');
  }

  /** What goes to each member and comes from it from now on, until the function that it returns is called. */
  async watch(): Promise<() => Promise<Seen>> {
    const captures = await Promise.all(NAMES.map(async (name) => ({ name, ...(await this.#capture(name)) })));
    return async () => {
      const came: Arrival[] = [];
      const served = new Map<string, Set<MemberName>>();
      for (const { name, stop } of captures) {
        const file = await stop();
        const { address } = MEMBERS[name];
        came.push(...arrivals(file, name, address));
        // What a primary sends to another member it has directed, and what goes on under another's address it has handed back.
        const others = new Set(NAMES.filter((other) => other !== name).map((other) => MEMBERS[other].address as string));
        const directed = new Set(arrivals(file, name, address).filter(({ from }) => !others.has(from)).map(({ packet }) => packet));
        for (const { stream, to, packet } of replies(file, name, address)) {
          if (others.has(to) && directed.has(packet)) continue;
          served.set(stream, (served.get(stream) ?? new Set<MemberName>()).add(name));
        }
      }
      return { came: came.sort((a, b) => a.timeUs - b.timeUs), served };
    };
  }

  /** Traffic goes on while it ends, so there is no moment at which all has been written: what is claimed holds for any part of it. */
  async #capture(name: MemberName): Promise<{ readonly stop: () => Promise<string> }> {
    const file = join(this.lab.directory, `${name}-${Date.now()}.pcap`);
    const tcpdump = await this.lab.start('sw', ['tcpdump', '-Z', 'root', '-i', MEMBERS[name].wire, '-s', '256', '-B', '16384', '--immediate-mode', '-U', '-w', file, 'udp port 4790 or udp port 6081'], /listening on/);
    return {
      stop: async () => {
        const { stderr } = await tcpdump.stop('SIGINT');
        const dropped = Number(/(\d+) packets? dropped by kernel/.exec(stderr)?.[1] ?? NaN);
        if (dropped !== 0) throw new Error(`tcpdump lost ${dropped} packets of ${name}: ${stderr}`);
        return file;
      },
    };
  }

  async down(): Promise<void> {
    await Promise.all([...this.nodes.values()].map((node) => node.stop('SIGKILL')));
    await this.weir.stop();
  }
}

export interface Seen {
  /** Arrivals at members, in order of time. */
  readonly came: readonly Arrival[];
  /** By stream: who turned its packets round. */
  readonly served: ReadonlyMap<string, ReadonlySet<MemberName>>;
}

/** Of streams with these source ports: by stream, the one that served it; streams that several did are in `several`. */
export function servers({ served }: Seen, first: number, count: number): { readonly of: ReadonlyMap<string, MemberName>; readonly several: readonly string[] } {
  const of = new Map<string, MemberName>();
  const several: string[] = [];
  for (const [stream, members] of served) {
    const ports = [...stream.matchAll(/:(\d+)/g)].map(([, port]) => Number(port));
    if (!ports.some((port) => port >= first && port < first + count)) continue;
    const [one] = members;
    if (members.size === 1 && one !== undefined) of.set(stream, one);
    else several.push(`${stream}: ${[...members].join(', ')}`);
  }
  return { of, several };
}
