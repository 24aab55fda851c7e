/** Checks over real sockets, how they are repeated, and how what they find is told. */
import { createServer as createHttp } from 'node:http';
import { createServer, type AddressInfo, type Server } from 'node:net';
import t from 'tap';
import type { HealthConfig, ServiceConfig } from '../../src/config/configuration.js';
import { ActiveCheck } from '../../src/health/active.js';
import { runCheck } from '../../src/health/check.js';
import { HealthMonitor, type HealthChange } from '../../src/health/monitor.js';
import { startResponder } from '../../src/health/responder.js';
import { Slots } from '../../src/health/slots.js';
import type { Observation } from '../../src/health/state.js';
import { until } from '../support/lab.js';

const HOST = '127.0.0.1';
const listening = async (server: Server): Promise<number> => {
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
  return (server.address() as AddressInfo).port;
};
const closed = (server: Server): Promise<void> => new Promise((resolve) => server.close(() => resolve()));
const range = (low: number, high = low) => ({ low, high });

/** A port that nobody listens on. */
async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listening(server);
  await closed(server);
  return port;
}

t.test('tcp: accepted, refused, out of reach', async (t) => {
  const server = createServer((socket) => socket.on('error', () => undefined).resume());
  const port = await listening(server);
  t.match(await runCheck({ kind: 'tcp', port }, HOST, 1000), { ok: true, latencyMs: Number });
  await closed(server);
  t.strictSame(await runCheck({ kind: 'tcp', port }, HOST, 1000), { ok: false, cause: 'connection refused' });
  t.strictSame(await runCheck({ kind: 'tcp', port }, 'fe80::1', 1000).then(({ ok }) => ok), false, 'an address that nothing leads to');
});

t.test('http: the status decides; slow, broken and endless answers are none', async (t) => {
  const paths: string[] = [];
  const server = createHttp((asked, response) => {
    paths.push(asked.url ?? '');
    if (asked.url === '/slow') return;
    if (asked.url === '/endless') {
      response.writeHead(200);
      const feed = setInterval(() => response.write('x'.repeat(1000)), 1);
      response.on('close', () => clearInterval(feed));
      return;
    }
    response.writeHead(Number(asked.url?.slice(1))).end('body');
  });
  const port = await listening(server);
  const check = (path: string, status = range(200, 299), timeoutMs = 2000) => runCheck({ kind: 'http', port, path, status }, HOST, timeoutMs);
  t.ok((await check('/200')).ok);
  t.ok((await check('/204')).ok);
  t.strictSame(await check('/503'), { ok: false, cause: 'status 503' });
  t.ok((await check('/503', range(503))).ok);
  t.ok((await check('/endless')).ok, 'its head is enough');
  t.strictSame(await check('/slow', range(200), 60), { ok: false, cause: 'no answer within 60 ms' });
  t.strictSame(paths, ['/200', '/204', '/503', '/503', '/endless', '/slow']);
  server.closeAllConnections();
  await closed(server);
  t.strictSame(await check('/200'), { ok: false, cause: 'connection refused' });

  const babbler = createServer((socket) => socket.on('error', () => undefined).resume().end('220 smtp.example.com\r\n'));
  const babbling = await listening(babbler);
  const nonsense = await runCheck({ kind: 'http', port: babbling, path: '/', status: range(200) }, HOST, 2000);
  t.notOk(nonsense.ok);
  await closed(babbler);
});

t.test('an answer that came while this process was kept busy still counts', async (t) => {
  const server = createServer((socket) => socket.on('error', () => undefined).resume());
  const port = await listening(server);
  const outcome = runCheck({ kind: 'tcp', port }, HOST, 20);
  const end = performance.now() + 100;
  while (performance.now() < end); // nothing else runs
  t.ok((await outcome).ok);
  await closed(server);
});

t.test('there are never more checks at a time than slots, and each gets its turn', async (t) => {
  const slots = new Slots(3);
  let [running, most] = [0, 0];
  const order: number[] = [];
  await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      slots.run(async () => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setImmediate(resolve));
        order.push(i);
        running--;
        if (i === 5) throw new Error('a check that fails gives its slot back');
      }).catch(() => undefined),
    ),
  );
  t.equal(most, 3);
  t.strictSame(order, Array.from({ length: 20 }, (_, i) => i));
  t.equal(slots.waited, 17);
});

t.test('a check is repeated until it is stopped, and counts in a row', async (t) => {
  const server = createServer((socket) => socket.on('error', () => undefined).resume());
  const port = await listening(server);
  const seen: Observation[] = [];
  const active = new ActiveCheck({ kind: 'tcp', port }, HOST, { intervalMs: 10, timeoutMs: 10 }, new Slots(1), (observation) => seen.push(observation), 0);
  t.teardown(() => active.stop());
  // The machine may be busy: a miss in between only begins the count anew.
  await until('three answers in a row', () => (seen.at(-1)?.answered ?? 0) >= 3);
  await closed(server);
  await until('three misses in a row', () => (seen.at(-1)?.missed ?? 0) >= 3);
  t.match(seen.at(-1), { answered: 0, cause: `tcp ${port}: connection refused` });
  active.stop();
  const count = seen.length;
  // One that goes on says when the time of several checks is over.
  let after = 0;
  const other = new ActiveCheck({ kind: 'tcp', port }, HOST, { intervalMs: 10, timeoutMs: 10 }, new Slots(1), () => after++, 0);
  t.teardown(() => other.stop());
  await until('five checks of another', () => after >= 5);
  t.equal(seen.length, count);
});

