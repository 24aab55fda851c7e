/** The directories on the way to the control socket: its own mode says nothing to who can't enter one of them. */
import { realpathSync, statSync, type Stats } from 'node:fs';
import { dirname, resolve } from 'node:path';

/** From the root on, as far as they are there and can be seen. */
function directoriesTo(path: string): string[] {
  let place = dirname(resolve(path));
  try {
    place = realpathSync(place);
  } catch {
    // It is not there, or closed: then by the name that it was given.
  }
  const directories = [place];
  while (dirname(place) !== place) directories.unshift((place = dirname(place)));
  return directories;
}

/** The first that this process can't enter; null where it can enter all. */
export function closedToMe(path: string): string | null {
  const closed = (directory: string): boolean => {
    try {
      // Not access(2): that asks for the user who started the process.
      statSync(`${directory}/.`);
      return false;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EACCES';
    }
  };
  return directoriesTo(path).find(closed) ?? null;
}

/** Null where it is not there, or behind a directory that is closed to this process. */
function statusOf(directory: string): Stats | null {
  try {
    return statSync(directory);
  } catch {
    return null;
  }
}

/** The first that members of a group can't enter as such, with what chmod(1) has to give it; null where they can enter all that are to be seen. */
export function closedToGroup(path: string, group: number): { readonly directory: string; readonly mend: 'g+x' | 'o+x' } | null {
  for (const directory of directoriesTo(path)) {
    const found = statusOf(directory);
    if (found === null) return null;
    // To members of its group a directory says what it says to its group, and not what it says to others.
    const its = found.gid === group;
    if ((found.mode & (its ? 0o010 : 0o001)) === 0) return { directory, mend: its ? 'g+x' : 'o+x' };
  }
  return null;
}
