/** What a node says of itself to others: load reports to forwarders, answers to TCP and HTTP checks. */
import { isIpv4 } from '../config/address.js';
import { durationMs } from '../config/forms.js';
import { REPORT_PORT } from '../config/limits.js';
import { parsePlace } from '../config/place.js';
import { Failure } from '../failure.js';
import { startResponder } from '../health/responder.js';
import { loadReportKey } from '../load/key.js';
import { LONGEST_INTERVAL_MS, SHORTEST_INTERVAL_MS, type LoadValues } from '../load/report.js';
import { LoadMeter, sendReports, type LoadSource } from './load-report.js';

export interface ReportingOptions {
  readonly service: string;
  readonly name: string;
  readonly address: string;
  readonly health?: number;
  readonly report?: readonly string[];
  readonly reportKey?: string;
  readonly reportInterval: string;
}

/** `10.20.0.1`, `10.20.0.1:4793`, `[fd20::1]:4793`. */
export function parseTarget(text: string, own: string): { readonly address: string; readonly port: number } {
  const place = parsePlace(text, REPORT_PORT);
  if (place === null) throw new Failure(`--report: expected ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT, found "${text}".`, 2);
  if (isIpv4(place.address) !== isIpv4(own)) throw new Failure(`--report: reports leave from ${own}, and ${place.address} is of the other family.`, 2);
  return place;
}

/** Throws a Failure for options that can't be. */
export async function startReporting(options: ReportingOptions, source: LoadSource): Promise<{ readonly close: () => Promise<void> }> {
  const { service, name, address, health, report = [], reportKey, reportInterval } = options;
  const intervalMs = /^[0-9]+(ms|s|m)$/.test(reportInterval) ? durationMs(reportInterval) : 0;
  if (intervalMs < SHORTEST_INTERVAL_MS || intervalMs > LONGEST_INTERVAL_MS) throw new Failure(`--report-interval: expected a duration from 100ms to 1m, found "${reportInterval}".`, 2);
  if ((report.length > 0) !== (reportKey !== undefined)) throw new Failure('--report and --report-key belong together: forwarders take no report without a key.', 2);
  const to = report.map((text) => parseTarget(text, address));
  const key = reportKey === undefined ? null : loadReportKey(reportKey, '--report-key');

  const meter = new LoadMeter(source);
  let last: LoadValues | null = null;
  const read = (): LoadValues => (last = meter.read());
  const responder = health === undefined ? null : await startResponder(address, health, () => ({ ok: true, body: { service, name, load: last } }));
  const stop = key !== null ? sendReports({ service, name, address, to, key, intervalMs }, read) : timed(read, intervalMs, health !== undefined);
  return {
    close: async () => {
      stop();
      await responder?.close();
    },
  };
}

/** Where nothing is sent, whoever asks still finds the latest figures. */
function timed(read: () => unknown, intervalMs: number, wanted: boolean): () => void {
  if (!wanted) return () => undefined;
  const timer = setInterval(read, intervalMs);
  return () => clearInterval(timer);
}
