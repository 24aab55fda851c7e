/** Addresses and numbers as people type them on the command line. */
import { InvalidArgumentError } from 'commander';

export interface End {
  readonly address: string;
  /** Null: none was given. */
  readonly port: number | null;
}

/** `10.1.0.2:443`, `[fd01::2]:443`, or an address alone. */
export function parseEnd(text: string): End {
  const match = /^\[([0-9a-fA-F:.]+)\](?::([0-9]+))?$/.exec(text) ?? /^([0-9.]+)(?::([0-9]+))?$/.exec(text) ?? /^([0-9a-fA-F:.]+)()$/.exec(text);
  if (match === null || Number(match[2] ?? 0) > 65_535) throw new InvalidArgumentError('expected ADDRESS:PORT, [IPv6]:PORT or an address.');
  return { address: match[1] ?? '', port: match[2] === undefined || match[2] === '' ? null : Number(match[2]) };
}

export function parseNumber(text: string): number {
  if (!/^[0-9]+$/.test(text)) throw new InvalidArgumentError('expected a whole number.');
  return Number(text);
}
