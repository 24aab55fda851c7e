/** Runs the hooks that start and end instances: a program, or a request over HTTP. Whatever they do, it is over in time and the answer is small. */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import type { HookConfig } from '../config/scale.js';

export interface HookRequest {
  readonly action: 'add' | 'remove';
  readonly service: string;
  readonly instance: string;
  /** Null: the hook is to say it. */
  readonly address: string | null;
}

/** `address`: what the hook says it is, if it says so. */
export type HookOutcome = { readonly ok: true; readonly address: string | null } | { readonly ok: false; readonly cause: string };

/** Of what a hook says, the rest is not read. */
const MOST_BYTES = 16_384;
const MOST_CAUSE = 300;
/** What a hook leaves running may hold its output open: that is not waited for. */
const LAST_WORDS_MS = 100;

export async function runHook(hook: HookConfig, request: HookRequest, timeoutMs: number, ended: AbortSignal): Promise<HookOutcome> {
  try {
    return hook.kind === 'exec' ? await runProgram(hook.command, request, timeoutMs, ended) : await post(hook, request, timeoutMs, ended);
  } catch (error) {
    return { ok: false, cause: short((error as Error).message) };
  }
}

/** One line that is fit for a log and a terminal. */
const short = (text: string): string => text.replace(/[\p{Cc}\s]+/gu, ' ').trim().slice(0, MOST_CAUSE);

/** `{"address": …}` in the last line, or as the whole. What is no JSON object says nothing. */
function addressIn(text: string): string | null {
  for (const part of [text.trim().split('\n').at(-1) ?? '', text]) {
    try {
      const said = JSON.parse(part) as unknown;
      if (said !== null && typeof said === 'object' && 'address' in said) return String(said.address).slice(0, MOST_CAUSE);
    } catch {
      // Words for people.
    }
  }
  return null;
}

function environmentOf({ action, service, instance, address }: HookRequest): NodeJS.ProcessEnv {
  return { ...process.env, WEIR_ACTION: action, WEIR_SERVICE: service, WEIR_INSTANCE: instance, WEIR_ADDRESS: address ?? '' };
}

function runProgram([program = '', ...args]: readonly string[], request: HookRequest, timeoutMs: number, ended: AbortSignal): Promise<HookOutcome> {
  return new Promise((resolve) => {
    // A group of its own, so that one that hangs ends with everything it began.
    const child = spawn(program, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'], env: environmentOf(request) });
    const said = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      // The end of what it says counts: the cause of a failure, the address.
      child[name].on('data', (chunk: Buffer) => (said[name] = (said[name] + chunk.toString()).slice(-MOST_BYTES)));
      child[name].on('error', () => undefined);
    }
    const kill = (): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It is gone.
      }
    };
    const settle = (outcome: HookOutcome): void => {
      clearTimeout(timer);
      ended.removeEventListener('abort', abort);
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      resolve(outcome);
    };
    const abort = (): void => {
      kill();
      settle({ ok: false, cause: 'weir ended' });
    };
    const timer = setTimeout(() => {
      kill();
      settle({ ok: false, cause: `it took longer than ${timeoutMs / 1000} s and was ended` });
    }, timeoutMs);
    ended.addEventListener('abort', abort);
    child.once('error', (error: NodeJS.ErrnoException) => settle({ ok: false, cause: error.code === 'ENOENT' ? `there is no program ${program}` : error.code === 'EACCES' ? `${program} may not be executed` : short(error.message) }));
    child.once('exit', (code, signal) => {
      const over = (): void => {
        if (code === 0) return settle({ ok: true, address: addressIn(said.stdout) });
        const why = short(said.stderr.trim().split('\n').at(-1) ?? '');
        settle({ ok: false, cause: `${signal === null ? `it ended with ${code}` : `it was ended by ${signal}`}${why === '' ? '' : `: ${why}`}` });
      };
      // Timers that are late come before what waits to be read: that is looked for once more.
      const soon = setTimeout(() => setImmediate(over), LAST_WORDS_MS);
      child.once('close', () => {
        clearTimeout(soon);
        over();
      });
    });
  });
}

async function post({ url, tokenFile }: Extract<HookConfig, { kind: 'http' }>, request: HookRequest, timeoutMs: number, ended: AbortSignal): Promise<HookOutcome> {
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  if (tokenFile !== null) headers['authorization'] = `Bearer ${(await readFile(tokenFile, 'utf8')).trim()}`;
  const late = AbortSignal.timeout(timeoutMs);
  try {
    const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(request), redirect: 'error', signal: AbortSignal.any([late, ended]) });
    const text = await firstOf(response);
    return response.ok ? { ok: true, address: addressIn(text) } : { ok: false, cause: short(`status ${response.status}: ${text}`) };
  } catch (error) {
    if (late.aborted) return { ok: false, cause: `no answer within ${timeoutMs / 1000} s` };
    const { message, cause } = error as Error & { cause?: Error };
    return { ok: false, cause: short(cause?.message ?? message) };
  }
}

async function firstOf(response: Response): Promise<string> {
  let text = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk as Uint8Array, { stream: true });
    if (text.length >= MOST_BYTES) break;
  }
  return text.slice(0, MOST_BYTES);
}
