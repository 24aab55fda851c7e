/** What checks over TCP and HTTP ask of a `weir node`: one port that accepts connections and answers GET with what the node does. */
import { createServer, type Server } from 'node:http';
import { isIPv6 } from 'node:net';
import { Failure } from '../failure.js';

const MOST_CONNECTIONS = 256;
const IDLE_MS = 5000;

export interface Responder {
  readonly close: () => Promise<void>;
}

/** `answer`: what GET shows; `ok: false` is answered with 503. */
export async function startResponder(address: string, port: number, answer: () => { readonly ok: boolean; readonly body: object }): Promise<Responder> {
  const server: Server = createServer({ maxHeaderSize: 8192, connectionsCheckingInterval: IDLE_MS, headersTimeout: IDLE_MS, requestTimeout: IDLE_MS, keepAliveTimeout: IDLE_MS }, (asked, response) => {
    asked.resume();
    if (asked.method !== 'GET' && asked.method !== 'HEAD') {
      response.writeHead(405, { allow: 'GET, HEAD' }).end();
      return;
    }
    const { ok, body } = answer();
    response.writeHead(ok ? 200 : 503, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`);
  });
  server.maxConnections = MOST_CONNECTIONS;
  server.on('clientError', (_, socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const place = isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
      reject(new Failure(error.code === 'EADDRINUSE' ? `--health: ${place} is in use: give another port, or stop what holds it.` : `--health: can't listen on ${place}: ${error.message}`));
    });
    server.listen(port, address, resolve);
  });
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
