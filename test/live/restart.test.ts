/** Live streams after kill -9 and after a clean stop: each is with its instances, as the captures at the instances show. */
import t from 'tap';
import { Lab, until } from '../support/lab.js';
import { prove } from '../support/proof.js';
import { HOSTS, STREAMS, Streams, ofPorts, routes, seconds, serviceOf } from '../support/streams.js';

const lab = await Lab.up();
t.teardown(() => lab.down());
await Streams.first(await lab.nodes('pass'));
const streams = new Streams(lab);

await t.test('kill -9 under traffic: the next process has every stream with its instances, on its old path', async (t) => {
  const { weir, again } = await streams.beginWithOne();
  const old = await streams.datagrams(7001, 30_000);
  const tcp = await streams.bulk();
  await streams.changeUnderneath();
  const before = await streams.captureAll();
  await streams.more(2000);
  const seenBefore = await before.stop();
  const codes = await streams.codes(30_000);

  await weir.stop('SIGKILL');
  const next = await again();
  t.match(next.output(), /"kept":\d+.*\d+ live streams go on/);
  const adopted = Number(/(\d+) live streams go on/.exec(next.output())?.[1]);
  t.ok(adopted >= STREAMS + 1, `${adopted} streams adopted`);
  const after = await streams.captureAll();
  const fresh = await streams.datagrams(7002, 31_000);
  const at = seconds(tcp.running);
  await until('TCP to go on', () => seconds(tcp.running) > at + 3, 30_000);
  const { twice } = await old.stop();
  const freshCounts = await fresh.stop();
  await tcp.stop();
  const known = await streams.paths();
  const seenAfter = await after.stop();

  const were = routes(seenBefore, ofPorts(30_000));
  const are = routes(seenAfter, ofPorts(30_000));
  t.ok(were.size >= STREAMS + 1, `${were.size} streams`);
  // Of TCP's two connections one is silent most of the time: it may be seen after the kill only.
  t.strictSame([...are].filter(([stream]) => were.has(stream)), [...were], 'each stream has the instances and the path it had');
  t.strictSame([...new Set(were.values())], ['fw1 on path 1, ids1 on path 1']);
  t.equal(twice, 0);
  // What opens now is spread over all instances, on the new path: so the pins were proved, not the hash.
  const news = routes(seenAfter, ofPorts(31_000));
  const places = new Set([...news].filter(([stream]) => stream.startsWith('17 ')).flatMap(([, where]) => where.split(', ').map((place) => place.split(' ')[0])));
  t.strictSame([...places].sort(), [...HOSTS].sort(), 'new streams are at every instance');
  t.ok(freshCounts.received > 0, `${freshCounts.received} of ${freshCounts.sent} datagrams of new streams arrived`);
  // Packets that were between two hops when the captures began have no first one.
  t.strictSame(prove(seenAfter, known, serviceOf).violations.filter((violation) => !violation.includes('without hop')).slice(0, 3), []);
  t.strictSame(await streams.codes(30_000), codes, 'codes are made with the same key');
  const { dropped } = await lab.ask<{ dropped: Record<string, number> }>('stats');
  t.strictSame(Object.entries(dropped).filter(([reason, n]) => n > 0 && reason !== 'return_unknown_stream'), []);
  await next.stop();
});

await t.test('a clean stop keeps streams too; --fresh-flows does not; where there is no room it says so', async (t) => {
  const { weir, again } = await streams.beginWithOne();
  const old = await streams.datagrams(7005, 34_000);
  t.equal((await weir.stop()).code, 0);
  const next = await again();
  t.ok(Number(/(\d+) live streams go on/.exec(next.output())?.[1]) >= STREAMS, next.output());
  await next.stop();
  const fresh = await again('--fresh-flows');
  t.match(fresh.output(), /no live streams are taken over: it was asked to start empty/);
  await fresh.stop();
  await old.stop();
});
