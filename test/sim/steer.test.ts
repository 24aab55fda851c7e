/** steer.set, steer.list, steer.delete, as a controller calls them, and what packets do then. */
import t from 'tap';
import { call } from '../../src/control/call.js';
import { METHODS } from '../../src/control/methods.js';
import type { Context } from '../../src/control/method.js';
import { RpcError } from '../../src/control/protocol.js';
import { answer, stampOf, udp, type UdpOptions } from '../support/packets.js';
import { simulate, type Simulation } from '../support/sim.js';

const IN = 1;
const OUT = 2;
const MS = 1_000_000n;

const MINIMAL = `
underlay: {interface: eth1}
captures: [{name: web, in: a, out: b}]
services:
  a: {instances: [{name: a-1, address: 10.20.0.11}, {name: a-2, address: 10.20.0.12}]}
  b: {instances: [{name: b-1, address: 10.20.0.21}, {name: b-2, address: 10.20.0.22}]}
  c: {instances: [{name: c-1, address: 10.20.0.31}]}
`;
const FLOW = { protocol: 'udp', source: '10.1.0.2', source_port: 40000, destination: '10.2.0.2', destination_port: 53 };
const SERVICE_OF: Readonly<Record<string, string>> = { 1: 'a', 2: 'b', 3: 'c' };

interface Answer {
  readonly generation: number;
  readonly changed: string;
  readonly changes: readonly string[];
  readonly steering: string;
}
interface Listed {
  readonly steerings: readonly { readonly name: string; readonly services: readonly string[]; readonly streams: number; readonly packets: number }[];
}

async function begin(t: { teardown: (end: () => unknown) => void }, yaml = MINIMAL) {
  const simulation = await simulate(yaml);
  t.teardown(() => simulation.dataplane.stop());
  const context = { dataplane: simulation.dataplane, who: 'a controller' } as unknown as Context;
  const ask = <T = Answer>(method: string, params: object): Promise<T> => call(METHODS, method, params, context) as Promise<T>;
  const refused = async (method: string, params: object): Promise<RpcError & { data: { path?: string; errors?: { path: string; message: string }[]; problems?: { path: string }[] } }> => {
    const before = simulation.dataplane.configuration;
    const error: unknown = await ask(method, params).then(() => null, (reason: unknown) => reason);
    if (!(error instanceof RpcError)) throw new Error(`${method} ${JSON.stringify(params)} was not refused`);
    if (simulation.dataplane.configuration !== before) throw new Error(`${method} changed something though it was refused`);
    return error as never;
  };
  return { simulation, ask, refused };
}

/** Services that the packet and its answer visit, instances of both, and whether each left as it came. */
function exchange({ network }: Simulation, options: UdpOptions = {}): { there: string; back: string; whole: boolean; instances: string[] } {
  network.clear();
  network.inject(IN, udp(options));
  network.advance(MS);
  const visited = network.sent(0).map((frame) => stampOf(frame).to);
  const out = network.sent(OUT);
  network.clear();
  network.inject(OUT, answer(udp, options));
  network.advance(MS);
  const returned = network.sent(0).map((frame) => stampOf(frame).to);
  const services = (addresses: readonly string[]): string => addresses.map((address) => SERVICE_OF[address.split('.')[3]?.[0] ?? ''] ?? '?').join('');
  const whole = out.length === 1 && out[0]?.equals(udp(options)) === true && network.sent(IN).length === 1 && network.sent(IN)[0]?.equals(answer(udp, options)) === true;
  return { there: services(visited), back: services(returned), whole, instances: visited };
}

await t.test('a live stream is steered, steered otherwise and steered no longer, with existing: move', async (t) => {
  const { simulation, ask } = await begin(t);
  t.match(exchange(simulation), { there: '', back: '', whole: true }, 'it crosses at first');
  const made = await ask('steer.set', { name: 'dns', match: FLOW, services: ['a', 'b'], existing: 'move' });
  t.strictSame(made.changes, ['chain steer.dns added: [a, b]', 'policy added: steer.dns, live streams move']);
  const first = exchange(simulation);
  t.match(first, { there: 'ab', back: 'ba', whole: true });
  t.match(exchange(simulation, { sourcePort: 40001 }), { there: '', whole: true }, 'the stream beside it crosses');
  t.match(await ask<Listed>('steer.list', {}), { steerings: [{ name: 'dns', match: FLOW, services: ['a', 'b'], priority: 0, chain: 'steer.dns', policy: 'steer.dns', streams: 1, packets: 2 }] });
  await ask('steer.set', { name: 'dns', match: FLOW, services: ['a', 'c', 'b'], existing: 'move' });
  const second = exchange(simulation);
  t.match(second, { there: 'acb', back: 'bca', whole: true });
  t.equal(second.instances[0], first.instances[0], 'its instance of a stays');
  t.equal(second.instances[2], first.instances[1], 'its instance of b stays');
  const gone = await ask('steer.delete', { name: 'dns', existing: 'move' });
  t.strictSame(gone.changes, ['chain steer.dns removed, its live streams end on it', 'policy removed: steer.dns, live streams move']);
  t.match(exchange(simulation), { there: '', back: '', whole: true });
  t.strictSame((await ask<Listed>('steer.list', {})).steerings, []);
  t.equal(simulation.network.counters().streams.active, 2, 'a stream that moves is no second one');
  t.equal(simulation.network.counters().streams.opened, 2);
  t.strictSame(Object.entries(simulation.network.counters().dropped).filter(([, n]) => n > 0), []);
});

