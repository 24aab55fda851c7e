/** Who is at the other end of a control connection: user and process, as the kernel saw them connect. */
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { native } from '../dataplane/native.js';
import { Who } from '../observe/who.js';

/**
 * The name of a user, or null. Only the local file is asked: a directory service may take seconds to answer, and this runs on the
 * thread that changes the dataplane.
 */
export function userName(uid: number, file = '/etc/passwd'): string | null {
  try {
    // name:password:uid:…, passwd(5); the first line with the uid counts, as in getpwuid(3).
    const line = readFileSync(file, 'utf8')
      .split('\n')
      .find((candidate) => candidate.split(':')[2] === String(uid));
    return line?.split(':')[0] || null;
  } catch {
    return null;
  }
}

export interface Peer {
  readonly who: Who;
  /** All that it was in when it connected. */
  readonly groups: readonly number[];
}

/** With the name of the user, where there is one. Not for whom nobody has admitted: everyone can connect, and this reads a file. */
export function named(who: Who, file?: string): Who {
  const name = who.uid === null ? null : userName(who.uid, file);
  return name === null ? who : new Who(name, who.uid, who.gid, who.pid);
}

/** Users by their number. Never throws: of a peer that stays unknown only the name `otherwise` is known. */
export function peerOf(socket: Socket, otherwise: string): Peer {
  const unknown: Peer = { who: new Who(otherwise), groups: [] };
  // There is no public way to a socket's descriptor, and without it none to SO_PEERCRED: net.Socket has no `fd`, and
  // socket.address() is empty for Unix sockets. The handle is libuv's pipe, which has had an `fd` since Node 0.x.
  const descriptor = (socket as unknown as { readonly _handle?: { readonly fd?: number } | null })._handle?.fd;
  if (typeof descriptor !== 'number' || descriptor < 0) return unknown;
  try {
    const found = native.peerCredentials(descriptor);
    if (found === null) return unknown;
    const { uid, gid, pid, groups } = found;
    return { who: new Who(`uid ${uid}`, uid, gid, pid > 0 ? pid : null), groups: [gid, ...groups] };
  } catch {
    return unknown;
  }
}
