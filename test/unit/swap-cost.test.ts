/** A change of instances leaves the rules what they are: native code keeps their index, and still decides by them. */
import t from 'tap';
import { native } from '../../src/dataplane/native.js';
import { newIds } from '../../src/program/ids.js';
import { compile, replayFacts } from '../../src/program/compile.js';
import { valid } from '../support/configuration.js';
import { udp } from '../support/packets.js';

const POLICIES = 20_000;
const configuration = valid(`
underlay: {interface: u}
captures: [{name: web, in: a, out: b}]
services: {s: {instances: [{name: one, address: 10.20.0.11}, {name: two, address: 10.20.0.12}]}}
chains: {c: [s]}
policies: [${Array.from({ length: POLICIES }, (_, i) => `{name: p${i}, match: {destination: 10.${100 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}}, ${i % 2 === 0 ? 'chain: c' : 'action: drop'}}`).join(', ')}]
`);

t.test('the same rules with other instances, and then other rules', async (t) => {
  const ids = newIds();
  const facts = replayFacts(configuration);
  const down = new Set<string>();
  const program = () => compile(configuration, ids, { ...facts, stateOf: (key) => (down.has(key) ? 'down' : 'up') });
  const engine = new native.Engine({ flowsMax: 1000 });
  let [port, time] = [1024, 0n];
  const goes = (destination: string): string => {
    const [out] = engine.process((time += 1000n), 1, udp({ destination, sourcePort: port++ }));
    return out === undefined ? 'dropped' : out.port === 0 ? Buffer.from(out.bytes).subarray(30, 34).join('.') : 'crossed';
  };
  const first = program();
  engine.install(first);
  t.match(goes('10.100.0.0'), /^10\.20\.0\.1[12]$/);
  down.add('s/one');
  const second = program();
  t.equal(second.rules, first.rules, 'the same array');
  engine.install(second);
  for (let i = 0; i < 20; i++) t.equal(goes('10.100.4.8'), '10.20.0.12');
  t.equal(goes('10.100.0.1'), 'dropped');
  t.equal(goes('10.99.0.1'), 'crossed');
  engine.install({ ...second, rules: second.rules.slice(0, 64) });
  t.equal(goes('10.100.0.1'), 'crossed', 'another array has other rules');
  engine.install(second);
  t.equal(goes('10.100.0.1'), 'dropped');
  const begun = performance.now();
  for (let i = 0; i < 10; i++) engine.install(program());
  t.comment(`a swap with ${POLICIES} rules: ${((performance.now() - begun) / 10).toFixed(2)} ms`);
});
