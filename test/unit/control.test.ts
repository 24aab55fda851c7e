import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { Socket, connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pino } from 'pino';
import t from 'tap';
import { ControlClient } from '../../src/control/client.js';
import { peerOf } from '../../src/control/peer.js';
import { ControlServer } from '../../src/control/server.js';
import type { Who } from '../../src/observe/who.js';
import { steerAll } from '../support/configuration.js';
import { udp } from '../support/packets.js';
import { simulate } from '../support/sim.js';

const directory = mkdtempSync(join(tmpdir(), 'weir-control-'));
const path = join(directory, 'nested', 'weir.sock');
const said: Record<string, unknown>[] = [];
const log = pino({}, { write: (line) => void said.push(JSON.parse(line) as Record<string, unknown>) });
const simulation = await simulate(steerAll(), 1000, log);
const { dataplane, network } = simulation;
network.inject(1, udp());
network.advance(1_000_000n);
const shutdowns: string[] = [];
const options = { path, mode: 0o600, dataplane, log, shutdown: (who: Who) => void shutdowns.push(String(who)) };
const server = await ControlServer.listen(options);
t.teardown(async () => {
  await server.close();
  await dataplane.stop();
  rmSync(directory, { recursive: true });
});

/** As the kernel sees this process. */
const me = `${userInfo().username}, uid ${userInfo().uid}, pid ${process.pid}`;

/** A raw connection: lines out, parsed lines in. */
async function raw(): Promise<{ socket: Socket; say: (line: string) => void; hear: () => Promise<Record<string, unknown> & { error?: { code: number; message: string; data?: unknown } }> }> {
  const socket = connect(path);
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  await new Promise<void>((resolve) => socket.once('connect', resolve));
  return {
    socket,
    say: (line) => void socket.write(`${line}\n`),
    hear: async () => JSON.parse(String((await lines.next()).value)) as Record<string, unknown>,
  };
}

const request = (id: number, method: string, params?: unknown): string => JSON.stringify({ jsonrpc: '2.0', id, method, params });

t.test('the socket has the mode that was asked for', async (t) => t.equal(statSync(path).mode & 0o777, 0o600));

