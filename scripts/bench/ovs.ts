/**
 * Open vSwitch with its userspace datapath, as processes of our own: own database, own run directory, nothing of the
 * system's service is touched. It needs offloads off (openvswitch/ovs-issues#273).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { atEnd } from './cleanup.js';
import { until } from './harness.js';
import type { Topology } from './topology.js';
import { Running, run } from './yardsticks.js';

export function ovsInstalled(): boolean {
  return spawnSync('ovs-vswitchd', ['--version']).status === 0;
}

export class OpenVSwitch {
  private constructor(readonly daemon: Running, private readonly database: Running, private readonly removeDirectory: () => void) {}

  /** Two ports of a host, what comes in by one goes out by the other. `prefix` puts the daemon on a core. */
  static async start(topology: Topology, host: string, ports: readonly [string, string], prefix: (argv: readonly string[]) => string[] = (argv) => [...argv]): Promise<OpenVSwitch> {
    const directory = mkdtempSync(join(tmpdir(), 'weir-bench-ovs-'));
    const removeDirectory = atEnd(() => rmSync(directory, { recursive: true, force: true }));
    const environment = { ...process.env, OVS_RUNDIR: directory, OVS_LOGDIR: directory, OVS_DBDIR: directory, OVS_SYSCONFDIR: directory };
    const file = (name: string): string => join(directory, name);
    const inside = (...argv: string[]): string[] => topology.inside(host, argv);
    const socket = `unix:${file('db.sock')}`;
    // iproute2's `ip netns exec` hands the environment on; the tools get theirs by `env`.
    const tool = (...argv: string[]): Promise<string> => run(inside('env', ...Object.entries(environment).filter(([name]) => name.startsWith('OVS_')).map(([name, value]) => `${name}=${value}`), ...argv));

    await tool('ovsdb-tool', 'create', file('conf.db'), '/usr/share/openvswitch/vswitch.ovsschema');
    const database = new Running(inside('ovsdb-server', file('conf.db'), `--remote=p${socket}`, '-vconsole:warn', '-vsyslog:off'), environment);
    await until('ovsdb-server', () => tool('ovs-vsctl', `--db=${socket}`, '--no-wait', 'init').then(() => true, () => false));
    const daemon = new Running(inside(...prefix(['ovs-vswitchd', socket, '-vconsole:warn', '-vsyslog:off'])), environment);
    const vsctl = (...argv: string[]): Promise<string> => tool('ovs-vsctl', '--timeout=10', `--db=${socket}`, ...argv);
    await vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0', 'datapath_type=netdev', 'fail-mode=secure');
    for (const [i, port] of ports.entries()) await vsctl('add-port', 'br0', port, '--', 'set', 'interface', port, `ofport_request=${i + 1}`);
    for (const [from, to] of [[1, 2], [2, 1]]) await tool('ovs-ofctl', 'add-flow', 'br0', `in_port=${from},actions=output:${to}`);
    return new OpenVSwitch(daemon, database, removeDirectory);
  }

  async stop(): Promise<void> {
    await this.daemon.stop();
    await this.database.stop();
    this.removeDirectory();
  }
}
