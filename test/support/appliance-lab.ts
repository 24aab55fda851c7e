/**
 * An appliance in the lab: hosts `cl` and `sv` that talk through dispatchers d1, d2, d3, each packet through one of them at random; units n1, n2, … and
 * managers m1, m2 beside them on the lab's underlay. All of them real processes in namespaces of their own.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ControlClient } from '../../src/control/client.js';
import type { StatusAnswer } from '../../src/control/appliance-methods.js';
import { must, ROOT, run, until, type Finished, type Lab, type Running } from './lab.js';

const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
const SPREADER = join(ROOT, 'test/support/spreader.py');
const DISPATCHERS = [1, 2, 3];

export const SERVER = '10.9.0.1';
/** For Talkers. */
export const ACROSS = { client: 'cl', server: 'sv', address: SERVER };
export const unitAddress = (i: number): string => `10.20.0.${100 + i}`;
const dispatcherAddress = (i: number): string => `10.20.0.${50 + i}`;
const managerAddress = (i: number): string => `10.20.0.${60 + i}`;

export interface AppliancePlan {
  readonly units: number;
  readonly managers?: number;
  readonly function?: string;
  readonly settings?: object;
  /** Keys of `layout:`. */
  readonly layout: Readonly<Record<string, unknown>>;
  readonly encapsulation?: 'nsh' | 'geneve';
  /** More keys of the dispatchers' underlay. */
  readonly underlay?: string;
  /** Of the spreaders. */
  readonly probeMs?: number;
}

export class ApplianceLab {
  readonly units = new Map<number, Running>();
  readonly dispatchers = new Map<number, Running>();
  readonly managers = new Map<number, Running>();
  readonly spreaders: Running[] = [];
  readonly directory: string;
  readonly #key: string;

