/** Messages of groups with a primary node, the shares that a primary gives, and what weir refuses to hear. */
import t from 'tap';
import { open, seal, type Hello, type Roster } from '../../src/group/message.js';
import { publishedFactors } from '../../src/group/published.js';
import { Registrar } from '../../src/group/registrar.js';
import { partsOf, Shares } from '../../src/group/shares.js';
import { parseConfiguration } from '../../src/config/load.js';
import { VirtualClock } from '../support/conditions.js';
import { valid } from '../support/configuration.js';

const key = Buffer.alloc(32, 7);
const NOW = Date.UTC(2026, 10, 21);
const SESSION = '0123456789abcdef';
const hello = (more: Partial<Hello> = {}): Hello => ({ kind: 'hello', service: 'firewall', name: 'fw-1', session: SESSION, atMs: NOW, cpu: 10, packetsPerSecond: 100, roster: 0, shares: null, chosen: 0, ...more });
const member = (name: string, last: number, state: 'up' | 'draining' | 'down' = 'up') => ({ name, address: `10.20.0.${last}`, port: 1000 + last, state, weight: 1 });
const roster = (metric: Roster['metric'], members = [member('fw-1', 11), member('fw-2', 12), member('fw-3', 13)]): Roster => ({ kind: 'roster', service: 'firewall', to: SESSION, atMs: NOW, number: 5, primary: 'fw-1', directs: true, metric, members });

t.test('what is sealed is opened; what was changed, cut or made up is refused', async (t) => {
  for (const message of [hello(), hello({ shares: { 'fw-1': 0.5 }, cpu: null }), roster('cpu'), roster(null)]) {
    const sealed = seal(message, key);
    t.strictSame(open(sealed, key), message);
    t.match(open(sealed, Buffer.alloc(32, 8)), { refused: 'forged' });
    for (let at = 0; at < sealed.length; at += 3) {
      const changed = Buffer.from(sealed);
      changed[at] = (changed[at] ?? 0) ^ 1;
      t.hasProp(open(changed, key), 'refused');
    }
    for (let length = 0; length < sealed.length; length += 7) t.hasProp(open(sealed.subarray(0, length), key), 'refused');
  }
  for (const wrong of [{ ...hello(), cpu: -1 }, { ...hello(), name: '' }, { ...hello(), session: 'x' }, { ...hello(), packetsPerSecond: null }, { ...roster('cpu'), members: [{ name: 'a' }] }, { ...roster('cpu'), members: [{ ...member('a', 1), weight: 0 }] }, { kind: 'love' }]) {
    t.match(open(seal(wrong as unknown as Hello, key), key), { refused: 'malformed' });
  }
});

t.test('a primary gives those with more to do less, and nothing to those that get no new streams', async (t) => {
  const clock = new VirtualClock(NOW);
  const shares = new Shares(clock);
  t.strictSame(partsOf(shares.weights(roster(null, [member('fw-1', 11), member('fw-2', 12, 'draining'), member('fw-3', 13)]))), { 'fw-1': 0.5, 'fw-3': 0.5 });
  let parts: Record<string, number> = {};
  for (let second = 0; second < 20; second++) {
    clock.ms += 1000;
    for (const [name, cpu] of [['fw-1', 80], ['fw-2', 20], ['fw-3', 20]] as const) shares.hear(hello({ name, cpu, atMs: clock.ms }));
    shares.hear(hello({ name: 'fw-1', cpu: 0, atMs: clock.ms - 5000 }));
    parts = partsOf(shares.weights(roster('cpu')));
  }
  t.ok((parts['fw-1'] ?? 1) < 0.2 && (parts['fw-2'] ?? 0) > 0.35, JSON.stringify(parts));
  clock.ms += 60_000;
  parts = partsOf(shares.weights(roster('cpu')));
  t.ok(Object.values(parts).every((part) => part > 0.3 && part < 0.4), `nothing is known any more: ${JSON.stringify(parts)}`);
});

const text = (more = '', service = ''): string => `underlay: {interface: u}\ncaptures: [{name: web, in: a, out: b}]\nservices: {firewall: {balancer: primary, ${service}instances: [{name: fw-1, address: 10.20.0.11}, {name: fw-2, address: 10.20.0.12}]}}\n${more}\n`;
const LOAD = 'load: {key: {file: k}}';

