/** A host of the lab on which the real systemd runs: as in a container, on this machine's root with what it writes in memory (systemd-host.sh). */
import { mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { must, ROOT, run, until, type Finished, type Lab, type Running } from './lab.js';

export class SystemdHost {
  private constructor(
    private readonly booted: Running,
    /** Of systemd, as this host sees it. */
    private readonly pid: number,
  ) {}

  /** Fulfilled when it has come up. weir is at /usr/local/lib/weir there, and `weir` and `node` are commands. */
  static async boot(lab: Lab, host: string): Promise<SystemdHost> {
    const directory = mkdtempSync(join(lab.directory, 'systemd-'));
    const booted = await lab.start(host, ['bash', join(ROOT, 'test/support/systemd-host.sh'), directory, ROOT, process.execPath]);
    let first = 0;
    await until('systemd to be started', () => {
      if (booted.child.exitCode !== null) throw new Error(`it ended: ${booted.output()}`);
      first = childOf(childOf(booted.child.pid ?? 0));
      return first > 0 && readFileSync(`/proc/${first}/comm`, 'utf8') === 'systemd\n';
    });
    const systemd = new SystemdHost(booted, first);
    let said = '';
    await until('systemd to have come up', async () => {
      said = (await systemd.run('systemctl', 'is-system-running')).stdout.trim();
      return said === 'running' || said === 'degraded';
    }).catch((error: unknown) => {
      throw new Error(`${(error as Error).message}: ${said}`);
    });
    return systemd;
  }

  #inside(command: readonly string[]): string[] {
    return ['nsenter', '--target', String(this.pid), '--all', '--root', '--wd', 'env', '-i', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...command];
  }

  run(...command: string[]): Promise<Finished> {
    return run(this.#inside(command));
  }

  must(...command: string[]): Promise<string> {
    return must(this.#inside(command));
  }

  /** Replaces what is in a file there; a new one is for root, and all may read it. */
  async write(path: string, text: string): Promise<void> {
    await must(this.#inside(['sh', '-euc', 'umask 022; mkdir -p "$(dirname "$1")"; cat >"$1"', 'sh', path]), text);
  }

  /** A property of the unit. */
  async show(unit: string, property: string): Promise<string> {
    return (await this.must('systemctl', 'show', '--value', '--property', property, unit)).trim();
  }

  journal(unit: string): Promise<string> {
    return this.must('journalctl', '--no-pager', '-o', 'cat', '-u', unit);
  }

  async down(): Promise<void> {
    const { code, stderr } = await this.booted.stop();
    if (code !== 0) throw new Error(`systemd's host: ${stderr}`);
  }
}

/** The first child of a process; 0 where it has none. */
function childOf(pid: number): number {
  return pid === 0 ? 0 : Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0]);
}
