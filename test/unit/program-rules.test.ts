import t from 'tap';
import { parseAddress } from '../../src/config/address.js';
import { ruleCount } from '../../src/config/alternatives.js';
import { native, RULE_BYTES } from '../../src/dataplane/native.js';
import { compile, replayFacts } from '../../src/program/compile.js';
import { IdRegistry, newIds } from '../../src/program/ids.js';
import { classify, type Opening } from '../../src/program/reference.js';
import { policyRows } from '../../src/program/policy-rows.js';
import { encodeRules, expandRules } from '../../src/program/rules.js';
import { valid } from '../support/configuration.js';
import { Random, randomPolicies } from '../support/random-policies.js';

const head = `
underlay: {interface: u}
captures: [{name: a, in: a0, out: a1}, {name: b, in: b0, out: b1}]
services: {s: {instances: [{name: i, address: 10.20.0.11}]}}
chains: {c: [s]}
`;
const policies = (text: string) => valid(`${head}policies:\n${text}`);
const rulesOf = (text: string) => expandRules(policies(text), (name) => Number(name.slice(1)));

t.test('a policy becomes one rule per combination of its alternatives', async (t) => {
  const rules = rulesOf('  - {name: p0, action: drop, match: {capture: [a, b], protocol: [tcp, udp], source: [10.0.0.0/8, 192.0.2.0/24], destination_port: [53, 80, 443]}}');
  t.equal(rules.length, 24);
  t.equal(new Set(rules.map((rule) => JSON.stringify(rule))).size, 24);
});

t.test('a row has the fields where native code reads them', async (t) => {
  const rules = rulesOf('  - {name: p7, chain: c, match: {capture: b, vlan: 258, direction: in, protocol: tcp, source: 10.1.0.0/16, destination: fd01::/64, source_port: 258-772, destination_port: 443}}');
  t.equal(rules.length, 0, 'no packet has a source and a destination of different families');
  const [rule] = rulesOf('  - {name: p7, chain: c, match: {capture: b, vlan: 258, direction: in, protocol: tcp, source: 10.1.0.0/16, destination: 10.2.3.4, source_port: 258-772, destination_port: 443-1000}}');
  if (rule === undefined) throw new Error('there is no rule');
  const row = Buffer.from(encodeRules([rule], () => 0x01020304));
  t.equal(row.length, RULE_BYTES);
  t.equal(
    row.toString('hex'),
    '00000000000000000000ffff0a010000' + '00000000000000000000ffff0a020304' + '70' + '80' + '06' + '02' + '0201' + '0403' + 'bb01' + 'e803' + '0100' + '0201' + '02' + '000000' + '04030201' + '07000000' + '00000000',
  );
});

t.test('a row of no conditions takes everything', async (t) => {
  const row = Buffer.from(encodeRules(rulesOf('  - {name: p0, action: pass, match: {}}'), () => 0));
  t.equal(row.toString('hex'), '00'.repeat(34) + 'ff' + '00' + '0000ffff' + '0000ffff' + 'ffff' + 'ffff' + '00'.repeat(16));
});

t.test('specificity counts 16 - ceil(log2(size)) for a port range of any size', async (t) => {
  const base = policies('  - {name: p0, action: drop, match: {destination_port: 1}}');
  const [policy] = base.policies;
  if (policy === undefined) throw new Error('there is no policy');
  for (let size = 1; size <= 65_536; size++) {
    const match = { ...policy.match, destinationPorts: [{ low: 0, high: size - 1 }] };
    const [rule] = expandRules({ captures: [], policies: [{ ...policy, match }] }, () => 0);
    let bits = 0;
    while (2 ** bits < size) bits++;
    if (rule?.specificity !== 16 - bits) return t.equal(rule?.specificity, 16 - bits, `size ${size}`);
  }
  t.pass('all sizes');
});

t.test('the first match wins: priority, then specificity, then the order of the document', async (t) => {
  const order = (text: string) => rulesOf(text).map((rule) => rule.policy);
  t.strictSame(order('  - {name: p1, action: drop, match: {}}\n  - {name: p2, action: drop, match: {}}'), [1, 2]);
  t.strictSame(order('  - {name: p1, action: drop, match: {source: 10.0.0.0/8}}\n  - {name: p2, action: drop, match: {source: 10.0.0.0/9}}'), [2, 1]);
  t.strictSame(order('  - {name: p1, action: drop, match: {source: 10.0.0.1}}\n  - {name: p2, priority: 1, action: drop, match: {}}\n  - {name: p3, priority: -1, action: drop, match: {source: 10.0.0.1}}'), [2, 1, 3]);
  t.strictSame(order('  - {name: p1, action: drop, match: {protocol: tcp}}\n  - {name: p2, action: drop, match: {direction: in}}\n  - {name: p3, action: drop, match: {destination_port: 80}}'), [3, 1, 2]);
});

