/** Boxes that know nothing of weir, as real programs and the kernel make them: namespaces of their own, wired to the lab's forwarder. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { must, type Lab, type Running } from './lab.js';

export class Box {
  private constructor(
    readonly lab: Lab,
    /** Of its namespace, as the lab's hosts have names. */
    readonly name: string,
  ) {}

  static async add(lab: Lab, name: string): Promise<Box> {
    const space = `${lab.prefix}-${name}`;
    await must(['ip', 'netns', 'add', space]);
    await must(['ip', '-n', space, 'link', 'set', 'lo', 'up']);
    await lab.must(name, 'sysctl', '-qw', 'net.ipv6.conf.all.accept_dad=0', 'net.ipv6.conf.default.accept_dad=0');
    return new Box(lab, name);
  }

  /** A cable between an interface of the forwarder and one of the box; both without a stack of their own. */
  async wire(ours: string, theirs: string): Promise<void> {
    await must(['ip', 'link', 'add', ours, 'netns', `${this.lab.prefix}-fwd`, 'type', 'veth', 'peer', 'name', theirs, 'netns', `${this.lab.prefix}-${this.name}`]);
    for (const [host, device] of [['fwd', ours], [this.name, theirs]] as const) {
      await this.lab.must(host, 'sysctl', '-qw', `net.ipv6.conf.${device}.disable_ipv6=1`);
      await this.lab.must(host, 'ip', 'link', 'set', device, 'up');
    }
  }

  /** A bridge over interfaces of the box. */
  async bridge(...devices: string[]): Promise<void> {
    await this.must('ip', 'link', 'add', 'br0', 'type', 'bridge', 'mcast_snooping', '0');
    for (const device of devices) await this.must('ip', 'link', 'set', device, 'master', 'br0');
    await this.must('ip', 'link', 'set', 'br0', 'up');
  }

  /** A router with one leg: 10.9.N.2 and fd09:N::2, the forwarder 10.9.N.1 and fd09:N::1, its default route. */
  async router(n: number, ours: string): Promise<void> {
    const { lab } = this;
    await this.wire(ours, 'eth0');
    await lab.must('fwd', 'sysctl', '-qw', `net.ipv6.conf.${ours}.disable_ipv6=0`);
    await this.must('sysctl', '-qw', 'net.ipv6.conf.eth0.disable_ipv6=0', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1', 'net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.eth0.rp_filter=0');
    await lab.must('fwd', 'ip', 'addr', 'add', `10.9.${n}.1/24`, 'dev', ours);
    await lab.must('fwd', 'ip', 'addr', 'add', `fd09:${n}::1/64`, 'dev', ours, 'nodad');
    await this.must('ip', 'addr', 'add', `10.9.${n}.2/24`, 'dev', 'eth0');
    await this.must('ip', 'addr', 'add', `fd09:${n}::2/64`, 'dev', 'eth0', 'nodad');
    await this.must('ip', 'route', 'add', 'default', 'via', `10.9.${n}.1`);
    await this.must('ip', '-6', 'route', 'add', 'default', 'via', `fd09:${n}::1`);
  }

  must(...command: string[]): Promise<string> {
    return this.lab.must(this.name, ...command);
  }

  async nft(rules: string): Promise<void> {
    const file = join(this.lab.directory, `${this.name}.nft`);
    writeFileSync(file, rules);
    await this.must('nft', '-f', file);
  }

  /** Packets that named counters of nftables have seen. */
  async counted(): Promise<Record<string, number>> {
    const { nftables } = JSON.parse(await this.must('nft', '-j', 'list', 'counters')) as { nftables: { counter?: { name: string; packets: number } }[] };
    return Object.fromEntries(nftables.flatMap(({ counter }) => (counter === undefined ? [] : [[counter.name, counter.packets]])));
  }

  start(command: readonly string[], ready?: RegExp): Promise<Running> {
    return this.lab.start(this.name, command, ready);
  }
}
