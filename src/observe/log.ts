/** Logs by pino: JSON lines, or readable ones when standard error is a terminal. A message that repeats is rate-limited. */
import pino, { type DestinationStream, type Logger, type LoggerOptions } from 'pino';
import type { PrettyOptions } from 'pino-pretty';
import type { Configuration } from '../config/configuration.js';
import { lazily } from '../lazily.js';
import { RateLimit } from './rate-limit.js';
import { ACCEPTED } from './who.js';

export type { Logger };

const pretty = lazily<(options: PrettyOptions) => DestinationStream>('pino-pretty');

/** `destination`: standard error by default. */
export function createLogger(level: Configuration['log']['level'] = 'info', destination?: DestinationStream, limit = new RateLimit()): Logger {
  const options: LoggerOptions = {
    level,
    base: null,
    hooks: {
      logMethod(args, method, lineLevel) {
        const [first, second] = args as readonly unknown[];
        const fields = typeof first === 'object' && first !== null ? (first as Readonly<Record<string | symbol, unknown>>) : null;
        const message = fields === null ? first : second;
        // Who changed what is always written: changes are limited elsewhere, and who is refused can't make any.
        if (typeof message !== 'string' || fields?.[ACCEPTED] === true) return method.apply(this, args);
        const say = method as (fields: object, message: string) => void;
        if (limit.admits(lineLevel, message, (leftOut) => say.call(this, { left_out: leftOut }, `${leftOut} more like this were left out: ${message}`))) method.apply(this, args);
      },
    },
  };
  if (destination !== undefined) return pino(options, destination);
  return process.stderr.isTTY
    ? pino(options, pretty()({ destination: 2, sync: true, translateTime: 'HH:MM:ss.l' }))
    : pino(options, pino.destination({ dest: 2, sync: true }));
}
