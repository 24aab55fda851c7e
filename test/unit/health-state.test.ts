/** What is believed of an instance, in virtual time; and what traffic says of it. */
import fc from 'fast-check';
import t from 'tap';
import { PassiveWatch } from '../../src/health/passive.js';
import { failed, observe, trusted, unchecked, type HealthState } from '../../src/health/state.js';

const SETTINGS = { rise: 2, fall: 3 };

/** Feeds a line of checks, `+` answered and `-` missed, one each 100 ms; returns the state after each, `U` or `D`. */
function run(line: string, from: HealthState, startMs = 0, settings = SETTINGS): { readonly line: string; readonly state: HealthState; readonly nowMs: number } {
  let [state, nowMs, answered, missed, out] = [from, startMs, 0, 0, ''];
  for (const check of line) {
    nowMs += 100;
    [answered, missed] = check === '+' ? [answered + 1, 0] : [0, missed + 1];
    state = observe(state, { answered, missed, cause: check === '+' ? '' : 'tcp 8080: connection refused', latencyMs: check === '+' ? 1.5 : null }, settings, nowMs);
    out += state.up ? 'U' : 'D';
  }
  return { line: out, state, nowMs };
}

t.test('fall misses in a row make it down, rise answers in a row make it up', async (t) => {
  t.equal(run('+++--+--+---+++', unchecked(true, 0)).line, 'UUUUUUUUUUUDDUU');
  const { state } = run('+---', unchecked(true, 0));
  t.match(state, { up: false, sinceMs: 400, cause: 'tcp 8080: connection refused (3 in a row)', latencyMs: 1.5, checked: true });
  t.match(run('++', state, 400).state, { up: true, sinceMs: 600, cause: 'answers' });
});

t.test('at the start an instance is believed; one that comes later has to answer once', async (t) => {
  t.equal(run('--', unchecked(true, 0)).line, 'UU');
  t.equal(run('+', unchecked(false, 0)).line, 'U');
  t.equal(run('-+-++', unchecked(false, 0)).line, 'DDDDU', 'once it has missed, rise counts');
  t.match(run('---', unchecked(false, 0)).state.cause, /connection refused/);
});

t.test('since stands still while nothing changes', async (t) => {
  const { state } = run('---------', unchecked(true, 0));
  t.equal(state.sinceMs, 300);
});

t.test('one that keeps going down is held down, and let up again after some calm', async (t) => {
  let { state, nowMs } = run('+', unchecked(true, 0));
  let downs = 0;
  while (!state.held && downs < 20) {
    ({ state, nowMs } = run('---++', state, nowMs));
    downs++;
  }
  t.equal(downs, 4, 'the fourth time within seconds');
  t.notOk(state.up);
  t.match(state.cause, /^went down too often: held down until 1970-01-01T00:0\d/);
  const until = Date.parse(/until (.*)$/.exec(state.cause)?.[1] ?? '');
  t.notOk(run('+++', state, until - 1000).state.up);
  t.ok(run('++', state, until).state.up);
  t.ok(until - nowMs > 50_000 && until - nowMs < 180_000, `${until - nowMs} ms`);
  t.match(trusted(state, 'answers; no other instance is up', nowMs), { up: true, held: false });
});

t.test('what fails in use is down at once', async (t) => {
  const { state } = run('+++', unchecked(true, 0));
  t.match(failed(state, 'nothing returned for 1000 packets', 900), { up: false, sinceMs: 900, cause: 'nothing returned for 1000 packets' });
});

t.test('never up with fall misses behind it, never down with fewer, whatever comes', async () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 200 }), fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 }), (checks, rise, fall) => {
      let state = unchecked(true, 0);
      let [answered, missed, wasUp, nowMs] = [0, 0, true, 0];
      for (const ok of checks) {
        nowMs += 60_000; // calm enough not to be held down
        [answered, missed] = ok ? [answered + 1, 0] : [0, missed + 1];
        state = observe(state, { answered, missed, cause: 'x', latencyMs: null }, { rise, fall }, nowMs);
        if (state.held) return true;
        if (missed >= fall && state.up) return false;
        if (wasUp && !state.up && missed < fall) return false;
        if (!wasUp && state.up && answered < rise) return false;
        wasUp = state.up;
      }
      return true;
    }),
  );
});

t.test('passive: errors count since the last packet returned, silence from some packets and some time on', async (t) => {
  const settings = { unreachable: 3, silent: 100, recheckMs: 5000 };
  const watch = new PassiveWatch();
  t.equal(watch.look({ sent: 0, received: 0, unreachable: 0 }, settings, 0), null);
  t.equal(watch.look({ sent: 10, received: 0, unreachable: 2 }, settings, 100), null);
  t.match(watch.look({ sent: 11, received: 0, unreachable: 3 }, settings, 200), /unreachable.*3 times/);
  t.equal(watch.look({ sent: 12, received: 1, unreachable: 300 }, settings, 300), null, 'it returned one: errors are forged, or over');
  t.equal(watch.look({ sent: 12, received: 1, unreachable: 302 }, settings, 400), null);
  t.equal(watch.look({ sent: 200, received: 1, unreachable: 302 }, settings, 500), null, 'under way, perhaps');
  t.match(watch.look({ sent: 250, received: 1, unreachable: 302 }, settings, 950), /nothing returned for 238 packets/);
  watch.forget();
  t.equal(watch.look({ sent: 260, received: 1, unreachable: 302 }, settings, 1000), null);
  t.equal(watch.look({ sent: 1000, received: 1, unreachable: 400 }, { unreachable: null, silent: null, recheckMs: 1 }, 9000), null, 'off');

  // Of a mesh chain, and what ends one: nothing returns to weir, whether the instance works or not.
  const mesh = { unreachable: 3, silent: null, recheckMs: 5000 };
  const quiet = new PassiveWatch();
  const errors = (unreachable: number, ms: number): string | null => quiet.look({ sent: ms, received: 0, unreachable }, mesh, ms);
  t.strictSame([errors(5, 0), errors(6, 100), errors(7, 9000), errors(7, 19_000)], [null, null, null, null]);
  t.equal(errors(7, 19_001), null, 'now they are forgiven');
  t.strictSame([errors(8, 19_100), errors(9, 28_000)], [null, null], 'so these are two');
  t.match(errors(10, 37_000), /unreachable.*3 times/);
});
