import t from 'tap';
import { formatErrors } from '../../src/config/errors.js';
import { loadConfiguration, parseConfiguration } from '../../src/config/load.js';
import { EXAMPLE, valid } from '../support/configuration.js';

function errorsOf(text: string): string[] {
  const loaded = parseConfiguration(text, 'weir.yaml');
  return loaded.ok ? [] : formatErrors(loaded.errors).split('\n');
}

t.test('the example is valid and its defaults are filled in', async (t) => {
  const configuration = valid(EXAMPLE);
  t.match(configuration, {
    captures: [{ name: 'web', tenant: 0 }],
    services: [{ name: 'firewall', affinity: '5-tuple', fail: 'closed', health: { check: { kind: 'tcp', port: 8080 }, intervalMs: 1000, timeoutMs: 500 } }, { name: 'ids', onFailure: 'rebalance' }],
    chains: [{ name: 'inspect', services: ['firewall', 'ids'], encapsulation: 'nsh', answers: 'backwards', return: 'hub' }],
    flows: { max: 1_000_000, idle: { tcp: 350_000, other: 120_000, closed: 5000 } },
    control: { socket: '/run/weir/weir.sock', mode: 0o660 },
    port: 'ring',
    default: 'pass',
  });
  t.strictSame(configuration.policies[0]?.match.destinationPorts, [{ low: 80, high: 80 }, { low: 443, high: 443 }, { low: 8000, high: 8100 }]);
});

t.test('captures without a tenant get the lowest free numbers', async (t) => {
  const { captures } = valid('captures: [{name: a, in: a0, out: a1}, {name: b, in: b0, out: b1, tenant: 0}, {name: c, in: c0, out: c1}]');
  t.strictSame(captures.map((capture) => capture.tenant), [1, 0, 2]);
});

const WRONG: readonly (readonly [claim: string, yaml: string, error: string])[] = [
  ['an unknown key names the nearest one', 'captures: [{name: a, in: b, out: c}]\npolcies: []', 'weir.yaml:2:1: polcies: unknown key; did you mean "policies"?'],
  ['a missing key is named', 'captures:\n  - {name: a, in: b}', 'weir.yaml:2:5: captures[0]: the key "out" is missing'],
  ['a wrong type says both', 'captures: [{name: a, in: b, out: c}]\nflows: {max: many}', 'weir.yaml:2:14: flows.max: expected a whole number from 1 to 16777216, found "many"'],
  ['a duration needs a unit', 'captures: [{name: a, in: b, out: c}]\nflows: {idle: {tcp: 350}}', 'weir.yaml:2:21: flows.idle.tcp: expected a duration with its unit, such as 500ms, 350s, 5m or 2h, found 350'],
  ['an interface has one use', 'captures: [{name: a, in: b, out: b}]', 'weir.yaml:1:34: captures[0].out: interface "b" is already used by capture a (in)'],
  ['host bits in a prefix', 'captures: [{name: a, in: b, out: c}]\npolicies:\n  - {name: p, action: drop, match: {source: 10.0.0.1/24}}', 'weir.yaml:3:45: policies[0].match.source: "10.0.0.1/24" has bits set behind its length; did you mean 10.0.0.0/24?'],
  ['a prefix too long', 'captures: [{name: a, in: b, out: c}]\npolicies:\n  - {name: p, action: drop, match: {source: 10.0.0.0/33}}', 'weir.yaml:3:45: policies[0].match.source: expected a prefix length from 0 to 32, found "33" in "10.0.0.0/33"'],
  ['a backward port range', 'captures: [{name: a, in: b, out: c}]\npolicies:\n  - {name: p, action: drop, match: {destination_port: 90-80}}', 'weir.yaml:3:55: policies[0].match.destination_port: the range runs backwards; did you mean "80-90"?'],
  ['ports without a protocol that has them', 'captures: [{name: a, in: b, out: c}]\npolicies:\n  - {name: p, action: drop, match: {protocol: icmp, destination_port: 80}}', 'weir.yaml:3:71: policies[0].match.destination_port: only tcp and udp have ports, so this policy could never match'],
  ['an unknown chain', 'captures: [{name: a, in: b, out: c}]\npolicies:\n  - {name: p, chain: nowhere, match: {}}', 'weir.yaml:3:22: policies[0].chain: there is no chain "nowhere"; there are none'],
  ['chain and action', 'captures: [{name: a, in: b, out: c}]\nunderlay: {interface: u}\nservices: {s: {instances: []}}\nchains: {x: [s]}\npolicies:\n  - {name: p, chain: x, action: drop, match: {}}', 'weir.yaml:6:5: policies[0]: expected either "chain" or "action: pass | drop"'],
  ['a chain with services needs an underlay', 'captures: [{name: a, in: b, out: c}]\nservices: {s: {instances: []}}\nchains: {x: [s]}', 'weir.yaml:3:13: chains.x: a chain with services needs an underlay to reach them: add `underlay: {interface: NAME}`'],
  ['an instance needs a whole weight', 'underlay: {interface: u}\ncaptures: [{name: a, in: b, out: c}]\nservices: {s: {instances: [{name: i, address: 10.0.0.1, weight: 0}]}}', 'weir.yaml:3:65: services.s.instances[0].weight: expected a whole number from 1 to 65535, found 0'],
  ['an address is one instance\'s', 'captures: [{name: a, in: b, out: c}]\nservices:\n  s: {instances: [{name: i, address: "::ffff:10.0.0.1"}, {name: j, address: 10.0.0.1}]}', 'weir.yaml:3:77: services.s.instances[1].address: address "10.0.0.1" is already used by s/i'],
  ['keys of the future are unknown', 'captures: [{name: a, in: b, out: c, mirror: true}]', 'weir.yaml:1:37: captures[0].mirror: unknown key; known keys: name, in, out, tenant'],
  ['a duplicate key is a syntax error', 'captures: [{name: a, in: b, out: c}]\nport: ring\nport: pcap', 'weir.yaml:3:1: Map keys must be unique'],
];

