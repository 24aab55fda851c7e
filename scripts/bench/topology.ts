/** Network namespaces of our own, named after this process, and gone when it ends. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { atEnd } from './cleanup.js';

const PREFIX = 'weirbench';

export function command(...argv: string[]): string {
  return execFileSync(argv[0] ?? '', argv.slice(1), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function removeSpace(name: string): void {
  command('ip', 'netns', 'delete', name);
}

/** Removes what a killed benchmark has left. */
function sweep(): void {
  if (!existsSync('/run/netns')) return;
  for (const name of readdirSync('/run/netns')) {
    const owner = new RegExp(`^${PREFIX}-([0-9]+)-`).exec(name)?.[1];
    if (owner !== undefined && !existsSync(`/proc/${owner}`)) removeSpace(name);
  }
}

let made = 0;

export interface InterfaceCounts {
  readonly rxPackets: number;
  readonly rxBytes: number;
  readonly txPackets: number;
  readonly rxDropped: number;
}

/** Hosts that know only each other. IPv6 is off everywhere, so that nothing moves but what the benchmark sends. */
export class Topology {
  readonly #prefix: string;
  readonly #undo = new Map<string, () => void>();
  readonly #holders = new Map<string, ChildProcess>();

  constructor(...hosts: string[]) {
    if (made === 0) sweep();
    this.#prefix = `${PREFIX}-${process.pid}-${made++}`;
    for (const host of hosts) this.host(host);
  }

  #space(host: string): string {
    return `${this.#prefix}-${host}`;
  }

  host(name: string): void {
    const space = this.#space(name);
    command('ip', 'netns', 'add', space);
    this.#undo.set(name, atEnd(() => removeSpace(space)));
    this.must(name, 'sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1');
    this.ip(name, 'link', 'set', 'lo', 'up');
  }

  ip(host: string, ...argv: string[]): string {
    return command('ip', '-n', this.#space(host), ...argv);
  }

  /** The command as it runs inside a host. */
  inside(host: string, argv: readonly string[]): string[] {
    return ['ip', 'netns', 'exec', this.#space(host), ...argv];
  }

  must(host: string, ...argv: string[]): string {
    return command(...this.inside(host, argv));
  }

  /** A veth pair between two hosts. */
  wire(a: string, device: string, b: string, peer: string, mtu = 1500): void {
    command('ip', 'link', 'add', device, 'netns', this.#space(a), 'mtu', String(mtu), 'type', 'veth', 'peer', 'name', peer, 'mtu', String(mtu), 'netns', this.#space(b));
    this.ip(a, 'link', 'set', device, 'up');
    this.ip(b, 'link', 'set', peer, 'up');
  }

  address(host: string, device: string, address: string): void {
    this.ip(host, 'address', 'add', address, 'dev', device);
  }

  macOf(host: string, device: string): string {
    const [link] = JSON.parse(this.ip(host, '-j', 'link', 'show', 'dev', device)) as { address: string }[];
    return link?.address ?? '';
  }

  offloadsOff(host: string, device: string): void {
    this.must(host, 'ethtool', '-K', device, 'tx', 'off', 'rx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off');
  }

  /** Counts of an interface, read where it costs nobody anything: in /proc of a process that sleeps in that host. */
  counts(host: string, device: string): InterfaceCounts {
    let holder = this.#holders.get(host);
    if (holder?.pid === undefined) {
      const argv = this.inside(host, ['sleep', 'infinity']);
      holder = spawn(argv[0] ?? '', argv.slice(1), { stdio: 'ignore' });
      const started = holder;
      atEnd(() => started.kill('SIGKILL'));
      this.#holders.set(host, holder);
      // `ip netns exec` becomes `sleep` once it is inside.
      for (const end = Date.now() + 5000; readFileSync(`/proc/${holder.pid}/comm`, 'utf8') !== 'sleep\n'; ) if (Date.now() > end) throw new Error(`can't look into ${host}`);
    }
    const line = readFileSync(`/proc/${holder.pid}/net/dev`, 'utf8').split('\n').find((text) => text.trimStart().startsWith(`${device}:`));
    // bytes packets errs drop fifo frame compressed multicast, received and then sent
    const numbers = (line ?? '').replace(/^.*:/, '').trim().split(/\s+/).map(Number);
    return { rxPackets: numbers[1] ?? 0, rxBytes: numbers[0] ?? 0, rxDropped: numbers[3] ?? 0, txPackets: numbers[9] ?? 0 };
  }

  remove(): void {
    for (const holder of this.#holders.values()) holder.kill('SIGKILL');
    for (const undo of this.#undo.values()) undo();
  }
}