t.test('every malformed request is answered by an error, and the connection stays', async (t) => {
  const { socket, say, hear } = await raw();
  const cases: readonly (readonly [line: string, code: number, message: RegExp])[] = [
    ['not json', -32700, /not JSON/],
    ['"text"', -32600, /a request is/],
    ['[]', -32600, /at least one/],
    ['{"id": 1, "method": "status"}', -32600, /a request is/],
    ['{"jsonrpc": "2.0", "id": {}, "method": "status"}', -32600, /a request is/],
    [request(1, 'nonsense'), -32601, /there is no method "nonsense"; there are: status/],
    [request(1, '__proto__'), -32601, /there is no method/],
    [request(1, 'status', [1]), -32602, /by name/],
    [request(1, 'flows', { limit: 'many', colour: 1 }), -32602, /^flows: colour: unknown key; known keys: chain, instance, address, .*; limit: expected a whole number from 1 to 100000, found "many"$/],
    [request(1, 'flows', { chain: 'inspct' }), -32000, /there is no chain "inspct"; did you mean "inspect"\?/],
    [request(1, 'flows', { chain: 'x' }), -32000, /there is no chain "x"; there are: inspect/],
    [request(1, 'flows', { instance: 'firewall' }), -32000, /there is no instance "firewall"; (there are: firewall\/fw-1, |did you mean "firewall\/fw-1")/],
    [request(1, 'flows', { address: '10.1' }), -32602, /address: expected a whole IP address such as .*, found "10\.1"/],
    [request(1, 'flows', { address: '10.1.0.0/16' }), -32602, /address: expected a whole IP address/],
    [request(1, 'chain.set', { chain: 'inspect' }), -32602, /the key "services" is missing/],
    [request(1, 'chain.set', { chain: 'nope', services: [] }), -32000, /there is no chain "nope"; there are: inspect/],
    [request(1, 'chain.set', { chain: 'inspect', services: ['firewall', 'firewall'] }), -32000, /twice/],
    [request(1, 'chain.set', { chain: 'inspect', services: ['nope'] }), -32000, /there is no service "nope"/],
    [request(1, 'instance.set', { service: 'ids', instance: 'nope', state: 'up' }), -32000, /it has: ids-1, ids-2/],
    [request(1, 'instance.set', { service: 'ids', instance: 'ids-1', state: 'gone' }), -32602, /state: expected one of up, draining, down, found "gone"/],
    [request(1, 'instance.set', { service: 'ids', instance: 'ids-1', state: 'draining', deadline: '5' }), -32602, /deadline: expected a duration with its unit, such as 500ms, .*, found "5"/],
    [request(1, 'chain.insert', { chain: 'inspect', service: 'added', aftr: 'ids' }), -32602, /aftr: unknown key; did you mean "after"\?/],
    [request(1, 'load.set', { service: 'ids', instance: 'ids-1' }), -32000, /no figure is given: at least one of cpu, packets_per_second, bytes_per_second, streams, queue/],
    [request(1, 'trace', { protocol: 'tcp', source: 'here', destination: '10.0.0.1' }), -32602, /source: expected an IP address, found "here"/],
    [request(1, 'subscribe', { events: 'config' }), -32602, /events: expected a list, found "config"/],
    [request(1, 'subscribe', { events: [] }), -32602, /events: expected at least one entry, found an empty list/],
    [request(1, 'subscribe', { events: ['config', 'nope'] }), -32602, /events\[1\]: expected one of config, path, instance/],
    [request(1, 'subscribe', { kinds: ['config'] }), -32602, /kinds: unknown key/],
    [request(1, 'events', { limit: 201 }), -32602, /limit: expected a whole number from 0 to 200, found 201/],
    [request(1, 'events', { since: -1 }), -32602, /since: expected a whole number of at least 0, found -1/],
    ['x'.repeat(64 * 1024 * 1024 + 1), -32001, /at most/],
  ];
  for (const [line, code, message] of cases) {
    say(line);
    const { error } = await hear();
    t.equal(error?.code, code, line.slice(0, 60));
    t.match(error?.message, message);
  }
  say(request(7, 'status'));
  t.match(await hear(), { id: 7, result: { generation: 1 } });
  socket.end();
});

t.test('pipelined requests are answered in order, notifications not at all, batches together', async (t) => {
  const { socket, say, hear } = await raw();
  say([1, 2, 3].map((id) => request(id, 'status')).join('\n'));
  for (const id of [1, 2, 3]) t.equal((await hear())['id'], id);
  say('{"jsonrpc": "2.0", "method": "status"}');
  say(`[${request(4, 'status')}, {"jsonrpc": "2.0", "method": "status"}, ${request(5, 'nope')}]`);
  t.match(await hear(), [{ id: 4, result: {} }, { id: 5, error: { code: -32601 } }]);
  socket.end();
});

t.test('a request may come in pieces', async (t) => {
  const { socket, hear } = await raw();
  const line = `${request(9, 'status')}\n`;
  for (const byte of line) socket.write(byte);
  t.equal((await hear())['id'], 9);
  socket.end();
});

