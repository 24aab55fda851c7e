/**
 * What the user at the other end of a control connection may do. Without a read-only group the socket's file mode decides alone: who
 * may connect may do everything. With one, everybody may connect and the kernel's word on who it is decides.
 */
import { readFileSync } from 'node:fs';
import type { Peer } from './peer.js';

export type Access = 'all' | 'read' | 'none';

/** What tells and changes nothing. `explain.facts` is not among them: it has the affinity key. */
const READING: ReadonlySet<string> = new Set([
  'status', 'stats', 'flows', 'chains', 'services', 'load', 'trace', 'config.get', 'conditions', 'steer.list', 'subscribe', 'unsubscribe', 'events', 'metrics', 'appliance.status',
]);

export interface Admission {
  /** Group id; null: there is none. */
  readonly readOnlyGroup: number | null;
  /** Of the socket's file, before anybody was let in to read. */
  readonly mode: number;
  /** User and group that weir runs as. */
  readonly user: number;
  readonly group: number;
}

export function accessOf({ who, groups }: Peer, { readOnlyGroup, mode, user, group }: Admission): Access {
  if (readOnlyGroup === null) return 'all';
  if (who.uid === null) return 'none';
  // As the file's mode would have it (connect() asks for write permission).
  const writes = who.uid === user ? (mode & 0o200) !== 0 : groups.includes(group) ? (mode & 0o020) !== 0 : (mode & 0o002) !== 0;
  if (who.uid === 0 || writes) return 'all';
  return groups.includes(readOnlyGroup) ? 'read' : 'none';
}

/** The mode that the socket's file has to have, so that whom accessOf() admits gets as far as being asked. */
export const socketMode = ({ mode, readOnlyGroup }: Pick<Admission, 'mode' | 'readOnlyGroup'>): number => (readOnlyGroup === null ? mode : mode | 0o666);

export const mayCall = (access: Access, method: string): boolean => access === 'all' || (access === 'read' && READING.has(method));

/** The id of a group by name or number; null where there is none. Only the local file is asked, as for users. */
export function groupId(name: string, file = '/etc/group'): number | null {
  if (/^[0-9]+$/.test(name)) return Number(name);
  try {
    // name:password:gid:members, group(5)
    const line = readFileSync(file, 'utf8')
      .split('\n')
      .find((candidate) => candidate.startsWith(`${name}:`));
    return line === undefined ? null : Number(line.split(':')[2]);
  } catch {
    return null;
  }
}