t.test('weir hears members at their own address only, and tells them once who there is, again when that changes', async (t) => {
  const clock = new VirtualClock(NOW);
  const sent: { readonly roster: Roster; readonly to: string }[] = [];
  const warned: string[] = [];
  let primary = 'fw-1';
  const registrar = new Registrar(clock, { stateOf: (instance) => (instance === 'firewall/fw-1' && primary !== 'fw-1' ? 'down' : 'up'), primaryOf: () => primary, warn: (why) => warned.push(why) }, key, (datagram, address, port) => sent.push({ roster: open(datagram, key) as Roster, to: `${address}:${port}` }));
  const { services } = valid(text(LOAD));
  registrar.follow(services);
  registrar.receive(seal(hello({ name: 'fw-2' }), key), '10.20.0.12', 4000);
  t.match(sent, [{ to: '10.20.0.12:4000', roster: { to: SESSION, primary: 'fw-1', members: [{ name: 'fw-1', port: null, state: 'up' }, { name: 'fw-2', port: 4000 }] } }]);
  t.match(registrar.view('firewall'), { primary: 'fw-1', told: false });

  for (const [datagram, from, why] of [
    [seal(hello(), key), '10.20.0.12', /it says that it is firewall\/fw-1, which is at 10\.20\.0\.11/],
    [seal(hello({ name: 'love' }), key), '10.20.0.11', /there is no firewall\/love/],
    [seal(hello(), Buffer.alloc(32)), '10.20.0.11', /forged/],
    [seal(hello({ atMs: NOW - 60_000 }), key), '10.20.0.11', /clock is off by 60 s/],
    [seal(roster('cpu'), key), '10.20.0.11', /for members/],
    [Buffer.from('WGP1'), '10.20.0.11', /malformed/],
  ] as const) {
    for (let again = 0; again < 3; again++) registrar.receive(datagram, from, 4000);
    t.match(warned.at(-1), why);
  }
  t.equal(warned.length, 6, 'each is told once');
  t.equal(sent.length, 1, 'nobody is told anything for it');

  const first = sent[0]?.roster.number ?? 0;
  registrar.receive(seal(hello({ name: 'fw-2', atMs: NOW + 1, roster: first }), key), '10.20.0.12', 4000);
  const calm = sent.length;
  registrar.follow(services);
  t.equal(sent.length, calm, 'nothing has changed');
  primary = 'fw-2';
  registrar.follow(services);
  t.match(sent.at(-1), { to: '10.20.0.12:4000', roster: { primary: 'fw-2', members: [{ name: 'fw-1', state: 'down' }, {}] } });
  t.ok((sent.at(-1)?.roster.number ?? 0) > first);
});

t.test('weir balances by published shares, goes on with the last ones, and gives nothing to whom the primary leaves out', async (t) => {
  const { services } = valid(text(LOAD).replace('balancer: primary', 'balancer: primary_shares').replace('address: 10.20.0.12', 'address: 10.20.0.12, weight: 2'));
  const first = publishedFactors(services, () => ({ 'fw-1': 0.6, 'fw-2': 0.4 }), new Map());
  t.strictSame([...first].map(([name, factor]) => [name, Math.round(factor * 1000)]), [['firewall/fw-1', 1000], ['firewall/fw-2', 333]]);
  t.strictSame(publishedFactors(services, () => null, first), first);
  t.strictSame([...publishedFactors(services, () => ({ 'fw-2': 1 }), first)], [['firewall/fw-1', 0], ['firewall/fw-2', 1]]);
  t.equal(publishedFactors(valid(text(LOAD)).services, () => ({ 'fw-1': 1 }), first).size, 0);
});

for (const [document, path, message] of [
  [text(), 'services.firewall.balancer', /add `load: \{key: \{file: …\}\}`/],
  [text(LOAD, 'affinity: 2-tuple, '), 'services.firewall.balancer', /expected affinity 5-tuple, found 2-tuple/],
  [text(`chains: {c: {services: [firewall], deliver: true}}\n${LOAD}`), 'services.firewall.balancer', /nothing comes back/],
  [text(LOAD).replace('address: 10.20.0.12', 'attach: {in: x, out: y}'), 'services.firewall.instances[1].attach', /no group with a primary/],
] as const) {
  t.test(`refused: ${message.source}`, async (t) => {
    const loaded = parseConfiguration(document, 'test.yaml');
    if (loaded.ok) return t.fail('taken');
    t.match(loaded.errors.find((error) => error.path === path)?.message ?? JSON.stringify(loaded.errors), message);
  });
}
