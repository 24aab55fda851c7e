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

/** Never throws: a connection whose peer stays unknown is served all the same, under the name `otherwise`. */
export function peerOf(socket: Socket, otherwise: string): Who {
  // There is no public way to a socket's descriptor, and without it none to SO_PEERCRED: net.Socket has no `fd`, and
  // socket.address() is empty for Unix sockets. The handle is libuv's pipe, which has had an `fd` since Node 0.x.
  const descriptor = (socket as unknown as { readonly _handle?: { readonly fd?: number } | null })._handle?.fd;
  if (typeof descriptor !== 'number' || descriptor < 0) return new Who(otherwise);
  try {
    const found = native.peerCredentials(descriptor);
    if (found === null) return new Who(otherwise);
    const { uid, gid, pid } = found;
    return new Who(userName(uid) ?? `uid ${uid}`, uid, gid, pid > 0 ? pid : null);
  } catch {
    return new Who(otherwise);
  }
}
