/** What `weir doctor` finds, and how it reads the host. */
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';

/** `fail`: weir can't do its work so. `warn`: it can, but slower, less safely or not for long. */
export type Level = 'ok' | 'warn' | 'fail';

export interface Finding {
  readonly level: Level;
  /** What was looked at: `kernel`, `interface und0` … */
  readonly subject: string;
  readonly text: string;
  /** A command, or a line of the configuration, that mends it; null where nothing has to be mended. */
  readonly fix: string | null;
}

export const ok = (subject: string, text: string): Finding => ({ level: 'ok', subject, text, fix: null });
export const warn = (subject: string, text: string, fix: string): Finding => ({ level: 'warn', subject, text, fix });
export const fail = (subject: string, text: string, fix: string): Finding => ({ level: 'fail', subject, text, fix });

/** The text of a file of /proc or /sys without the newline at its end; null where it can't be read. */
export function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}

export const sysctl = (name: string): string | null => read(join('/proc/sys', ...name.split('/')));

const SYS = '/sys/class/net';

/** Whether sysfs shows this network namespace: one that was mounted elsewhere shows that one's interfaces. */
export const sysfsShows = (name: string, index: number): boolean => read(join(SYS, name, 'ifindex')) === String(index);

/** The bridge, bond or switch that an interface belongs to. */
export function masterOf(name: string): string | null {
  try {
    return basename(readlinkSync(join(SYS, name, 'master')));
  } catch {
    return null;
  }
}

/** Interfaces that stand on this one: VLANs, macvlans … */
export function uppersOf(name: string): readonly string[] {
  try {
    return readdirSync(join(SYS, name)).flatMap((entry) => (entry.startsWith('upper_') ? [entry.slice('upper_'.length)] : []));
  } catch {
    return [];
  }
}
