/** Logs by pino: JSON lines, or readable ones when standard error is a terminal. */
import pino, { type Logger } from 'pino';
import pretty from 'pino-pretty';
import type { Configuration } from '../config/configuration.js';

export type { Logger };

export function createLogger(level: Configuration['log']['level'] = 'info'): Logger {
  const options = { level, base: null };
  return process.stderr.isTTY
    ? pino(options, pretty({ destination: 2, sync: true, translateTime: 'HH:MM:ss.l' }))
    : pino(options, pino.destination({ dest: 2, sync: true }));
}
