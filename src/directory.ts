/** Directories that weir keeps things in. */
import { accessSync, constants, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Makes a directory with those above it, each with that mode, and looks whether this user can write to it. One by one: `recursive` of Node 20
 * never ends where the kernel says of a directory that is there that there is none, as /proc does. Throws an error with a `code`.
 */
export function ownDirectory(path: string, mode: number): void {
  make(path, mode);
  accessSync(path, constants.W_OK | constants.X_OK);
}

function make(path: string, mode: number): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return;
  if (dirname(path) !== path) make(dirname(path), mode);
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    // Somebody else made it meanwhile, or it is a file.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || !statSync(path).isDirectory()) throw error;
  }
}
