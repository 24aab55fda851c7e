/** What may be wrong with `attach`, each said with its place. */
import t from 'tap';
import { parseConfiguration } from '../../src/config/load.js';
import { valid } from '../support/configuration.js';

const document = (instances: string): string => `underlay: {interface: u}
captures: [{name: web, in: a, out: b}]
services:
  s: {instances: [${instances}]}
chains: {c: [s]}
policies: [{name: all, match: {}, chain: c}]
`;

const WRONG: readonly (readonly [instances: string, message: RegExp])[] = [
  ['{name: x}', /instances\[0\]: expected "address" .* or "attach"/],
  ['{name: x, attach: {}}', /attach: expected "in" and "out"/],
  ['{name: x, attach: {in: p0}}', /attach: expected "in" and "out"/],
  ['{name: x, attach: {in: p0, out: p1, via: 10.9.0.2}}', /attach: expected either .* found both/],
  ['{name: x, attach: {in: a, out: p1}}', /attach\.in: interface a is already used by capture web \(in\)/],
  ['{name: x, attach: {in: p0, out: u}}', /attach\.out: interface u is already used by the underlay/],
  ['{name: x, attach: {in: p0, out: p0}}', /attach\.out: interface p0 is shared with its other side, and no "vlan"/],
  ['{name: x, attach: {in: p0, out: p1}}, {name: y, attach: {in: p0, out: p2}}', /instances\[1\]\.attach\.in: interface p0 is shared with s\/x/],
  ['{name: x, attach: {in: p0, out: p1, vlan: 7}}, {name: y, attach: {in: p0, out: p2, vlan: 7}}', /instances\[1\]\.attach\.in: interface p0 is shared with s\/x/],
  ['{name: x, attach: {in: p0, out: p1, vlan: 7}}, {name: y, attach: {in: p0, out: p2}}', /instances\[1\]\.attach\.in: interface p0 is shared with s\/x/],
  ['{name: x, attach: {in: p0, out: p1, vlan: 0}}', /attach\.vlan/],
  ['{name: x, attach: {in: p0, out: p1, vlan: 4095}}', /attach\.vlan/],
  ['{name: x, attach: {via: nowhere}}', /attach\.via: expected an IP address, found "nowhere"/],
  ['{name: x, attach: {via: 224.0.0.1}}', /attach\.via: expected the address of one host/],
  ['{name: x, attach: {via: 10.9.0.2, vlan: 7}}', /attach\.vlan: a router is reached by its address/],
  ['{name: x, attach: {via: 10.9.0.2}}, {name: y, attach: {via: 10.9.0.2}}', /instances\[1\]\.attach\.via: 10\.9\.0\.2 is already the way through s\/x/],
  ['{name: x, attach: {via: 10.9.0.2, colour: red}}', /attach\.colour: unknown key/],
];

for (const [instances, message] of WRONG) {
  t.test(instances, (t) => {
    const loaded = parseConfiguration(document(instances), 'test.yaml');
    t.equal(loaded.ok, false);
    if (!loaded.ok) t.match(loaded.errors.map((error) => `${error.path}: ${error.message}`).join('\n'), message);
    t.end();
  });
}

t.test('what is right, in short and long form', (t) => {
  const [first, second, third, fourth] = valid(
    document('{name: a, attach: {in: p0, out: p1, vlan: 7}}, {name: b, attach: {in: p0, out: p0, vlan: {in: 8, out: 9}}}, {name: c, attach: {via: 10.9.0.2}}, {name: d, address: 10.20.0.9, attach: {via: {in: 10.9.1.2, out: 10.9.2.2}}}'),
  ).services[0]?.instances ?? [];
  t.strictSame(first?.attach, { kind: 'bump', in: 'p0', out: 'p1', vlan: { in: 7, out: 7 } });
  t.strictSame(second?.attach, { kind: 'bump', in: 'p0', out: 'p0', vlan: { in: 8, out: 9 } });
  t.strictSame(third?.attach, { kind: 'routed', in: '10.9.0.2', out: '10.9.0.2' });
  t.strictSame(fourth?.attach, { kind: 'routed', in: '10.9.1.2', out: '10.9.2.2' });
  t.equal(third?.address, null);
  t.equal(valid(document('{name: a, attach: {in: p0, out: p1}}').replace('underlay: {interface: u}\n', '')).underlays.length, 0, 'no underlay is needed then');
  t.end();
});
