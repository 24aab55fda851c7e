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
  const base = valid(`
    underlay: {interface: u}
    captures: [{name: a, in: a0, out: a1}, {name: b, in: b0, out: b1}]
    services: {s: {instances: [{name: i, address: 10.20.0.11}]}, t: {instances: [{name: j, address: 10.20.0.12}]}}
    chains: {once: [s], twice: [s, t]}
  `);
  const chains = base.chains.map((chain) => chain.name);
  const random = new Random(SEED);
  const engine = new native.Engine({ flowsMax: 1 });
  let matched = 0;
  let steered = 0;
  for (let done = 0; done < PAIRS; done += PACKETS_A_PROGRAM) {
    const configuration = withPolicies(base, randomPolicies(random, 8, chains));
    const ids = newIds();
    engine.install(compile(configuration, ids, replayFacts(configuration)));
    for (let i = 0; i < PACKETS_A_PROGRAM; i++) {
      const packet = packetNear(random, configuration.policies);
      const expected = classify(configuration, packet).policy;
      const { policy, action, chain } = engine.describe({ ...packet, capture: packet.capture === 'a' ? 0 : 1, vlan: [packet.vlan, 0] });
      const found = policy < 0 ? null : (ids.policies.name(policy) ?? null);
      if (expected !== null) matched++;
      const does = action === 'chain' ? { kind: action, chain: ids.chains.name(chain) } : { kind: action };
      const should = expected?.action ?? { kind: configuration.default };
      if (should.kind === 'chain') steered++;
      const agree = found === (expected?.name ?? null) && does.kind === should.kind && (should.kind !== 'chain' || does.chain === should.chain);
      if (!agree) return t.strictSame({ found, does }, { found: expected?.name ?? null, does: should }, JSON.stringify({ seed: SEED, packet, policies: configuration.policies }));
    }
  }
  t.ok(matched > PAIRS / 4 && matched < PAIRS, `${matched} of ${PAIRS} matched a policy`);
  t.ok(steered > matched / 4 && steered < matched, `${steered} of them went to a chain`);
});
