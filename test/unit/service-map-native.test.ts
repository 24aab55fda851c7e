import t from 'tap';
import { native, type InstanceState, type NativeInstance, type NativeProgram } from '../../src/dataplane/native.js';
import { compile, instanceSeed, replayFacts } from '../../src/program/compile.js';
import { newIds } from '../../src/program/ids.js';
import { negativeLog2, rank } from '../../src/program/service-map.js';
import { valid } from '../support/configuration.js';
import { Random } from '../support/random-policies.js';

const STATES: readonly InstanceState[] = ['up', 'up', 'up', 'draining', 'down', 'standby'];

function program(random: Random, affinity: NativeProgram['services'][number]['affinity'], count: number): NativeProgram {
  const configuration = valid(`
underlay: {interface: u}
captures: [{name: a, in: b, out: c}]
services: {s: {instances: [], affinity: ${affinity}}}
chains: {c: [s]}
policies: [{name: all, match: {}, chain: c}]`);
  const base = compile(configuration, newIds(), replayFacts(configuration));
  const weights = [1, 1, 2, 7, 1000, 65_535];
  const instances = Array.from({ length: count }, (_, i): NativeInstance => ({
    id: i * 3,
    service: 0,
    address: `10.20.${i >> 8}.${i & 255}`,
    attach: null,
    mac: random.chance(0.1) ? null : '02:00:00:01:00:00',
    state: random.pick(STATES),
    weight: random.pick(weights),
    // Some alike, so that scores tie.
    seed: random.chance(0.2) ? [1, 2] : instanceSeed(`s/i${random.below(1e6)}`),
  }));
  return { ...base, instances };
}

t.test('native code ranks instances as the reference does: weights, states, ties', async (t) => {
  const random = new Random(5);
  const engine = new native.Engine({ flowsMax: 1 });
  let compared = 0;
  for (const affinity of ['5-tuple', '3-tuple', '2-tuple'] as const) {
    for (const count of [0, 1, 2, 3, 5, 17, 100]) {
      const installed = program(random, affinity, count);
      engine.install(installed);
      for (let i = 0; i < 200; i++) {
        const { hops, code } = engine.describe({ capture: 0, vlan: [0, 0], protocol: 6, source: `10.0.${i & 255}.1`, sourcePort: random.below(65_536), destination: '192.0.2.1', destinationPort: 80, direction: 'out' });
        const [hop] = hops;
        if (hop === undefined) throw new Error('the chain has a hop');
        const expected = { ranked: rank(hop.code, installed.instances).slice(0, 4), chosen: rank(hop.code, installed.instances.filter(({ state, mac }) => state === 'up' && mac !== null))[0] ?? -1 };
        compared++;
        if (affinity === '5-tuple' && hop.code !== code) return t.equal(hop.code, code);
        const found = { ranked: [...hop.ranked], chosen: hop.chosen };
        if (JSON.stringify(found) !== JSON.stringify(expected)) return t.strictSame(found, expected, JSON.stringify({ affinity, count, code: hop.code }));
      }
    }
  }
  t.equal(compared, 4200);
});

t.test('the logarithm is within three millionths of the real one, and never rises', async (t) => {
  let worst = 0;
  let before = Infinity;
  for (let h = 1; h < 2 ** 32; h += 1 + Math.floor(h / 5000)) {
    const found = negativeLog2(h);
    worst = Math.max(worst, Math.abs(found / 2 ** 24 - (32 - Math.log2(h))));
    if (found > before) return t.fail(`it rises at ${h}`);
    before = found;
  }
  t.ok(worst < 3e-6, `largest error ${worst}`);
  t.equal(negativeLog2(0), negativeLog2(1));
  t.equal(negativeLog2(1), 32 * 2 ** 24);
});
