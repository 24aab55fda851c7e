/**
 * A service grows by hooks as its load rises and shrinks by draining as it falls, and no connection notices.
 * WEIR_SCALE_CONNECTIONS=2000 is the long run: streams have to be within 10 % of even then.
 */
import t from 'tap';
import { Lab } from '../support/lab.js';
import { scaling } from '../support/scaling.js';

const LONG_RUN = 2000;
const connections = Number(process.env['WEIR_SCALE_CONNECTIONS'] ?? 320);
const lab = await Lab.up();
t.teardown(() => lab.down());

await t.test('from one instance to four and back, under long and short TCP connections', async (t) => {
  const { churned, counts, streams, unevenPercent, seen, seenTwice, busy, droppedByTcpdump } = await scaling(lab, connections, (line) => t.comment(line));
  const opened = churned.opened.long + churned.opened.short;
  t.comment(`${opened} connections (${churned.opened.long} long); longest wait ${churned.longest_wait_ms} ms, ${churned.over_1s} over 1 s; streams ${streams.join(', ')}: ${unevenPercent.toFixed(1)} % off even; instances ${counts.join(' ')}`);
  t.ok(opened >= connections / 2, `${opened} connections: a slow machine opens fewer, not few`);
  t.strictSame(churned.failed, {}, 'none was reset, cut short or given up');
  t.equal(churned.completed, opened, 'each one said and heard all that it was to');
  t.equal(Math.max(...counts), 4);
  t.equal(counts.at(-1), 1);
  t.equal(streams.length, 4, 'four had streams');
  t.strictSame(seenTwice.slice(0, 3), [], 'each connection was seen by one instance only');
  if (droppedByTcpdump === 0) t.equal(seen, opened, 'and each by one');
  t.ok(busy >= 4, `${busy} instances had streams`);
  if (connections >= LONG_RUN) {
    t.ok(unevenPercent <= 10, `${unevenPercent.toFixed(1)} % off even`);
    t.equal(churned.over_1s, 0, `the longest wait took ${churned.longest_wait_ms} ms`);
  } else {
    t.ok(unevenPercent < 60, `${unevenPercent.toFixed(1)} % off even`);
    t.ok(churned.longest_wait_ms < 20_000, `the longest wait took ${churned.longest_wait_ms} ms`);
  }
});
