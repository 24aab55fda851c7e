import t from 'tap';
import { native } from '../../src/dataplane/native.js';
import { compile, replayFacts } from '../../src/program/compile.js';
import { newIds } from '../../src/program/ids.js';
import { classify } from '../../src/program/reference.js';
import { valid } from '../support/configuration.js';
import { Random, packetNear, randomPolicies, withPolicies } from '../support/random-policies.js';

const PAIRS = Number(process.env['WEIR_CLASSIFIER_PAIRS'] ?? 1_000_000);
const PACKETS_A_PROGRAM = 1000;
const SEED = Number(process.env['WEIR_SEED'] ?? 1);

t.test(`native and reference classifier agree on ${PAIRS} random pairs (seed ${SEED})`, async (t) => {
  const base = valid('captures: [{name: a, in: a0, out: a1}, {name: b, in: b0, out: b1}]');
  const random = new Random(SEED);
  const engine = new native.Engine({ flowsMax: 1 });
  let matched = 0;
  for (let done = 0; done < PAIRS; done += PACKETS_A_PROGRAM) {
    const configuration = withPolicies(base, randomPolicies(random, 8));
    const ids = newIds();
    engine.install(compile(configuration, ids, replayFacts(configuration)));
    for (let i = 0; i < PACKETS_A_PROGRAM; i++) {
      const packet = packetNear(random, configuration.policies);
      const expected = classify(configuration, packet).policy;
      const { policy, action } = engine.describe({ ...packet, capture: packet.capture === 'a' ? 0 : 1, vlan: [packet.vlan, 0] });
      const found = policy < 0 ? null : (ids.policies.name(policy) ?? null);
      if (expected !== null) matched++;
      if (found !== (expected?.name ?? null) || (expected !== null && action !== expected.action.kind)) {
        t.strictSame({ found, action }, { found: expected?.name ?? null, action: expected?.action.kind }, JSON.stringify({ packet, policies: configuration.policies }));
        return;
      }
    }
  }
  t.ok(matched > PAIRS / 4 && matched < PAIRS, `${matched} of ${PAIRS} matched a policy`);
});