await t.test('with existing: keep live streams stay what they are', async (t) => {
  const { simulation, ask } = await begin(t);
  exchange(simulation);
  await ask('steer.set', { match: { destination: '10.2.0.0/24' }, services: ['a'] });
  t.match(exchange(simulation), { there: '', whole: true }, 'the live one crosses');
  t.match(exchange(simulation, { sourcePort: 5 }), { there: 'a', whole: true }, 'a new one does not');
  await ask('steer.delete', { match: { destination: '10.2.0.0/24' } });
  t.match(exchange(simulation, { sourcePort: 5 }), { there: 'a', whole: true }, 'that one ends where it is');
  t.match(exchange(simulation, { sourcePort: 6 }), { there: '', whole: true });
  await ask('steer.set', { name: 'later', match: { protocol: 'tcp' }, services: ['a'], existing: 'move' });
  t.match(exchange(simulation, { sourcePort: 5 }), { there: 'a', whole: true }, 'a move is about the streams of its own policy');
});

await t.test('only streams from before a move are decided again', async (t) => {
  const { simulation, ask } = await begin(t);
  await ask('steer.set', { name: 'wide', match: { destination: '10.2.0.0/24' }, services: ['a'], existing: 'move' });
  t.match(exchange(simulation), { there: 'a' });
  await ask('steer.set', { name: 'narrow', match: FLOW, services: ['b'] });
  t.match(exchange(simulation), { there: 'a' }, 'the narrow one was made with keep, though the wide one with move came right before it');
  t.match(exchange(simulation), { there: 'a' });
});

await t.test('prefixes, ranges and lists identify flows, too; the most specific wins', async (t) => {
  const { simulation, ask } = await begin(t);
  await ask('steer.set', { name: 'net', match: { source: ['10.1.0.0/24', 'fd01::/64'], destination_port: '1-1023', protocol: ['udp', 'tcp'] }, services: ['a'], options: { encapsulation: 'geneve', answers: 'forwards' } });
  await ask('steer.set', { name: 'one', match: FLOW, services: ['b', 'c'] });
  t.match(exchange(simulation), { there: 'bc', whole: true });
  t.match(exchange(simulation, { sourcePort: 7 }), { there: 'a', back: 'a', whole: true });
  t.match(exchange(simulation, { sourcePort: 7, destinationPort: 1024 }), { there: '', whole: true });
  await ask('steer.set', { name: 'net', match: { source: '10.1.0.0/24' }, services: ['c', 'a'], priority: 5, options: { answers: 'forwards' } });
  t.match(exchange(simulation, { sourcePort: 8 }), { there: 'ca', back: 'ca', whole: true });
  t.match(exchange(simulation, { sourcePort: 9, destinationPort: 4000 }), { there: 'ca', back: 'ca', whole: true }, 'the new match, with the new priority');
});

await t.test('the same request again is no change, in whatever words the flow is said', async (t) => {
  const { simulation, ask } = await begin(t);
  const first = await ask('steer.set', { match: FLOW, services: ['a', 'b'] });
  t.match(first.steering, /^flow-[0-9a-f]{16}$/);
  const again = await ask('steer.set', { match: FLOW, services: ['a', 'b'] });
  t.match(again, { generation: first.generation, changed: 'nothing changed', changes: [], steering: first.steering });
  t.equal(simulation.dataplane.generation, first.generation);
  const dry = await ask('steer.set', { match: FLOW, services: ['b'], dry_run: true });
  t.match(dry, { generation: first.generation, changes: ['chain steer.' + first.steering + ' is now [b], existing streams keep'], dry_run: true });
  for (const match of [
    { ...FLOW, destination_port: '53', source_port: [40000] },
    { ...FLOW, source: '10.1.0.2/32', protocol: 17 },
    { destination_port: 53, destination: '10.2.0.2', source_port: '40000-40000', source: ['10.1.0.2'], protocol: ['udp'] },
  ]) {
    t.equal((await ask('steer.set', { match, services: ['a', 'b'] })).steering, first.steering, JSON.stringify(match));
  }
  t.equal((await ask<Listed>('steer.list', {})).steerings.length, 1);
  t.not((await ask('steer.set', { match: { ...FLOW, source_port: 40001 }, services: ['a', 'b'] })).steering, first.steering);
  await ask('steer.delete', { match: { ...FLOW, protocol: 17 } });
  t.equal((await ask<Listed>('steer.list', {})).steerings.length, 1);
});