  constructor(
    readonly lab: Lab,
    readonly plan: AppliancePlan,
  ) {
    this.directory = mkdtempSync(join(lab.directory, 'appliance-'));
    this.#key = join(this.directory, 'appliance.key');
    writeFileSync(this.#key, randomBytes(32), { mode: 0o600 });
    writeFileSync(join(this.directory, 'affinity.key'), randomBytes(16), { mode: 0o600 });
  }

  /** Hosts and wires, and what spreads packets over the dispatchers. */
  async build(): Promise<void> {
    const { prefix } = this.lab;
    const hosts = ['cl', 'sv', ...DISPATCHERS.map((i) => `d${i}`), ...this.#numbers('units').map((i) => `n${i}`), ...this.#numbers('managers').map((i) => `m${i}`)];
    const underlay = (host: string, device: string, address: string): string =>
      `ip link add ${device} netns ${prefix}-${host} type veth peer name ${host} netns ${prefix}-sw; ip -n ${prefix}-sw link set ${host} master br0 up; ip -n ${prefix}-${host} addr add ${address}/24 dev ${device}; ip -n ${prefix}-${host} link set ${device} up`;
    const side = (host: string, own: string, address: string, device: string): string[] => [
      // Or the host would answer for its address on the wires to the dispatchers, too.
      `ip netns exec ${prefix}-${host} sysctl -qw net.ipv4.conf.all.arp_ignore=1`,
      `ip -n ${prefix}-${host} link add ${own}0 type veth peer name ${own}1`,
      // Frames as they are on a wire: a packet socket that sends on what it reads has no offloads to tell of.
      ...[`${own}0`, `${own}1`].map((end) => `ip netns exec ${prefix}-${host} ethtool -K ${end} tx off tso off gso off gro off >/dev/null`),
      `ip -n ${prefix}-${host} addr add ${address}/24 dev ${own}0`,
      `for end in ${own}0 ${own}1; do ip netns exec ${prefix}-${host} sysctl -qw net.ipv6.conf.$end.disable_ipv6=1; ip -n ${prefix}-${host} link set $end up; done`,
      ...DISPATCHERS.flatMap((i) => [
        `ip link add ${own}p${i} netns ${prefix}-${host} type veth peer name ${device} netns ${prefix}-d${i}`,
        `for of in ${host}:${own}p${i} d${i}:${device}; do ip netns exec ${prefix}-\${of%:*} sysctl -qw net.ipv6.conf.\${of#*:}.disable_ipv6=1; ip -n ${prefix}-\${of%:*} link set \${of#*:} up; done`,
      ]),
    ];
    await must(['bash', '-euc', [
      ...hosts.map((host) => `ip netns add ${prefix}-${host}; ip -n ${prefix}-${host} link set lo up`),
      ...DISPATCHERS.map((i) => underlay(`d${i}`, 'und0', dispatcherAddress(i))),
      ...this.#numbers('units').map((i) => underlay(`n${i}`, 'eth0', unitAddress(i))),
      ...this.#numbers('managers').map((i) => underlay(`m${i}`, 'eth0', managerAddress(i))),
      ...side('cl', 'c', '10.9.0.2', 'in0'),
      ...side('sv', 's', SERVER, 'out0'),
    ].join('\n')]);
    const probe = this.plan.probeMs === undefined ? [] : ['--probe', String(this.plan.probeMs)];
    for (const [host, own] of [['cl', 'c'], ['sv', 's']] as const) this.spreaders.push(await this.lab.start(host, ['python3', SPREADER, ...probe, `${own}1`, ...DISPATCHERS.map((i) => `${own}p${i}`)], /ready/));
  }

  #numbers(kind: 'units' | 'managers'): number[] {
    return Array.from({ length: kind === 'units' ? this.plan.units : (this.plan.managers ?? 1) }, (_, i) => i + 1);
  }

  /** Managers, dispatchers and the first units, and the document; fulfilled when these serve. */
  async start(units: number): Promise<void> {
    await this.build();
    for (const i of this.#numbers('managers')) await this.startManager(i);
    await this.apply();
    await Promise.all([...DISPATCHERS.map((i) => this.startDispatcher(i)), this.startUnits(1, units)]);
    await this.settled(units);
  }

  document(layout: object = {}): string {
    const units = this.#numbers('units').map((i) => ({ name: `u-${i}`, address: unitAddress(i), host: `h-${(i - 1) % 4}`, settings: { ...(this.plan.function === 'meter' ? { export: { directory: this.#exports(i), format: 'json' } } : {}) } }));
    return JSON.stringify({
      appliance: {
        name: 'edge',
        service: 'inspect',
        function: this.plan.function ?? 'pass',
        ...(this.plan.settings === undefined ? {} : { settings: this.plan.settings }),
        managers: this.#numbers('managers').map((i) => ({ name: `m-${i}`, address: managerAddress(i) })),
        dispatchers: DISPATCHERS.map((i) => ({ name: `d-${i}`, address: dispatcherAddress(i) })),
        units: this.plan.function === 'meter' ? units : units.map(({ settings: _, ...unit }) => unit),
        layout: { ...this.plan.layout, ...layout },
      },
    });
  }

  #exports(i: number): string {
    return join(this.directory, `unit-${i}`);
  }

  managerSocket(i = 1): string {
    return join(this.directory, `manager-${i}.sock`);
  }

  async startManager(i: number): Promise<void> {
    const state = join(this.directory, `manager-${i}`);
    const words = ['manager', '--name', `m-${i}`, '--listen', managerAddress(i), '--key', this.#key, '--state-dir', state, '--socket', this.managerSocket(i)];
    this.managers.set(i, await this.lab.start(`m${i}`, [...WEIR, ...words], /"msg":"ready"/));
  }

  /** What every member is started with. */
  get #words(): string[] {
    return ['--manager', ...this.#numbers('managers').map(managerAddress), '--manager-key', this.#key];
  }

  async startDispatcher(i: number, ...words: string[]): Promise<void> {
    const { directory } = this;
    const file = join(directory, `dispatcher-${i}.yaml`);
    // A file that is newer than the state of the last run would be what it begins with.
    if (!existsSync(file)) writeFileSync(file, [
      `underlay: {interface: und0${this.plan.underlay === undefined ? '' : `, ${this.plan.underlay}`}}`,
      `captures: [{name: side-${i}, in: in0, out: out0}]`,
      'services: {inspect: {instances: [], fail: closed}}',
      `chains: {line: {services: [inspect], encapsulation: ${this.plan.encapsulation ?? 'nsh'}}}`,
      'policies: [{name: all, match: {protocol: [tcp, udp]}, chain: line}]',
      `affinity_key: {file: ${join(directory, 'affinity.key')}}`,
      'workers: 1',
      'flows: {max: 100000}',
      `control: {socket: ${this.dispatcherSocket(i)}}`,
      `state_dir: ${directory}-dispatcher-${i}`, // where the lab looks for what a weir leaves behind
    ].join('\n'));
    this.dispatchers.set(i, await this.lab.start(`d${i}`, [...WEIR, 'run', '--config', file, '--dispatcher', `d-${i}`, ...words, ...this.#words], /"msg":"ready"/));
  }

  dispatcherSocket(i: number): string {
    return join(this.directory, `dispatcher-${i}.sock`);
  }

  async startUnit(i: number): Promise<void> {
    mkdirSync(this.#exports(i), { recursive: true });
    const words = ['node', '--service', 'inspect', '--name', `u-${i}`, '--listen', unitAddress(i), ...this.#words];
    // A unit that is killed leaves the settings that it was told: where the lab is removed.
    this.units.set(i, await this.lab.start(`n${i}`, ['env', `TMPDIR=${this.directory}`, ...WEIR, ...words], /"msg":"ready"/));
  }

  async startUnits(from: number, to: number): Promise<void> {
    await Promise.all(Array.from({ length: to - from + 1 }, (_, n) => this.startUnit(from + n)));
  }

  /** `weir appliance`, at this manager. */
  toolAt(manager: number, ...args: string[]): Promise<Finished> {
    return run([...WEIR, 'appliance', ...args, '--socket', this.managerSocket(manager)]);
  }

  tool(...args: string[]): Promise<Finished> {
    return this.toolAt(1, ...args);
  }

  /** kill -9, and waits for its end. */
  async kill(kind: 'managers' | 'dispatchers' | 'units', i: number): Promise<void> {
    const victim = this[kind].get(i);
    victim?.child.kill('SIGKILL');
    await victim?.ended;
    this[kind].delete(i);
  }

  async apply(layout: object = {}): Promise<void> {
    const file = join(this.directory, 'appliance.yaml');
    writeFileSync(file, this.document(layout));
    // One of several managers waits a moment for others before it leads.
    let said = '';
    await until('the document to be taken', async () => {
      const { code, stderr } = await this.tool('apply', file);
      said = stderr;
      return code === 0 || !/lead/.test(said);
    });
    if (said !== '') throw new Error(said);
  }

  async ask<T>(socket: string, method: string, params: object = {}): Promise<T> {
    const client = await ControlClient.connect(socket);
    try {
      return await client.call<T>(method, params);
    } finally {
      client.close();
    }
  }

  status(manager = 1): Promise<StatusAnswer> {
    return this.ask<StatusAnswer>(this.managerSocket(manager), 'appliance.status');
  }

  /** So many units serve, every member has heard of it, and no change is under way. Units may still be leaving. */
  async settled(serving: number, manager = 1): Promise<StatusAnswer> {
    let last: StatusAnswer | undefined;
    try {
      await until(`${serving} units to serve`, async () => {
        last = await this.status(manager).catch(() => undefined);
        return last !== undefined && last.phase.startsWith('steady') && last.count.serving === serving && last.dispatchers.every(({ state }) => state === 'ready') && last.units.every(({ behind }) => !behind);
      }, 90_000);
    } catch (error) {
      throw new Error(`${(error as Error).message}: ${JSON.stringify(last)}`);
    }
    return last as StatusAnswer;
  }

  /** The streams that the unit's meter has seen, whichever direction first: `10.9.0.2:40000 9000`, the client's end and the server's port. */
  async metered(i: number): Promise<string[]> {
    const file = join(this.#exports(i), 'meter.json');
    const before = readOr(file);
    this.units.get(i)?.child.kill('SIGUSR2');
    await until(`unit ${i} to have written its account`, () => readOr(file) !== before);
    const { streams } = JSON.parse(readFileSync(file, 'utf8')) as { streams: { source: string; source_port: number; destination: string; destination_port: number }[] };
    return streams.map((row) => (row.source === SERVER ? `${row.destination}:${row.destination_port} ${row.source_port}` : `${row.source}:${row.source_port} ${row.destination_port}`));
  }

  async down(): Promise<void> {
    await Promise.all([...this.units.values(), ...this.dispatchers.values(), ...this.managers.values(), ...this.spreaders].map((running) => running.stop('SIGKILL')));
    const { prefix } = this.lab;
    const hosts = ['cl', 'sv', ...DISPATCHERS.map((i) => `d${i}`), ...this.#numbers('units').map((i) => `n${i}`), ...this.#numbers('managers').map((i) => `m${i}`)];
    await must(['bash', '-c', hosts.map((host) => `ip netns delete ${prefix}-${host}`).join('\n')]);
  }
}

function readOr(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
