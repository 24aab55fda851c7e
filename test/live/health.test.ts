/** Instances that die under traffic, each kind of health, each encapsulation and port: the stream is taken over, nothing else is. How long it takes is in docs/failures.md. */
import t from 'tap';
import { measured, type FailoverPlan } from '../support/failover.js';
import { Lab } from '../support/lab.js';

const lab = await Lab.up();
t.teardown(() => lab.down());

const CASES: readonly (readonly [claim: string, plan: FailoverPlan, cause: RegExp])[] = [
  ['a probe', { health: '{probe: true}' }, /^probe: no answer within 500 ms/],
  ['a probe behind geneve', { health: '{probe: true, interval: 100ms}', encapsulation: 'geneve' }, /^probe: no answer within 100 ms/],
  ['a probe on the pcap port', { health: '{probe: true, interval: 100ms}', port: 'pcap' }, /^probe: no answer within 100 ms/],
  ['a TCP connection', { health: '{tcp: 8080, interval: 100ms}' }, /^tcp 8080: connection refused/],
  ['an HTTP request', { health: '{http: {port: 8080}, interval: 100ms}' }, /^http 8080\/: connection re/],
  ['what traffic shows', { health: '{passive: true}' }, /says "unreachable"|nothing returned/],
  ['a TCP connection, and a host that is gone', { health: '{tcp: 8080, interval: 100ms}', end: 'link down' }, /^tcp 8080: (no answer within 100 ms|no route to host)/],
];

for (const [claim, plan, cause] of CASES) {
  await t.test(`${claim} finds out that an instance has died`, async (t) => {
    const { takenOverMs, lost, twice, cause: said, backMs } = await measured(lab, plan, (line) => t.comment(line));
    t.match(said, cause);
    t.ok(takenOverMs > 0 && takenOverMs < 20_000, `taken over after ${takenOverMs.toFixed(0)} ms`);
    t.ok(lost > 0 && lost <= takenOverMs * 1.5 + 200, `${lost} packets lost`);
    t.equal(twice, 0, 'no packet twice');
    t.ok(backMs < 60_000, `back after ${backMs.toFixed(0)} ms`);
  });
}
