/** The loader of programs at its outer edge: whatever JavaScript hands it, it takes it or says what is wrong, and then still works. WEIR_PROGRAMS of them (3,000). */
import fc from 'fast-check';
import t from 'tap';
import { native, type NativeProgram } from '../../src/dataplane/native.js';
import { compile, replayFacts } from '../../src/program/compile.js';
import { newIds } from '../../src/program/ids.js';
import { EXAMPLE, valid } from '../support/configuration.js';
import { udp } from '../support/packets.js';

const RUNS = Number(process.env['WEIR_PROGRAMS'] ?? 3000);
const configuration = valid(EXAMPLE);
const good = compile(configuration, newIds(), replayFacts(configuration));

const odd = fc.oneof(
  fc.constantFrom(undefined, null, true, '', 'x', '10.0.0.1', '::', '02:00:00:00:00:01', NaN, Infinity, -1, 0, 1, 1.5, 255, 4095, 65_535, 65_536, 2 ** 24, 2 ** 31, 2 ** 32, 2 ** 53, -(2 ** 53)),
  fc.constantFrom([], {}, [null], [[]], [1, 2], new Uint8Array(0), new Uint8Array(1), new Uint8Array(63), new Uint8Array(64), new Uint8Array(64).fill(255), new Uint8Array(128).fill(7)),
  fc.integer(),
  fc.string({ maxLength: 20 }),
);

/** A copy in which something at some depth is another thing. */
function damaged(value: unknown, path: readonly number[], by: unknown): unknown {
  const [next, ...rest] = path;
  if (next === undefined || typeof value !== 'object' || value === null || value instanceof Uint8Array) return by;
  const keys = Object.keys(value);
  const key = keys[next % Math.max(1, keys.length)];
  if (key === undefined) return by;
  const copy = (Array.isArray(value) ? [...(value as unknown[])] : { ...value }) as Record<string, unknown>;
  copy[key] = damaged(copy[key], rest, by);
  return copy;
}

t.test('a damaged program is taken or refused with a reason, and the engine goes on', (t) => {
  const engine = new native.Engine({ flowsMax: 64 });
  engine.install(good);
  let now = 1n;
  let refused = 0;
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.array(fc.nat(30), { minLength: 1, maxLength: 4 }), odd), { minLength: 1, maxLength: 3 }), (damages) => {
      const program = damages.reduce<unknown>((of, [path, by]) => damaged(of, path, by), good) as NativeProgram;
      try {
        engine.install(program);
      } catch (error) {
        refused++;
        if (!(error instanceof Error) || error.message.length < 5) throw new Error(`refused without a reason: ${String(error)}`);
      }
      for (const port of [0, 1, 2]) engine.process(now++, port, udp());
      const { captured, returned, stamped, delivered, crossed, cut, dropped, held } = engine.counters();
      const gone = stamped.packets + delivered.packets + crossed.packets + held + Object.values(dropped).reduce((sum, n) => sum + n, 0);
      if (captured.packets + returned.packets + cut !== gone) throw new Error('a packet is not accounted for');
    }),
    { numRuns: RUNS },
  );
  t.ok(refused > RUNS / 10, `${refused} of ${RUNS} were refused`);
  engine.install(good);
  t.equal(engine.process(now, 1, udp()).length, 1);
  t.end();
});