for (const [claim, yaml, error] of WRONG) t.test(claim, async (t) => t.strictSame(errorsOf(yaml), [error]));

t.test('all errors come at once, in the order of their lines', async (t) => {
  const errors = errorsOf('captures: [{name: a, in: b, out: b}]\nservices: {s: {instances: [{name: i, address: nowhere, weight: two}]}}\nchains: {x: [t]}\ncolour: red');
  const lines = errors.map((error) => Number(error.split(':')[1]));
  t.ok(errors.length >= 5, errors.join('\n'));
  t.strictSame(lines, [...lines].sort((a, b) => a - b));
});

t.test('a file that is not there, and one that is no mapping', async (t) => {
  const missing = loadConfiguration('/nonexistent/weir.yaml');
  t.match(missing, { ok: false, errors: [{ message: "can't read the configuration: there is no such file" }] });
  t.match(errorsOf('- a\n- b')[0], /expected a mapping .* found a list of 2/);
});

t.test('a chain may have 1 hop and 32, not 0 and 33', async (t) => {
  const chain = (hops: number): string =>
    `underlay: {interface: u}\ncaptures: [{name: a, in: b, out: c}]\nservices: {${Array.from({ length: 33 }, (_, i) => `s${i}: {instances: []}`).join(', ')}}\nchains: {x: [${Array.from({ length: hops }, (_, i) => `s${i}`).join(', ')}]}`;
  t.match(errorsOf(chain(0)), [/^weir.yaml:4:13: chains.x: expected at least one service \(for streams that are to cross unchanged, .* `action: pass` .*\), found an empty list$/]);
  t.strictSame(errorsOf(chain(1)), []);
  t.strictSame(errorsOf(chain(32)), []);
  t.match(errorsOf(chain(33))[0], /chains.x: expected at most 32 services, found 33/);
});
