import t from 'tap';
import { classify, type Opening } from '../../src/program/reference.js';
import { valid } from '../support/configuration.js';

const configuration = valid(`
captures: [{name: web, in: a0, out: a1}, {name: db, in: b0, out: b1}]
policies:
  - {name: wide, action: drop, match: {source: 10.0.0.0/8}}
  - {name: narrow, action: pass, match: {source: 10.1.0.0/16}}
  - {name: again, action: drop, match: {destination: 192.0.0.0/16}}
  - {name: urgent, priority: 9, action: drop, match: {destination_port: 23}}
  - {name: database, action: drop, match: {capture: db}}
  - {name: tagged, action: drop, match: {vlan: [7, 8]}}
  - {name: inward, action: drop, match: {direction: in}}
  - {name: quic, action: drop, match: {protocol: udp}}
  - {name: elsewhere, action: drop, match: {destination: "fd01::/64"}}
  - {name: low, action: drop, match: {source_port: 1-1023}}
`);
const packet: Opening = { capture: 'web', vlan: 0, direction: 'out', protocol: 6, source: '10.1.2.3', sourcePort: 40000, destination: '192.0.2.1', destinationPort: 80 };
const verdicts = (change: Partial<Opening>): Record<string, string> =>
  Object.fromEntries(classify(configuration, { ...packet, ...change }).considered.map(({ policy, verdict }) => [policy.name, verdict]));

t.test('of each policy it says why it is or is not the one', async (t) => {
  t.strictSame(verdicts({}), {
    wide: 'outranked by narrow (specificity)',
    narrow: 'wins',
    again: 'outranked by narrow (written first)',
    urgent: 'no match: destination_port',
    database: 'no match: capture',
    tagged: 'no match: vlan',
    inward: 'no match: direction',
    quic: 'no match: protocol',
    elsewhere: 'no match: destination',
    low: 'no match: source_port',
  });
  t.match(verdicts({ destinationPort: 23 }), { urgent: 'wins', narrow: 'outranked by urgent (priority)' });
  t.match(verdicts({ source: '172.16.0.1' }), { wide: 'no match: source', again: 'wins' });
});

t.test('ports are only those of TCP and UDP: an ICMP identifier is none', async (t) => {
  t.match(verdicts({ protocol: 1, sourcePort: 23, destinationPort: 23 }), { urgent: 'no match: destination_port', low: 'no match: source_port' });
  t.match(verdicts({ protocol: 17, sourcePort: 53 }), { low: /outranked|wins/, quic: /outranked|wins/ });
});

t.test('the bounds of a port range are in it', async (t) => {
  for (const [port, matches] of [[0, false], [1, true], [1023, true], [1024, false]] as const) {
    t.equal(verdicts({ sourcePort: port })['low'] !== 'no match: source_port', matches, `port ${port}`);
  }
});

t.test('no policy: the default', async (t) => {
  const nothing = classify(configuration, { ...packet, source: '172.16.0.1', destination: '198.51.100.1' });
  t.equal(nothing.policy, null);
  t.notOk(nothing.considered.some(({ verdict }) => !verdict.startsWith('no match: ')));
});

t.test('a list matches by its most specific member', async (t) => {
  const { policies } = valid('captures: [{name: a, in: b, out: c}]\npolicies: [{name: p, action: drop, match: {source: [10.0.0.0/8, 10.1.0.0/16, 10.2.0.0/24]}}]');
  t.equal(classify({ policies }, packet).considered[0]?.specificity, 112);
  t.throws(() => classify({ policies }, { ...packet, source: '10.1' }), TypeError);
});
