/** Events over a real control socket: who gets which, in what order, and what becomes of a client that does not read. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { ControlClient } from '../../src/control/client.js';
import { ControlServer } from '../../src/control/server.js';
import { MOST_WAITING_BYTES, MOST_WAITING_EVENTS } from '../../src/control/subscription.js';
import { EVENT_KINDS, type WeirEvent } from '../../src/observe/events.js';
import { steerAll } from '../support/configuration.js';
import { simulate } from '../support/sim.js';

const directory = mkdtempSync(join(tmpdir(), 'weir-events-'));
const path = join(directory, 'weir.sock');
const { dataplane } = await simulate(steerAll());
const said: Record<string, unknown>[] = [];
const log = pino({}, { write: (line) => void said.push(JSON.parse(line) as Record<string, unknown>) });
const server = await ControlServer.listen({ path, mode: 0o600, dataplane, log, shutdown: () => undefined });
t.teardown(async () => {
  await server.close();
  await dataplane.stop();
  rmSync(directory, { recursive: true });
});

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function until(condition: () => boolean): Promise<void> {
  for (const end = Date.now() + 20_000; !condition(); await settled()) if (Date.now() > end) throw new Error('timed out');
}

/** A client that keeps the events it hears. */
async function listener(events?: readonly string[]): Promise<{ client: ControlClient; heard: WeirEvent[]; answer: unknown }> {
  const client = await ControlClient.connect(path);
  const heard: WeirEvent[] = [];
  client.notified((method, params) => method === 'event' && heard.push(params as WeirEvent));
  return { client, heard, answer: await client.call('subscribe', events === undefined ? {} : { events }) };
}

t.test('each subscriber gets the kinds it asked for, in order, until it no longer wants them', async (t) => {
  const { last } = dataplane.events;
  const all = await listener();
  const some = await listener(['ring', 'offload']);
  t.strictSame(all.answer, { events: EVENT_KINDS, last });
  t.strictSame(some.answer, { events: ['ring', 'offload'], last });
  for (let i = 1; i <= 300; i++) {
    if (i % 3 === 0) dataplane.events.emit({ kind: 'offload', cause: 'no segmentation offload', interface: `if${i}` });
    else dataplane.events.emit({ kind: 'config', cause: `edit ${i}` }, 'test');
  }
  await until(() => all.heard.length >= 300 && some.heard.length >= 100);
  t.strictSame(all.heard.map((event) => event.sequence), Array.from({ length: 300 }, (_, i) => last + 1 + i));
  t.strictSame(some.heard.map((event) => event.sequence), Array.from({ length: 100 }, (_, i) => last + 3 + 3 * i));
  t.match(all.heard[0], { kind: 'config', cause: 'edit 1', generation: dataplane.generation, who: { name: 'test' }, time: /^\d{4}-\d\d-\d\dT.*Z$/ });

  t.strictSame(await some.client.call('subscribe', { events: ['config'] }), { events: ['config'], last: last + 300 }, 'another wish replaces the one before');
  t.strictSame(await all.client.call('unsubscribe'), { events: [] });
  dataplane.events.emit({ kind: 'config', cause: 'the last' });
  await until(() => some.heard.length > 100);
  t.match(some.heard.at(-1), { cause: 'the last' });
  t.equal(all.heard.length, 300);
  t.match(await all.client.call('events', { since: last + 299, events: ['config'] }), { last: last + 301, missed: 0, events: [{ cause: 'the last' }] });
  t.match(await all.client.call('events', { limit: 2 }), { missed: last + 101, events: [{ sequence: last + 300 }, { sequence: last + 301 }] });
  all.client.close();
  some.client.close();
});

t.test('who never reads is cut off, with bounded memory and a line in the log; the others get every event', async (t) => {
  const EVENTS = 100_000;
  const readers = [await listener(['config']), await listener()];
  const deaf = connect(path);
  await once(deaf, 'connect');
  deaf.write('{"jsonrpc": "2.0", "id": 1, "method": "subscribe"}\n');
  await once(deaf, 'data');
  deaf.pause();
  const { last } = dataplane.events;
  for (let i = 0; i < EVENTS; i++) {
    dataplane.events.emit({ kind: 'config', cause: `edit ${i}` });
    if (i % 500 === 499) await until(() => readers.every(({ heard }) => heard.length === i + 1));
  }
  for (const { heard } of readers) {
    t.equal(heard.length, EVENTS);
    t.ok(heard.every((event, i) => event.sequence === last + 1 + i), 'in order');
  }
  const cuts = said.filter((line) => /did not read its events and was cut off/.test(String(line['msg'])));
  t.equal(cuts.length, 1);
  const { events, bytes } = cuts[0]?.['waiting'] as { events: number; bytes: number };
  t.ok(events <= MOST_WAITING_EVENTS + 1 && bytes <= MOST_WAITING_BYTES + 1024, `${events} events, ${bytes} bytes`);
  t.match(cuts[0], { level: 40, who: { pid: process.pid } });
  let received = 0;
  deaf.on('data', (chunk: Buffer) => (received += chunk.length));
  deaf.resume();
  await once(deaf, 'close');
  t.ok(received < 1024 * 1024, `${received} bytes were in its socket`);
  for (const { client } of readers) client.close();
});