t.test('an IPv6 prefix takes no IPv4 packet, however short it is', async (t) => {
  const packet = (source: string, destination: string): Opening => ({ capture: 'a', vlan: 0, direction: 'out', protocol: 17, source, sourcePort: 1, destination, destinationPort: 2 });
  const four = packet('10.0.0.1', '10.0.0.2');
  const six = packet('fd01::1', '2001:db8::1');
  const table: readonly (readonly [match: string, packet: Opening, matches: boolean])[] = [
    ['source: "::/0"', four, false],
    ['source: "::/0"', six, true],
    ['destination: "::/0"', four, false],
    ['destination: "::/0"', six, true],
    ['source: "::/0", destination: "::/0"', four, false],
    ['source: "::/0", destination: "::/0"', six, true],
    ['source: "::/0", destination: "2001:db8::/32"', six, true],
    ['source: "2001:db8::/32", destination: "::/0"', six, false],
    ['source: "::/0"', packet('::1', '::2'), true],
    ['source: "::/80"', packet('::1', '::2'), true],
    ['source: "::/80"', four, false],
    ['source: 0.0.0.0/0', four, true],
    ['source: 0.0.0.0/0', six, false],
    ['source: 0.0.0.0/0, destination: "::/0"', four, false],
    ['source: 0.0.0.0/0, destination: "::/0"', six, false],
    ['source: [0.0.0.0/0, "::/0"]', four, true],
    ['source: [0.0.0.0/0, "::/0"]', six, true],
  ];
  const engine = new native.Engine({ flowsMax: 1 });
  for (const [match, opening, matches] of table) {
    const configuration = policies(`  - {name: p0, action: drop, match: {${match}}}`);
    engine.install(compile(configuration, newIds(), replayFacts(configuration)));
    t.equal(engine.describe({ ...opening, capture: 0, vlan: [0, 0] }).policy, matches ? 0 : -1, `native: ${match} and ${opening.source}`);
    t.equal(classify(configuration, opening).policy !== null, matches, `reference: ${match} and ${opening.source}`);
  }
});

t.test('short IPv6 prefixes: native and reference agree on random addresses of every kind', async (t) => {
  const random = new Random(3);
  const engine = new native.Engine({ flowsMax: 1 });
  const address = (): string => {
    const bits = random.below(129);
    const groups = Array.from({ length: 8 }, (_, i) => (i * 16 < bits ? 0 : random.below(65_536)).toString(16)).join(':');
    return random.pick([`10.0.${random.below(2)}.${random.below(2)}`, groups, `::${random.below(3)}`, `fd01::${random.below(2)}`]);
  };
  let matched = 0;
  for (let i = 0; i < 300; i++) {
    const prefix = (): string => random.pick(['0.0.0.0/0', '10.0.0.0/24', '"fd01::/64"', `"::/${random.below(129)}"`]);
    const key = random.pick(['source', 'destination']);
    const configuration = policies(`  - {name: p0, action: drop, match: {${key}: [${prefix()}, ${prefix()}]}}\n  - {name: p1, action: pass, match: {source: ${prefix()}, destination: ${prefix()}}}`);
    const ids = newIds();
    engine.install(compile(configuration, ids, replayFacts(configuration)));
    for (let j = 0; j < 100; j++) {
      const source = address();
      const four = parseAddress(source)?.subarray(10, 12).every((byte) => byte === 255) === true;
      let destination = address();
      while ((parseAddress(destination)?.subarray(10, 12).every((byte) => byte === 255) === true) !== four) destination = address();
      const opening: Opening = { capture: 'a', vlan: 0, direction: 'out', protocol: 17, source, sourcePort: 1, destination, destinationPort: 2 };
      const found = engine.describe({ ...opening, capture: 0, vlan: [0, 0] }).policy;
      const expected = classify(configuration, opening).policy?.name ?? null;
      if (expected !== null) matched++;
      if ((found < 0 ? null : ids.policies.name(found)) !== expected) return t.equal(found < 0 ? null : ids.policies.name(found), expected, JSON.stringify({ opening, policies: configuration.policies }));
    }
  }
  t.ok(matched > 3000, `${matched} matched`);
});

t.test('rows made policy by policy, some of them remembered, are those of all policies at once', async (t) => {
  const ids = newIds();
  const captures = valid(`${head}`).captures;
  const random = new Random(11);
  let list: ReturnType<typeof randomPolicies> = randomPolicies(random, 40, ['c']);
  for (let round = 0; round < 60; round++) {
    const fresh = randomPolicies(random, 3, ['c']).map((policy, i) => ({ ...policy, name: `r${round}-${i}` }));
    list = list.toSpliced((round * 7) % list.length, round % 3, ...fresh).slice(-60);
    const whole = encodeRules(expandRules({ captures, policies: list }, (name) => ids.policies.id(name)), (name) => ids.chains.id(name));
    if (!Buffer.from(whole).equals(Buffer.from(policyRows({ captures, policies: list }, ids)))) return t.fail(`round ${round}`);
  }
  t.pass('60 lists');
});

t.test('rules are counted as they are made', async (t) => {
  const { policies: list, captures } = policies('  - {name: p0, action: drop, match: {source: ["::/0", 10.0.0.0/8], destination: [10.0.0.0/8, "fd01::/64"], destination_port: [1, 2]}}\n  - {name: p1, action: drop, match: {}}');
  for (const policy of list) t.equal(ruleCount(policy.match, 1e6), expandRules({ captures, policies: [policy] }, () => 0).length, policy.name);
});

t.test('ids are kept by name, and the lowest that was given back is used first', async (t) => {
  const ids = new IdRegistry('chain', 4, 1);
  t.strictSame(['a', 'b', 'c', 'a'].map((name) => ids.id(name)), [1, 2, 3, 1]);
  t.throws(() => ids.id('d'), new RangeError('there are more than 4 chain names; take some out'));
  ids.free('c');
  ids.free('a');
  ids.free('never');
  t.equal(ids.name(1), undefined);
  t.strictSame(['d', 'e'].map((name) => ids.id(name)), [1, 3]);
  t.strictSame([ids.id('b'), ids.name(2)], [2, 'b']);
});
