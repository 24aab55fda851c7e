/** Where something listens: an IP address of this host and a port. */
import { parseAddress } from './address.js';
import type { MetricsConfig } from './configuration.js';
import type { Report } from './report.js';
import { isObject } from './report.js';

/** Null where it is no address and port. */
export function parseListen(text: string): MetricsConfig | null {
  const match = /^\[([0-9a-fA-F:.]+)\]:([0-9]{1,5})$/.exec(text) ?? /^([0-9.]+):([0-9]{1,5})$/.exec(text);
  const [host = '', port = ''] = match?.slice(1) ?? [];
  if (match === null || parseAddress(host) === null || Number(port) < 1 || Number(port) > 65_535) return null;
  return { host, port: Number(port) };
}

export function isLoopback(host: string): boolean {
  const bytes = parseAddress(host);
  if (bytes === null) return false;
  const mapped = bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return mapped ? bytes[12] === 127 : bytes.subarray(0, 15).every((byte) => byte === 0) && bytes[15] === 1;
}

export function checkMetrics(raw: unknown, report: Report): void {
  if (!isObject(raw) || typeof raw['listen'] !== 'string') return;
  const listen = parseListen(raw['listen']);
  if (listen === null) {
    report(['metrics', 'listen'], `expected an IP address and a port, such as 127.0.0.1:9477 or "[::1]:9477"; found ${JSON.stringify(raw['listen'])}`, 'ADDRESS:PORT', raw['listen']);
  } else if (!isLoopback(listen.host) && raw['public'] !== true) {
    const message = `${listen.host} is no loopback address, and whoever reaches it could read names, addresses and rates without a password; listen on 127.0.0.1, or say that this is meant with public: true`;
    report(['metrics', 'listen'], message, 'a loopback address, or public: true', raw['listen']);
  }
}
