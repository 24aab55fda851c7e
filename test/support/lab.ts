/** Drives scripts/lab: hosts as namespaces, programs in them, captures of what they see. Everything started here is ended here. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ControlClient } from '../../src/control/client.js';
import { flowFilePrefix } from '../../src/dataplane/flow-table.js';

export const ROOT = resolve(fileURLToPath(new URL('../..', import.meta.url)));
const LAB = join(ROOT, 'scripts/lab');
const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];

/** tcpdump reads a block that is not full after a second; longer than that, and on a busy machine, its distance is no backlog. */
const SETTLED_MS = 5000;
/** Six Node processes at once on a machine that has other things to do take their time. */
const START_MS = 180_000;

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly output: () => string;
  /** Sends the signal (default SIGTERM) and waits for the end. */
  readonly stop: (signal?: NodeJS.Signals) => Promise<Finished>;
  readonly ended: Promise<Finished>;
}

export const SERVICES = {
  fw1: { service: 'firewall', name: 'fw-1', address: '10.20.0.11' },
  fw2: { service: 'firewall', name: 'fw-2', address: '10.20.0.12' },
  ids1: { service: 'ids', name: 'ids-1', address: '10.20.0.21' },
  ids2: { service: 'ids', name: 'ids-2', address: '10.21.0.22' },
  add1: { service: 'added', name: 'add-1', address: '10.20.0.31' },
  add2: { service: 'added', name: 'add-2', address: '10.20.0.32' },
} as const;
export type ServiceHost = keyof typeof SERVICES;