t.test('the methods answer in names', async (t) => {
  const client = await ControlClient.connect(path);
  t.match(await client.call('flows'), { flows: [{ capture: 'web', protocol: 'udp', source: '10.1.0.2', sourcePort: 40000, chain: 'inspect', instances: [/^firewall\/fw-/, /^ids\/ids-/] }], more: false });
  t.strictSame(await client.call('flows', { protocol: 'tcp' }), { flows: [], more: false });
  t.match(await client.call('flows', { address: '::ffff:10.1.0.2', chain: 'inspect' }), { flows: [{ source: '10.1.0.2' }] }, 'however an address is written');
  t.match(await client.call('chains'), [{ name: 'inspect', services: ['firewall', 'ids'], paths: [{ id: 1, version: 1, current: true, streams: 1, spi: { forward: 2, answers: 3 } }] }]);
  t.match(await client.call('services'), [{ name: 'firewall', instances: [{ name: 'fw-1', state: 'up' }, { name: 'fw-2' }] }, { name: 'ids' }, { name: 'added' }]);
  t.match(await client.call('stats'), { captured: { packets: 1 }, delivered: { packets: 1 }, policies: [{ name: 'all', packets: 1, streams: 1 }] });
  t.match(await client.call('trace', { protocol: 'udp', source: '10.1.0.2', source_port: 40000, destination: '10.2.0.2', destination_port: 53 }), {
    action: 'chain', policy: 'all', chain: 'inspect', considered: [{ policy: 'all', verdict: 'wins' }], hops: [{ service: 'firewall' }, { service: 'ids' }], live: { packets: 1 },
  });
  t.match(await client.call('chain.set', { chain: 'inspect', services: ['ids'], existing: 'move' }), { generation: 2 });
  t.match(await client.call('instance.set', { service: 'ids', instance: 'ids-1', state: 'draining', deadline: '10s' }), { generation: 3 });
  t.match(await client.call('status'), { generation: 3 });
  await client.call('shutdown');
  t.strictSame(shutdowns, [me]);
  client.close();
});

t.test('a change says who asked: in its answer, the log and the event', async (t) => {
  const client = await ControlClient.connect(path);
  const heard: unknown[] = [];
  client.notified((_, event) => heard.push(event));
  await client.call('subscribe', { events: ['instance'] });
  const answer = await client.call<{ generation: number }>('instance.set', { service: 'firewall', instance: 'fw-2', state: 'down' });
  t.match(answer, { changed: 'instance firewall/fw-2 is now down', who: me });
  await client.call('status'); // whose answer comes behind the event
  t.match(said.at(-1), { level: 30, generation: answer.generation, who: { uid: userInfo().uid, pid: process.pid }, msg: `instance firewall/fw-2 is now down (${me})` });
  t.match(heard, [{ kind: 'instance', instance: 'firewall/fw-2', state: 'down', cause: 'set', generation: answer.generation, who: { uid: userInfo().uid, gid: userInfo().gid, pid: process.pid } }]);
  client.close();
});

t.test('a peer that stays unknown is served under the name of its connection', async (t) => {
  t.equal(String(peerOf(new Socket(), 'control connection 1').who), 'control connection 1');
  const tcp = createServer().listen(0, '127.0.0.1');
  await once(tcp, 'listening');
  const socket = connect((tcp.address() as AddressInfo).port, '127.0.0.1');
  await once(socket, 'connect');
  t.equal(String(peerOf(socket, 'control connection 2').who), 'control connection 2', 'TCP has no credentials');
  socket.destroy();
  tcp.close();
});

t.test('changes are one request each; what is refused is told with its places, and a stale generation with the one in force', async (t) => {
  await dataplane.upkeep(Date.now() + 60_000); // forgets the paths that earlier tests have emptied, which counts as a change
  const client = await ControlClient.connect(path);
  const { generation, document } = await client.call<{ generation: number; document: Record<string, unknown> }>('config.get');
  t.equal(generation, dataplane.generation);
  t.match(document, { chains: { inspect: { services: Array } } });
  const refused = async (method: string, params: object): Promise<unknown> => client.call(method, params).catch((error: unknown) => error);
  t.match(await refused('config.apply', { document: { ...document, default: 'maybe', chains: { inspect: ['nope'] } } }), {
    code: -32000,
    data: { path: String, errors: [{ path: 'default', message: /expected pass or drop/ }, { path: 'chains.inspect[0]', message: /there is no service "nope"/ }] },
  });
  t.match(await refused('config.patch', { patch: { workers: 3 } }), { code: -32000, data: { errors: [{ path: 'workers', message: /restart/ }] } });
  t.match(await refused('policy.remove', { policy: 'all', if_generation: generation - 1 }), { code: -32002, message: /generation/, data: { generation } });
  t.match(await refused('instance.weight', { service: 'ids', instance: 'ids-1', weight: 0 }), { code: -32602 });
  t.match(await refused('config.apply', { document: [] }), { code: -32602 });
  t.equal(dataplane.generation, generation);

  t.match(await client.call('config.patch', { patch: { default: 'drop', policies: null, chains: { inspect: null } }, dry_run: true }), { generation, dry_run: true, changes: ['chain inspect removed, its live streams end on it', 'policy removed: all', 'default pass is now drop'] });
  t.match(await client.call('chain.insert', { chain: 'inspect', service: 'added', before: 'ids', existing: 'move', if_generation: generation }), { generation: generation + 1, changed: 'chain inspect is now [added, ids], existing streams move', dry_run: false });
  t.match(await client.call('config.apply', { document }), { generation: generation + 2, changes: ['chain inspect is now [ids], existing streams keep'] });
  t.match(await client.call('config.get'), { document });
  client.close();
});

