/** What one client of the control socket can cost the others: batches, answers that are long or can't be written, clients that read nothing or go away. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { ControlClient } from '../../src/control/client.js';
import { ControlServer } from '../../src/control/server.js';
import { steerAll } from '../support/configuration.js';
import { simulate } from '../support/sim.js';

const POLICIES = 5000;
const directory = mkdtempSync(join(tmpdir(), 'weir-limits-'));
const said: Record<string, unknown>[] = [];
const log = pino({}, { write: (line) => void said.push(JSON.parse(line) as Record<string, unknown>) });
const policies = Array.from({ length: POLICIES }, (_, i) => `{name: policy-of-some-tenant-${i}, match: {protocol: tcp, source: 10.${i >> 8}.${i & 255}.0/24, destination_port: [80, 443, 8000-8100]}, chain: inspect}, `);
const { dataplane } = await simulate(steerAll().replace('policies: [', `policies: [${policies.join('')}`), 1000, log);
t.teardown(async () => {
  await dataplane.stop();
  rmSync(directory, { recursive: true });
});

interface Answer {
  readonly id: number | null;
  readonly result?: unknown;
  readonly error?: { readonly code: number; readonly message: string };
}

const request = (id: number, method: string, params?: unknown): object => ({ jsonrpc: '2.0', id, method, params });
const batch = (length: number, method: string): string => JSON.stringify(Array.from({ length }, (_, i) => request(i + 1, method)));

/** A raw connection: lines out, parsed lines in. */
async function raw(path: string): Promise<{ socket: Socket; say: (line: string) => void; hear: () => Promise<Answer | Answer[]> }> {
  const socket = connect(path);
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  await once(socket, 'connect');
  return { socket, say: (line) => void socket.write(`${line}\n`), hear: async () => JSON.parse(String((await lines.next()).value)) as Answer | Answer[] };
}

let servers = 0;
/** A server whose answers are made here. */
async function serving(t: Test, answer: (method: string, params: unknown) => unknown): Promise<string> {
  const path = join(directory, `${++servers}.sock`);
  const server = await ControlServer.serve({ path, mode: 0o600, log, events: dataplane.events, answer: (method, params) => Promise.resolve(answer(method, params)) });
  t.teardown(() => server.close());
  return path;
}

t.test('batches against a large document: too many requests are refused, too long an answer says to ask one by one', async (t) => {
  const path = join(directory, 'large.sock');
  const server = await ControlServer.listen({ path, mode: 0o600, dataplane, log, shutdown: () => undefined });
  t.teardown(() => server.close());
  const { socket, say, hear } = await raw(path);
  say(batch(1300, 'config.get'));
  t.match(await hear(), { id: null, error: { code: -32600, message: 'a batch holds at most 100 requests, and this one has 1300: send several' } });
  say(batch(100, 'config.get'));
  const answers = (await hear()) as Answer[];
  t.strictSame(answers.map(({ id }) => id), Array.from({ length: 100 }, (_, i) => i + 1), 'each has its answer');
  const whole = answers.filter(({ result }) => result !== undefined);
  t.ok(whole.length > 1 && whole.length < 20, `${whole.length} were answered`);
  t.match((whole[0]?.result as { document: { policies: unknown[] } }).document.policies.length, POLICIES + 1);
  for (const { error } of answers.slice(whole.length)) t.match(error, { code: -32001, message: /the answers of a batch have at most 4194304 bytes: send this request alone/ });
  say(JSON.stringify(request(7, 'status')));
  t.match(await hear(), { id: 7, result: { generation: 1 } });
  socket.destroy();
});

t.test('a notification needs no room in the answer, so it is done', async (t) => {
  const called: string[] = [];
  const path = await serving(t, (method) => (called.push(method), method === 'long' ? 'x'.repeat(5 << 20) : null));
  const { socket, say, hear } = await raw(path);
  say(JSON.stringify([request(1, 'long'), request(2, 'asked'), { jsonrpc: '2.0', method: 'told' }]));
  const [long, asked, ...others] = (await hear()) as Answer[];
  t.equal((long?.result as string).length, 5 << 20, 'the one that finds room is answered, however long');
  t.match(asked, { id: 2, error: { code: -32001 } });
  t.strictSame(others, []);
  t.strictSame(called, ['long', 'told'], 'what has no room is not done either');
  socket.destroy();
});

