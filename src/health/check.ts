/** One check of an instance over a socket: does it accept a connection, does it answer with the right status. */
import { request, Agent } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { HealthCheck } from '../config/configuration.js';

export type Outcome = { readonly ok: true; readonly latencyMs: number } | { readonly ok: false; readonly cause: string };

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  EHOSTUNREACH: 'no route to host',
  ENETUNREACH: 'network unreachable',
  ECONNRESET: 'connection reset',
  EADDRNOTAVAIL: 'no local port left',
  EMFILE: 'no file descriptor left',
};

const reasonOf = (error: NodeJS.ErrnoException): string => REASONS[error.code ?? ''] ?? error.code ?? error.message;

type Settle = (outcome: Outcome) => void;

/** The check as it is named in causes: `tcp 8080`, `http 8080/healthz`, `probe`. */
export function nameOf(check: HealthCheck): string {
  if (check.kind === 'tcp') return `tcp ${check.port}`;
  return check.kind === 'http' ? `http ${check.port}${check.path}` : 'probe';
}

/** Resolves within `timeoutMs` and a turn of the event loop; never rejects. The socket is gone by then. */
export function runCheck(check: Exclude<HealthCheck, { kind: 'probe' }>, address: string, timeoutMs: number): Promise<Outcome> {
  return new Promise((resolve) => {
    const startedAt = performance.now();
    let over = false;
    let end: () => void = () => undefined;
    const settle: Settle = (outcome) => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      resolve(outcome);
      end();
    };
    // When this process was kept from running, the answer is there already: let it be read first.
    const timer = setTimeout(() => setImmediate(() => settle({ ok: false, cause: `no answer within ${timeoutMs} ms` })), timeoutMs);
    const good = (): void => settle({ ok: true, latencyMs: performance.now() - startedAt });
    const bad = (error: NodeJS.ErrnoException): void => settle({ ok: false, cause: reasonOf(error) });
    try {
      end = check.kind === 'tcp' ? tcp(address, check.port, good, bad) : http(address, check, settle, good, bad);
    } catch (error) {
      bad(error as NodeJS.ErrnoException);
    }
    if (over) end();
  });
}

/** A reset leaves no port of ours waiting for a minute, as a closed connection would: at a hundred checks a second they would run out. */
function drop(socket: Socket): void {
  socket.on('error', () => undefined);
  if (socket.connecting) socket.destroy();
  else socket.resetAndDestroy();
}

function tcp(address: string, port: number, good: () => void, bad: (error: NodeJS.ErrnoException) => void): () => void {
  const socket = connect({ host: address, port, noDelay: true });
  socket.once('connect', good).once('error', bad);
  return () => drop(socket);
}

/** Keeps nothing open between two checks: a connection that works says nothing of a listener that is gone. */
const agent = new Agent({ keepAlive: false, maxSockets: Infinity });

function http(address: string, check: Extract<HealthCheck, { kind: 'http' }>, settle: Settle, good: () => void, bad: (error: NodeJS.ErrnoException) => void): () => void {
  const asked = request({ host: address, port: check.port, path: check.path, agent, headers: { 'user-agent': 'weir-health' } });
  asked.once('response', ({ statusCode = 0 }) => {
    if (statusCode >= check.status.low && statusCode <= check.status.high) good();
    else settle({ ok: false, cause: `status ${statusCode}` });
  });
  asked.on('error', bad);
  asked.end();
  return () => {
    if (asked.socket) drop(asked.socket);
    asked.destroy();
  };
}
