/** The metrics over HTTP: `GET /metrics` on the address of `metrics.listen`, and nothing else. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MetricsConfig } from '../config/configuration.js';
import { Failure } from '../failure.js';
import type { Logger } from '../observe/log.js';

const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';
/** A scraper needs one. */
const MOST_CONNECTIONS = 16;
const PATIENCE_MS = 5000;

export class MetricsServer {
  private constructor(private readonly server: Server) {}

  /** Throws a Failure when the address can't be had for `patienceMs`. `text` is asked at each scrape. */
  static async listen(config: MetricsConfig, text: () => string, log: Logger, patienceMs = 0): Promise<MetricsServer> {
    for (const end = Date.now() + patienceMs; ; ) {
      try {
        return await MetricsServer.#open(config, text, log);
      } catch (error) {
        if (Date.now() >= end) throw error;
        await sleep(50);
      }
    }
  }

  static async #open({ host, port }: MetricsConfig, text: () => string, log: Logger): Promise<MetricsServer> {
    const server = createServer({ maxHeaderSize: 8192, headersTimeout: PATIENCE_MS, requestTimeout: PATIENCE_MS, keepAliveTimeout: PATIENCE_MS }, (request, response) => answer(request, response, text, log));
    server.maxConnections = MOST_CONNECTIONS;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => reject(refusal(error, `${host.includes(':') ? `[${host}]` : host}:${port}`)));
      server.listen(port, host, resolve);
    });
    server.on('error', (error) => log.error(`metrics: ${error.message}`));
    return new MetricsServer(server);
  }

  close(): void {
    this.server.close();
    this.server.closeAllConnections();
  }
}

function refusal(error: NodeJS.ErrnoException, where: string): Failure {
  const why =
    error.code === 'EADDRINUSE'
      ? `another program listens there: stop it, or choose another port`
      : error.code === 'EADDRNOTAVAIL'
        ? `no interface of this host has that address`
        : error.code === 'EACCES'
          ? 'a port below 1024 needs a privilege that weir does not have: choose one above'
          : error.message;
  return new Failure(`metrics.listen: can't listen on ${where}: ${why}.`);
}

function answer({ method, url = '' }: IncomingMessage, response: ServerResponse, text: () => string, log: Logger): void {
  const say = (status: number, body: string, type = 'text/plain; charset=utf-8'): void => {
    response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body), ...(status === 405 ? { allow: 'GET, HEAD' } : {}) });
    response.end(method === 'HEAD' ? undefined : body);
  };
  if (method !== 'GET' && method !== 'HEAD') return say(405, 'only GET\n');
  if (url.split('?')[0] !== '/metrics') return say(404, 'there is only /metrics\n');
  try {
    say(200, text(), CONTENT_TYPE);
  } catch (error) {
    log.error({ error: (error as Error).stack }, 'the metrics could not be made');
    say(500, 'the metrics could not be made: the log of weir says why\n');
  }
}