/** Keeps the thread busy: many of them are a batch that takes long. */
function work(): void {
  for (const end = performance.now() + 15; performance.now() < end; );
}

t.test('others are served while a batch is, and while many lines are', async (t) => {
  let worked = 0;
  const path = await serving(t, (method) => (method === 'work' ? (work(), ++worked) : worked));
  const other = await ControlClient.connect(path);
  for (const text of [batch(50, 'work'), Array.from({ length: 50 }, (_, i) => JSON.stringify(request(i, 'work'))).join('\n')]) {
    worked = 0;
    const { socket, say } = await raw(path);
    socket.resume();
    say(text);
    while (worked === 0) await turn();
    const seen = await other.call<number>('look');
    t.ok(seen < 50, `after ${seen} of 50`);
    socket.destroy();
    while ((await other.call<number>('look')) !== worked) await turn();
  }
  other.close();
});

t.test('nothing more is done for a client that is gone', async (t) => {
  let worked = 0;
  const path = await serving(t, (method) => (method === 'work' ? (work(), ++worked) : worked));
  const other = await ControlClient.connect(path);
  const { socket, say } = await raw(path);
  say(batch(100, 'work'));
  say(batch(100, 'work'));
  while (worked === 0) await turn();
  socket.destroy();
  let before = -1;
  // What goes on would go on with each turn.
  for (let same = 0; same < 20; ) {
    const now = await other.call<number>('look');
    same = now === before ? same + 1 : 0;
    before = now;
  }
  t.ok(worked < 100, `${worked} of 200 were done`);
  other.close();
});

t.test('an answer that can not be written is an internal error, and the connection stays', async (t) => {
  const tooLong = { toJSON: () => { throw new RangeError('Invalid string length'); } }; // as JSON.stringify beyond 512 MiB
  const path = await serving(t, (method) => (method === 'whole' ? 'fine' : method === 'nothing' ? Promise.reject(undefined as unknown as Error) : tooLong));
  const { socket, say, hear } = await raw(path);
  say(JSON.stringify(request(1, 'broken')));
  t.match(await hear(), { id: 1, error: { code: -32603, message: /the answer can't be written: Invalid string length/ } });
  say(JSON.stringify([request(2, 'whole'), request(3, 'broken'), request(4, 'nothing'), request(5, 'whole')]));
  t.match(await hear(), [{ id: 2, result: 'fine' }, { id: 3, error: { code: -32603 } }, { id: 4, error: { code: -32603 } }, { id: 5, result: 'fine' }]);
  t.match(said.filter(({ msg }) => msg === 'a control request failed').length, 3);
  socket.destroy();
});

t.test('of who reads nothing one answer is held and a bounded length of requests, and it gets all of them once it reads', async (t) => {
  const ANSWERS = 40;
  const PADDING = 'x'.repeat(1 << 20);
  let answered = 0;
  const path = await serving(t, (method) => (method === 'long' ? (answered++, PADDING) : answered));
  const other = await ControlClient.connect(path);
  const deaf = connect(path);
  await once(deaf, 'connect');
  deaf.pause();
  for (let i = 0; i < ANSWERS; i++) deaf.write(`${JSON.stringify(request(i, 'long', { padding: PADDING }))}\n`);
  let before = [-1, -1];
  for (let same = 0; same < 50; ) {
    const now = [await other.call<number>('look'), deaf.writableLength];
    same = now.join() === before.join() ? same + 1 : 0;
    before = now;
  }
  t.equal(answered, 1);
  t.ok(deaf.writableLength > (ANSWERS - 6) << 20, `${deaf.writableLength >> 20} MiB were not taken`);
  const lines = createInterface({ input: deaf });
  const heard: unknown[] = [];
  for await (const line of lines) if (heard.push((JSON.parse(line) as Answer).id) === ANSWERS) break;
  t.strictSame(heard, Array.from({ length: ANSWERS }, (_, i) => i));
  deaf.destroy();
  other.close();
});