function launch(command: readonly string[], input?: string): Running {
  const child = spawn(command[0] ?? '', command.slice(1), { stdio: ['pipe', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.on('error', () => undefined);
  child.stdin.end(input ?? '');
  const ended = new Promise<Finished>((done) => {
    child.once('error', (error) => done({ code: -1, stdout, stderr: `${stderr}${error.message}` }));
    child.once('close', (code) => done({ code, stdout, stderr }));
  });
  const stop = (signal: NodeJS.Signals = 'SIGTERM'): Promise<Finished> => {
    child.kill(signal);
    return ended;
  };
  return { child, output: () => stdout + stderr, stop, ended };
}

export async function run(command: readonly string[], input?: string): Promise<Finished> {
  return launch(command, input).ended;
}

/** Runs it and returns what it printed; throws with all of it when it fails. */
export async function must(command: readonly string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await run(command, input);
  if (code !== 0) throw new Error(`${command.join(' ')}: exit ${code}\n${stdout}${stderr}`);
  return stdout;
}

export async function until(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = 60_000): Promise<void> {
  for (const end = Date.now() + timeoutMs; !(await condition()); ) {
    if (Date.now() > end) throw new Error(`timed out waiting for ${what}`);
    await new Promise((wake) => setTimeout(wake, 20));
  }
}

export interface ConfigOptions {
  readonly encapsulation?: 'nsh' | 'geneve';
  readonly port?: 'ring' | 'pcap';
  /** What the command line of `weir run` begins with. */
  readonly prefix?: readonly string[];
  readonly chain?: readonly string[];
  /** Further chains: `, lean: [firewall]`. */
  readonly moreChains?: string;
  readonly extra?: string;
  /** More keys of a service, such as `health: {tcp: 8080}`. */
  readonly of?: Readonly<Record<string, string>>;
  readonly policies?: string;
}

export class Lab {
  readonly directory = mkdtempSync(join(tmpdir(), 'weir-lab-'));
  readonly socket = join(this.directory, 'weir.sock');
  readonly #running = new Set<Running>();

  private constructor(readonly prefix: string) {}

  static async up(): Promise<Lab> {
    const prefix = (await must([LAB, 'up', String(process.pid)])).trim();
    return new Lab(prefix);
  }

  inside(host: string, command: readonly string[]): string[] {
    return ['ip', 'netns', 'exec', `${this.prefix}-${host}`, ...command];
  }

  exec(host: string, ...command: string[]): Promise<Finished> {
    return run(this.inside(host, command));
  }

  must(host: string, ...command: string[]): Promise<string> {
    return must(this.inside(host, command));
  }

  /** No TCP connection of these hosts has anything left to say. */
  async connectionsOver(...hosts: readonly string[]): Promise<void> {
    for (const host of hosts) await until(`connections of ${host} to be over`, async () => (await this.must(host, 'ss', '-Htan', 'state', 'connected', 'exclude', 'time-wait')) === '', 30_000);
  }

  /**
   * What ping(8) prints of requests that it sends at once, three unless `-c` comes with `how`, and waits for, 10 s if need be. One by one,
   * with `-W`, it waits no longer than an interval for the last answer once it has had another, and a busy machine may stand still for as long.
   */
  async ping(host: string, ...how: string[]): Promise<string> {
    const { stdout, stderr } = await this.exec(host, 'ping', '-c', '3', '-l', '100', '-i', '10', ...how);
    return stdout + stderr;
  }

  /** Starts a program and waits until its output matches. */
  async start(host: string, command: readonly string[], ready?: RegExp): Promise<Running> {
    const running = launch(this.inside(host, command));
    this.#running.add(running);
    let over = false;
    void running.ended.then(() => {
      over = true;
      this.#running.delete(running);
    });
    if (ready !== undefined) {
      await until(`${command.join(' ')} to print ${ready}`, () => {
        if (ready.test(running.output())) return true;
        if (over) throw new Error(`${command.join(' ')} ended`);
        return false;
      }, START_MS).catch((error: unknown) => {
        throw new Error(`${(error as Error).message}; it printed: ${running.output().slice(-1000)}`);
      });
    }
    return running;
  }

  config({ encapsulation = 'nsh', port = 'ring', chain = ['firewall', 'ids'], moreChains = '', extra = '', of = {}, policies }: ConfigOptions = {}): string {
    const services = ['firewall', 'ids', 'added'].map((service) => {
      const instances = Object.values(SERVICES).filter((instance) => instance.service === service);
      return `  ${service}: {${of[service] === undefined ? '' : `${of[service]}, `}instances: [${instances.map((i) => `{name: ${i.name}, address: ${i.address}}`).join(', ')}]}`;
    });
    const file = join(this.directory, `weir-${encapsulation}-${port}.yaml`);
    const text = [
      'underlay: {interface: und0}',
      'captures: [{name: web, in: in0, out: out0}]',
      'services:',
      ...services,
      `chains: {inspect: [${chain.join(', ')}]${moreChains}}`,
      policies ?? 'policies: [{name: all, match: {}, chain: inspect}]',
      `encapsulation: ${encapsulation}`,
      `port: ${port}`,
      `control: {socket: ${this.socket}}`,
      `state_dir: ${join(this.directory, 'state')}`,
      // Memory for a million streams, the default, is most of what a start takes.
      ...(/^flows:/m.test(extra) ? [] : ['flows: {max: 100000}']),
      extra,
    ].join('\n');
    writeFileSync(file, text);
    return file;
  }

  /** Starts `weir run` where it belongs and waits until it captures. It begins without the streams of the weir before. */
  async weir(options: ConfigOptions = {}): Promise<Running> {
    const weir = await this.start('fwd', [...(options.prefix ?? []), ...WEIR, 'run', '--fresh-flows', '--config', this.config(options)], /"msg":"ready"/);
    // On the pcap port the first frame of an interface is lost (docs/status.md), and with it an address resolution.
    if (options.port === 'pcap') {
      await until('the pcap port to be past its first frames', async () => (await this.exec('wl', 'ping', '-c', '2', '-i', '0.2', '-W', '1', '10.2.0.2')).stdout.includes(' 0% packet loss'));
    }
    return weir;
  }

  /** The command line, on this lab's control socket. */
  ctl(...args: string[]): Promise<Finished> {
    return run([...WEIR, ...args, '--socket', this.socket]);
  }

  /** Calls a method of the running weir. Tests ask often, and a process for each question would be most of their work. */
  async ask<T>(method: string, params: object = {}): Promise<T> {
    const client = await ControlClient.connect(this.socket);
    try {
      return await client.call<T>(method, params);
    } finally {
      client.close();
    }
  }

  node(host: ServiceHost, service = 'pass', more: readonly string[] = []): Promise<Running> {
    const { service: role, name, address } = SERVICES[host];
    return this.start(host, [...WEIR, 'node', '--service', role, '--name', name, '--listen', address, '--function', service, ...more], /"msg":"ready"/);
  }

  async nodes(service = 'pass', hosts: readonly ServiceHost[] = ['fw1', 'fw2', 'ids1', 'ids2', 'add1', 'add2']): Promise<Running[]> {
    return Promise.all(hosts.map((host) => this.node(host, service)));
  }

  /** tcpdump of stamped frames at an instance; stop() gives the file with all of them and fails if the kernel lost any. */
  async capture(host: string, device = 'eth0', filter = 'udp port 4790 or udp port 6081', snap = 262_144): Promise<{ file: string; stop: () => Promise<string> }> {
    const { file, stop } = await this.longCapture(host, device, filter, snap, ['--immediate-mode', '-U']);
    return {
      file,
      stop: async () => {
        const { dropped } = await stop();
        if (dropped > 0) throw new Error(`tcpdump on ${host} lost ${dropped} packets`);
        return file;
      },
    };
  }

  /**
   * The same for much and for long: written in blocks, without a system call a packet. stop() says what the kernel dropped before
   * tcpdump could read it.
   */
  async longCapture(host: string, device: string, filter: string, snap = 262_144, how: readonly string[] = []): Promise<{ file: string; stop: () => Promise<{ file: string; dropped: number }> }> {
    const file = join(this.directory, `${host}-${device}-${Date.now()}.pcap`);
    const tcpdump = await this.start(host, ['tcpdump', '-Z', 'root', '-i', device, '-s', String(snap), '-B', '65536', ...how, '-w', file, filter], /listening on/);
    const counts = (said: string): readonly number[] => [...(/(\d+) packets? captured[^]*?(\d+) packets? received by filter[^]*?(\d+) packets? dropped by kernel(?![^]*dropped by kernel)/.exec(said)?.slice(1) ?? [])].map(Number);
    const stop = async (): Promise<{ file: string; dropped: number }> => {
      // What waits for it when a signal ends it would be missing, and nothing would say so. What came before its filter was in force
      // counts as received too, so that the two counts may never meet: then it is not behind when their distance gets no smaller. More is
      // under way between them at any moment while packets come.
      let since = Date.now();
      let least = Infinity;
      await until(`tcpdump on ${host} to have written what it took`, async () => {
        const before = tcpdump.output().length;
        tcpdump.child.kill('SIGUSR1');
        await until('its counts', () => /dropped by kernel/.test(tcpdump.output().slice(before)));
        const [captured = 0, received = 1, dropped = 0] = counts(tcpdump.output().slice(before));
        const behind = received - captured - dropped;
        if (behind < least) since = Date.now();
        least = Math.min(least, behind);
        return behind <= 0 || Date.now() - since > SETTLED_MS;
      });
      const { stderr } = await tcpdump.stop('SIGINT');
      const [, , dropped] = counts(stderr);
      if (dropped === undefined) throw new Error(`tcpdump on ${host} said no counts: ${stderr}`);
      return { file, dropped };
    };
    return { file, stop };
  }

  /**
   * A VLAN between workload and router (two ids: QinQ), by a switch in user space: 10.N.0.2 and 10.N.0.1, N the outer id.
   * Needs no 802.1Q in the kernel.
   */
  async vlan(...ids: number[]): Promise<void> {
    for (const [host, trunk, last] of [['wl', 'eth0', 2], ['rtr', 'lan0', 1]] as const) {
      const [own, plain] = [`vlan${ids[0]}`, `plain${ids[0]}`];
      await this.must(host, 'ip', 'link', 'add', own, 'type', 'veth', 'peer', 'name', plain);
      await this.must(host, 'ethtool', '-K', own, 'tx', 'off', 'tso', 'off', 'gso', 'off');
      await this.must(host, 'sysctl', '-qw', `net.ipv6.conf.${plain}.disable_ipv6=1`);
      // Room for two tags: a packet socket sends no frame longer than the MTU and one tag.
      for (const device of [own, plain]) await this.must(host, 'ip', 'link', 'set', device, 'mtu', '1400', 'up');
      await this.must(host, 'ip', 'addr', 'add', `10.${ids[0]}.0.${last}/24`, 'dev', own);
      await this.start(host, ['python3', join(ROOT, 'test/support/tagger.py'), plain, trunk, ...ids.map(String)], /ready/);
    }
  }

  async down(): Promise<void> {
    await Promise.all([...this.#running].map((running) => running.stop('SIGKILL')));
    await must([LAB, 'down', String(process.pid)]);
    // Of every state directory that a weir here had.
    const flows = readdirSync(this.directory).map((name) => flowFilePrefix(join(this.directory, name)));
    for (const file of readdirSync('/dev/shm')) if (flows.some((prefix) => file.startsWith(prefix))) rmSync(join('/dev/shm', file));
    rmSync(this.directory, { recursive: true, force: true });
  }
}