t.test('a second server is refused while one answers, and replaces a stale socket', async (t) => {
  await t.rejects(ControlServer.listen(options), /another weir answers on/);
  const stale = join(directory, 'stale.sock');
  const dead = createServer();
  await new Promise<void>((resolve) => dead.listen(stale, resolve));
  // Closing removes the file; a crash does not: leave one that nobody listens on.
  await new Promise<void>((resolve) => dead.close(() => resolve()));
  writeFileSync(stale, '');
  const second = await ControlServer.listen({ ...options, path: stale });
  await second.close();
  t.notOk(existsSync(stale));
  writeFileSync(`${stale}.${process.pid}`, '', { mode: 0o600 });
  const third = await ControlServer.listen({ ...options, path: stale, replace: true });
  t.notOk(existsSync(`${stale}.${process.pid}`), 'nor is a successor kept from it by what one before left, whose number it has');
  await third.close();
});

t.test('a socket where no directory can be made', async (t) => {
  for (const path of ['/proc/nope/weir.sock', '/proc/nope/deeper/weir.sock']) await t.rejects(ControlServer.listen({ ...options, path }), { message: new RegExp(`^can't open the control socket ${path}: E[A-Z]+`) });
});

t.test('nobody there: the client says what to do', async (t) => {
  await t.rejects(ControlClient.connect(join(directory, 'none.sock')), /nothing listens on .*none.sock: is weir running\? Start it with/);
});

t.test('who is not let in is told whether by the socket or by a directory on the way', async (t) => {
  const place = join(directory, 'kept');
  const file = join(place, 'weir.sock');
  mkdirSync(place);
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(file, resolve));
  chmodSync(file, 0);
  // To root nothing is closed.
  const privileged = process.geteuid?.() === 0;
  const refusal = async (): Promise<string> => {
    if (privileged) process.seteuid?.(64_321);
    try {
      return await ControlClient.connect(file).then(() => 'it is let in', (error: unknown) => (error as Error).message);
    } finally {
      if (privileged) process.seteuid?.(0);
    }
  };
  chmodSync(directory, 0o755);
  chmodSync(place, 0o755);
  t.equal(await refusal(), `${file} does not admit you: ask for access (control.mode, control.read_only_group), or use sudo.`);
  chmodSync(place, 0o600);
  t.equal(await refusal(), `you can't enter ${place}, where the socket is: ask to be let in (its group, or its mode: \`weir doctor\` says what readers need), or use sudo.`);
  chmodSync(place, 0o755);
  await new Promise<void>((resolve) => other.close(() => resolve()));
});

t.test('a server that dies with a request unread: the client says that the connection is lost', async (t) => {
  const file = join(directory, 'dying.sock');
  const dying = createServer({ pauseOnConnect: true }, (socket) => void setImmediate(() => socket.destroy()));
  await new Promise<void>((resolve) => dying.listen(file, resolve));
  const client = await ControlClient.connect(file);
  await t.rejects(client.call('status', { padding: 'x'.repeat(1 << 20) }), /weir closed the connection/);
  await client.closed;
  await new Promise<void>((resolve) => dying.close(() => resolve()));
});
