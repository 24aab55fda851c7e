/** The key of load reports, from a file: never from an argument or the environment, which others can read. */
import { readFileSync } from 'node:fs';
import { Failure } from '../failure.js';

const LEAST_BYTES = 16;
const MOST_BYTES = 4096;

/** Bytes of the file without a line end at its end. Throws a Failure that says what to do. `where`: the option or key that named the file. */
export function loadReportKey(file: string, where: string): Uint8Array {
  const make = `Make one with: (umask 077; head -c 32 /dev/urandom > ${file})`;
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw new Failure(`${where}: can't read ${file} (${(error as NodeJS.ErrnoException).code ?? String(error)}). ${make}`, 2);
  }
  // Only what an editor would add to a key in letters: random bytes may well end in 10.
  const isText = /^[\x21-\x7e]+\r?\n$/.test(bytes.toString('latin1'));
  const key = isText ? Buffer.from(bytes.toString('latin1').trimEnd(), 'latin1') : bytes;
  if (key.length < LEAST_BYTES || key.length > MOST_BYTES) throw new Failure(`${where}: expected ${LEAST_BYTES} to ${MOST_BYTES} bytes in ${file}, found ${key.length}. ${make}`, 2);
  return key;
}