await t.test('what is wrong is named with its path in the request, and nothing changes', async (t) => {
  const { refused, ask } = await begin(t);
  const set = { name: 'x', match: FLOW, services: ['a', 'b'] };
  const errors = async (params: object): Promise<[string, string][]> => (await refused('steer.set', params)).data.errors?.map(({ path, message }) => [path, message]) ?? [];
  t.match(await errors({ ...set, services: ['a', 'nobody'] }), [['services[1]', /no service "nobody"|service/]]);
  t.match(await errors({ ...set, services: ['a', 'b', 'a'] }), [['services[2]', /on this chain already/]]);
  t.match(await errors({ ...set, match: { ...FLOW, source: '10.1.0.0/33' } }), [['match.source', /prefix length/]]);
  t.match(await errors({ ...set, match: { ...FLOW, destination_port: '90-80' } }), [['match.destination_port', /backwards/]]);
  t.match(await errors({ ...set, match: { ...FLOW, source_port: 70000 } }), [['match.source_port', /.*/]]);
  t.match(await errors({ ...set, match: { ...FLOW, capture: 'nowhere' } }), [['match.capture', /capture/]]);
  t.match(await errors({ ...set, match: { colour: 'red' } }), [['match.colour', /unknown key/]]);
  t.match(await errors({ ...set, services: ['nobody'], match: { destination: 'x', source_port: '2-1' } }), [['services[0]'], ['match.destination'], ['match.source_port']], 'all of it at once');
  t.match((await refused('steer.set', { ...set, services: [] })).data.problems, [{ path: 'services' }]);
  t.match((await refused('steer.set', { ...set, name: 'a b' })).data.problems, [{ path: 'name' }]);
  t.match((await refused('steer.set', { ...set, options: { answers: 'sideways' } })).data.problems, [{ path: 'options.answers' }]);
  t.match((await refused('steer.set', { ...set, if_generation: 99 })).data, { generation: 1 });
  await ask('steer.set', set);
  t.match(await refused('steer.delete', { name: 'y' }), { message: /no steering "y"; there are: x/, data: { path: 'name' } });
  t.match(await refused('steer.delete', {}), { data: { path: 'name' } });
  t.match(await refused('steer.delete', { match: { protocol: 'tcp' } }), { data: { path: 'match' } });
  await ask('config.patch', { patch: { chains: { 'steer.own': ['a'] } } });
  t.match(await refused('steer.set', { ...set, name: 'own' }), { message: /chain "steer.own" that is no steering/, data: { path: 'name' } });
  await ask('policy.add', { policy: { name: 'guest', match: { protocol: 'tcp' }, chain: 'steer.x' } });
  t.match(await refused('steer.delete', { name: 'x' }), { message: /policy "guest" uses its chain/ });
});

for (const encapsulation of ['nsh', 'geneve']) {
  await t.test(`${encapsulation}: packets in flight are not lost when their stream goes on a chain, over to another, and off it`, async (t) => {
    const { simulation, ask } = await begin(t);
    const { network } = simulation;
    const inFlight = async (change: () => Promise<unknown>): Promise<string> => {
      network.clear();
      network.inject(IN, udp());
      network.advance(0n); // at its first instance, if it has one
      await change();
      network.advance(MS);
      t.strictSame(network.sent(OUT), [udp()]);
      return network.sent(0).map((frame) => SERVICE_OF[stampOf(frame).to.split('.')[3]?.[0] ?? ''] ?? '?').join('');
    };
    t.equal(await inFlight(() => ask('steer.set', { name: 'x', match: FLOW, services: ['a', 'b'], options: { encapsulation }, existing: 'move' })), '');
    t.equal(await inFlight(() => ask('steer.set', { name: 'x', match: FLOW, services: ['c'], options: { encapsulation }, existing: 'move' })), 'ab');
    t.equal(await inFlight(() => ask('steer.delete', { name: 'x', existing: 'move' })), 'c');
    t.equal(await inFlight(() => Promise.resolve()), '');
    t.strictSame(Object.entries(network.counters().dropped).filter(([, n]) => n > 0), []);
  });
}

await t.test('silent streams move, too, so that an old chain is freed', async (t) => {
  const { simulation, ask } = await begin(t);
  exchange(simulation);
  await ask('steer.set', { name: 'x', match: FLOW, services: ['a'], existing: 'move' });
  simulation.network.advance(3000n * MS);
  t.match(await ask<Listed>('steer.list', {}), { steerings: [{ streams: 1 }] });
  await ask('steer.delete', { name: 'x', existing: 'move' });
  simulation.network.advance(3000n * MS);
  await simulation.dataplane.upkeep(100_000);
  await simulation.dataplane.upkeep(103_000);
  t.strictSame(simulation.dataplane.paths.all(), []);
});