t.test('what checks ask of a node', async (t) => {
  let ok = true;
  const port = await freePort();
  const responder = await startResponder(HOST, port, () => ({ ok, body: { load: { cpu: 3 } } }));
  t.match(await (await fetch(`http://${HOST}:${port}/`)).json(), { load: { cpu: 3 } });
  ok = false;
  t.equal((await fetch(`http://${HOST}:${port}/`)).status, 503);
  t.equal((await fetch(`http://${HOST}:${port}/`, { method: 'POST', body: 'x' })).status, 405);
  await t.rejects(startResponder(HOST, port, () => ({ ok, body: {} })), /--health: 127\.0\.0\.1:\d+ is in use/);
  await responder.close();
  t.strictSame(await runCheck({ kind: 'tcp', port }, HOST, 1000), { ok: false, cause: 'connection refused' });
});

const service = (name: string, addresses: readonly string[], health: HealthConfig): ServiceConfig => ({
  name,
  instances: addresses.map((address, i) => ({ name: `i${i}`, address, attach: null, underlay: null, weight: 1 })),
  affinity: '5-tuple',
  onFailure: 'rebalance',
  fail: 'closed',
  balancer: 'forwarder',
  health,
  placement: null,
  scale: null,
  sync: 'off',
});
const FACTS = { signals: () => null, probes: () => null, idOf: () => 0, hasNeighbour: () => true };

t.test('a hundred instances that fail together are few calls, not hundreds', async (t) => {
  const port = await freePort();
  const calls: (readonly HealthChange[])[] = [];
  const monitor = new HealthMonitor({ now: () => Date.now() }, FACTS, (changes) => calls.push(changes));
  t.teardown(() => monitor.stop());
  const addresses = Array.from({ length: 100 }, (_, i) => `127.0.1.${i + 1}`);
  monitor.configure([service('s', addresses, { check: { kind: 'tcp', port }, passive: null, intervalMs: 20, timeoutMs: 20, rise: 2, fall: 3 })]);
  await until('all of them to be down', () => monitor.down.size === 100);
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(calls.reduce((sum, changes) => sum + changes.length, 0), 100);
  t.ok(calls.length <= 50, `${calls.length} calls`);
  t.match(monitor.view('s/i0'), { state: 'down', check: `tcp ${port} each 20 ms`, cause: /connection refused \(\d+ in a row\)/ });
  t.equal(monitor.view('s/other'), null);
});

t.test('passive alone: what fails is tried again, later each time that it fails at once', async (t) => {
  let nowMs = 0;
  let row = [0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
  const changes: string[] = [];
  const monitor = new HealthMonitor({ now: () => nowMs }, { ...FACTS, signals: () => Float64Array.from(row) }, (list) => changes.push(...list.map(({ up, cause }) => `${nowMs} ${up ? 'up' : 'down'}: ${cause}`)));
  t.teardown(() => monitor.stop());
  monitor.configure([service('s', ['10.0.0.1'], { check: null, passive: { unreachable: 3, silent: null, recheckMs: 5000 }, intervalMs: 500, timeoutMs: 500, rise: 2, fall: 3 })]);
  const look = async (ms: number, unreachable: number): Promise<void> => {
    nowMs = ms;
    row = [0, 5, row[2] ?? 0, 0, 0, 0, (row[6] ?? 0) + unreachable, 0, 0, 0];
    monitor.look();
    await new Promise((resolve) => setImmediate(resolve));
  };
  await look(1000, 0);
  await look(1100, 3);
  t.match(monitor.view('s/i0'), { state: 'down', check: 'passive' });
  await look(6000, 0);
  await look(6100, 0);
  t.equal(monitor.down.size, 0, 'on trial');
  await look(6200, 3);
  await look(12_000, 0);
  t.equal(monitor.down.size, 1, 'not yet: it failed at once');
  await look(16_200, 0);
  t.equal(monitor.down.size, 0);
  t.strictSame(changes.map((text) => text.slice(0, 12)), ['1100 down: i', '6100 up: on t', '6200 down: i', '16200 up: on'].map((text) => text.slice(0, 12)));
});

t.test('checks follow the configuration', async (t) => {
  const server = createServer((socket) => socket.on('error', () => undefined).resume());
  const port = await listening(server);
  const monitor = new HealthMonitor({ now: () => Date.now() }, FACTS, () => undefined);
  t.teardown(async () => {
    monitor.stop();
    await closed(server);
  });
  const settings: HealthConfig = { check: { kind: 'tcp', port }, passive: null, intervalMs: 10, timeoutMs: 10, rise: 2, fall: 3 };
  monitor.configure([service('s', [HOST], settings)]);
  t.equal(monitor.down.size, 0, 'what is there at the start is believed');
  monitor.configure([service('s', [HOST, '127.0.0.2'], settings)]);
  t.strictSame([...monitor.down], ['s/i1'], 'what comes later has to answer first');
  monitor.configure([service('s', ['127.0.0.2'], settings)]);
  t.equal(monitor.view('s/i1'), null);
  monitor.configure([]);
  t.equal(monitor.down.size, 0);
});
