/** Virtual services: chains whose last instance keeps the packets and answers by itself. */
import t from 'tap';
import { formatErrors } from '../../src/config/errors.js';
import { parseConfiguration } from '../../src/config/load.js';
import { virtualMac } from '../../src/config/virtual-services.js';
import { subjectOf } from '../../src/explain/subject.js';
import { trace } from '../../src/explain/trace.js';
import { chains, flows, services, status } from '../../src/dataplane/views.js';
import { turnRound } from '../../src/dataplane/ports/sim-port.js';
import { ACK, FIN, RST, SYN, answer, frame4, stampOf, tcp, type TcpOptions } from '../support/packets.js';
import { simulate, type Simulation } from '../support/sim.js';

const IN = 1;
const OUT = 2;
const MS = 1_000_000n;
const SECOND = 1000n * MS;
const VIP = '203.0.113.10';

const yaml = (encapsulation = 'nsh', more = ''): string => `
underlay: {interface: eth1, address: 10.20.0.1}
captures: [{name: web, in: a, out: b}]
services:
  fw: {instances: [{name: fw-1, address: 10.20.0.11}, {name: fw-2, address: 10.20.0.12}]}
  slb: {instances: [{name: slb-1, address: 10.20.0.21}, {name: slb-2, address: 10.20.0.22}, {name: slb-3, address: 10.20.0.23}]}
chains:
  vip-web: {services: [fw, slb], deliver: true, encapsulation: ${encapsulation}, virtual_addresses: [10.1.0.100, "fd01::100"]}
policies:
  - {name: vip, match: {protocol: tcp, destination: [${VIP}, 10.1.0.100, "2001:db8:1::/64"], destination_port: 80-89}, chain: vip-web}
${more}
`;
const toVip: TcpOptions = { destination: VIP };
const serviceOf = (address: string): string => (address.startsWith('10.20.0.1') ? 'fw' : address.startsWith('10.20.0.2') ? 'slb' : '?');

async function begin(t: { teardown: (end: () => unknown) => void }, text = yaml()): Promise<Simulation> {
  const simulation = await simulate(text);
  t.teardown(() => simulation.dataplane.stop());
  for (const last of [21, 22, 23]) simulation.network.instance(`10.20.0.${last}`, () => []);
  return simulation;
}

/** Runs a frame, and tells whom it visited and what left by either side. */
function send({ network }: Simulation, port: number, frame: Buffer): { visited: string[]; out: Buffer[]; in: Buffer[] } {
  network.clear();
  network.inject(port, frame);
  network.advance(MS);
  return { visited: network.sent(0).map((one) => stampOf(one).to), out: network.sent(OUT), in: network.sent(IN) };
}

const drops = ({ network }: Simulation): [string, number][] => Object.entries(network.counters().dropped).filter(([, n]) => n > 0);

for (const encapsulation of ['nsh', 'geneve']) {
  await t.test(`${encapsulation}: the stream goes through the firewall and ends at one load balancer; its answers cross`, async (t) => {
    const simulation = await begin(t, yaml(encapsulation));
    const first = send(simulation, IN, tcp({ ...toVip, flags: SYN }));
    t.strictSame(first.visited.map(serviceOf), ['fw', 'slb']);
    t.strictSame([first.out, first.in], [[], []], 'nothing leaves the capture');
    for (let i = 0; i < 5; i++) t.strictSame(send(simulation, IN, tcp(toVip)).visited, first.visited, 'pinned');
    const back = send(simulation, OUT, answer(tcp, { ...toVip, flags: ACK }));
    t.strictSame(back, { visited: [], out: [], in: [answer(tcp, { ...toVip, flags: ACK })] });
    const { dataplane, network } = simulation;
    t.match(network.counters(), { deliveredToInstances: { packets: 6, bytes: 240 }, delivered: { packets: 0 }, crossedBy: { delivered_answer: 1 }, streams: { active: 1 } });
    t.match(chains(dataplane), [{ deliver: true, packets: 7, delivered: { packets: 6, bytes: 240 }, paths: [{ deliver: true, streams: 1 }] }]);
    const at = services(dataplane).flatMap((service) => service.instances.map((instance) => [instance.address, instance.sent.packets, instance.received.packets, instance.delivered.packets] as const));
    t.strictSame(at.filter(([, sent]) => sent > 0), [[first.visited[0], 6, 6, 0], [first.visited[1], 6, 0, 6]]);
    t.match((await flows(dataplane, {}, 10)).flows, [{ destination: VIP, chain: 'vip-web', delivers: true, packets: 7, tcp: 'established', instances: [/^fw/, /^slb/] }]);
    t.match(status(dataplane), { virtualAddresses: ['10.1.0.100', 'fd01::100'] });
    t.strictSame(drops(simulation), []);
  });
}

await t.test('streams are spread over the load balancers, by affinity; other ports and addresses cross', async (t) => {
  const simulation = await begin(t);
  const counts = new Map<string, number>();
  for (let i = 0; i < 300; i++) {
    const { visited } = send(simulation, IN, tcp({ ...toVip, sourcePort: 20_000 + i, destinationPort: 80 + (i % 10), flags: SYN }));
    counts.set(visited[1] ?? '', (counts.get(visited[1] ?? '') ?? 0) + 1);
  }
  t.strictSame([...counts.keys()].sort(), ['10.20.0.21', '10.20.0.22', '10.20.0.23']);
  for (const [address, n] of counts) t.ok(n > 60 && n < 140, `${address} has ${n} of 300`);
  for (const other of [{ ...toVip, destinationPort: 90 }, { destination: '203.0.113.11' }]) t.match(send(simulation, IN, tcp(other)), { visited: [], out: [tcp(other)] });
});

await t.test('what the last instance sends back is refused, and so is a stamp of answers', async (t) => {
  const simulation = await begin(t);
  for (const last of [21, 22, 23]) simulation.network.instance(`10.20.0.${last}`, (frame) => [turnRound(frame)]);
  t.strictSame(send(simulation, IN, tcp(toVip)).out, []);
  t.strictSame(drops(simulation), [['return_delivered', 1]]);
  const [stamped] = simulation.network.sent(0);
  const forged = turnRound(stamped ?? Buffer.alloc(0));
  forged.writeUIntBE(forged.readUIntBE(54, 3) + 1, 54, 3);
  t.match(send(simulation, 0, forged), { visited: [], out: [], in: [] });
  t.strictSame(drops(simulation), [['return_wrong_instance', 1], ['return_delivered', 1]], 'answers visit nobody, so no last instance is first');
  const [atFirewall = Buffer.alloc(0)] = send(simulation, IN, tcp({ ...toVip, sourcePort: 5 })).visited.length === 2 ? simulation.network.sent(0) : [];
  const answering = turnRound(atFirewall);
  answering.writeUIntBE(answering.readUIntBE(54, 3) + 1, 54, 3);
  answering.writeUInt8(253, 57); // as if it were the last visit of an answer
  t.match(send(simulation, 0, answering), { visited: [], out: [], in: [] });
  t.match(Object.fromEntries(drops(simulation)), { return_delivered: 3 });
});

await t.test('an instance that goes down: rebalance, hold; with none left the stream is dropped, whatever a hop before may skip', async (t) => {
  const simulation = await begin(t, yaml().replace('fw: {', 'fw: {fail: open, '));
  const { dataplane } = simulation;
  const name = (address = ''): string => `slb-${address.slice(-1)}`;
  const before = send(simulation, IN, tcp(toVip)).visited;
  await dataplane.setInstance('slb', name(before[1]), 'down', null, 'test');
  const after = send(simulation, IN, tcp(toVip)).visited;
  t.equal(after.length, 2);
  t.not(after[1], before[1]);
  for (const fw of ['fw-1', 'fw-2']) await dataplane.setInstance('fw', fw, 'down', null, 'test');
  t.strictSame(send(simulation, IN, tcp(toVip)).visited, [after[1]], 'the firewall is skipped');
  for (const slb of ['slb-1', 'slb-2', 'slb-3']) await dataplane.setInstance('slb', slb, 'down', null, 'test');
  t.strictSame(send(simulation, IN, tcp(toVip)), { visited: [], out: [], in: [] });
  t.strictSame(drops(simulation), [['no_instance', 1]]);

  const holding = await begin(t, yaml().replace('slb: {', 'slb: {on_failure: hold, '));
  await holding.dataplane.setInstance('slb', name(send(holding, IN, tcp(toVip)).visited[1]), 'down', null, 'test');
  t.match(send(holding, IN, tcp(toVip)), { out: [], in: [] });
  t.strictSame(drops(holding), [['held', 1]]);
});

/** "Fragmentation needed" about `frame`, from a router to who sent it. */
function aboutPacket(frame: Buffer): Buffer {
  const quoted = frame.subarray(14, 14 + 28);
  const icmp = Buffer.concat([Buffer.from([3, 4, 0, 0, 0, 0, 5, 0]), quoted]);
  let sum = 0;
  for (let i = 0; i < icmp.length; i += 2) sum += icmp.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  icmp.writeUInt16BE(~sum & 0xffff, 2);
  return frame4('198.51.100.1', quoted.subarray(12, 16).join('.'), 1, icmp);
}

await t.test('ICMP errors follow the stream: about answers to its instance, from whichever side; about its own packets to the client', async (t) => {
  const simulation = await begin(t);
  const { visited } = send(simulation, IN, tcp({ ...toVip, flags: SYN }));
  for (const side of [IN, OUT]) t.strictSame(send(simulation, side, aboutPacket(answer(tcp, toVip))), { visited, out: [], in: [] }, `from port ${side}`);
  const about = aboutPacket(tcp(toVip));
  t.strictSame(send(simulation, OUT, about), { visited: [], out: [], in: [about] });
  t.strictSame(drops(simulation), []);
});

await t.test('TCP of which only one direction is seen', async (t) => {
  const simulation = await begin(t, yaml('nsh', 'flows: {idle: {tcp: 300s, other: 60s, closed: 5s}}'));
  const { network } = simulation;
  const state = async (): Promise<string | undefined> => (await network.flows(0, 10)).flows[0]?.tcp;
  const active = (): number => network.counters().streams.active;
  send(simulation, IN, tcp({ ...toVip, flags: SYN }));
  t.equal(await state(), 'opening');
  send(simulation, IN, tcp({ ...toVip, flags: ACK }));
  t.equal(await state(), 'established', 'who acknowledges was answered');
  network.advance(250n * SECOND);
  t.equal(active(), 1, 'it is idle as TCP is');
  send(simulation, IN, tcp({ ...toVip, flags: FIN | ACK }));
  t.equal(await state(), 'closing');
  network.advance(50n * SECOND);
  send(simulation, IN, tcp({ ...toVip, flags: ACK }));
  t.equal(await state(), 'closing', 'the server may still be sending');
  network.advance(50n * SECOND);
  t.equal(active(), 1);
  network.advance(12n * SECOND);
  t.equal(active(), 0, 'silent for `other` since its opener ended');

  send(simulation, IN, tcp({ ...toVip, flags: SYN }));
  send(simulation, IN, tcp({ ...toVip, flags: ACK }));
  send(simulation, IN, tcp({ ...toVip, flags: FIN | ACK }));
  send(simulation, IN, tcp({ ...toVip, flags: SYN }));
  t.equal(await state(), 'opening', 'the port is used again');
  t.equal(network.counters().streams.opened, 3);
  send(simulation, IN, tcp({ ...toVip, flags: RST }));
  network.advance(7n * SECOND);
  t.equal(active(), 0);

  // With answers that cross, both ends are seen.
  send(simulation, IN, tcp({ ...toVip, flags: SYN }));
  send(simulation, IN, tcp({ ...toVip, flags: ACK }));
  send(simulation, OUT, answer(tcp, { ...toVip, flags: ACK }));
  send(simulation, IN, tcp({ ...toVip, flags: FIN | ACK }));
  t.equal(await state(), 'closing');
  send(simulation, OUT, answer(tcp, { ...toVip, flags: FIN | ACK }));
  t.equal(await state(), 'closed');
  network.advance(7n * SECOND);
  t.equal(active(), 0);
});

await t.test('an answer that comes first is an answer: the stream is one, and its opener still gets to an instance', async (t) => {
  const simulation = await begin(t);
  const early = answer(tcp, toVip);
  t.strictSame(send(simulation, OUT, early), { visited: [], out: [], in: [early] });
  t.match(send(simulation, IN, tcp(toVip)), { visited: { length: 2 }, out: [] });
  t.match((await flows(simulation.dataplane, {}, 10)).flows, [{ source: '10.1.0.2', destination: VIP, opened: 'out', chain: 'vip-web', packets: 2 }]);
  const traced = await trace(subjectOf(simulation.dataplane), { capture: 'web', vlan: [0, 0], protocol: 6, source: VIP, sourcePort: 81, destination: '10.1.0.2', destinationPort: 5, direction: 'in' });
  t.match(traced, { stream: { source: '10.1.0.2', destination: VIP, direction: 'out' }, chain: 'vip-web', path: { deliver: true }, policy: 'vip', considered: [{ policy: 'vip', verdict: 'wins' }], hops: [{ service: 'fw' }, { service: 'slb' }], final: { sent: true } });
});

await t.test('the MSS of SYNs and of answered SYNs is clamped', async (t) => {
  const simulation = await begin(t);
  send(simulation, IN, tcp({ ...toVip, flags: SYN, mss: 1460 }));
  t.strictSame(send(simulation, OUT, answer(tcp, { ...toVip, flags: SYN | ACK, mss: 1460 })).in, [answer(tcp, { ...toVip, flags: SYN | ACK, mss: 1374 })]);
});

const mac = (text: string): Buffer => Buffer.from(text.replaceAll(':', ''), 'hex');
const ip = (text: string): Buffer => Buffer.from(text.split('.').map(Number));
const WORKLOAD = mac('02:00:00:00:00:aa');

function arpRequest(sender: string, target: string, tag = Buffer.alloc(0)): Buffer {
  return Buffer.concat([Buffer.alloc(6, 0xff), WORKLOAD, tag, Buffer.from('08060001080006040001', 'hex'), WORKLOAD, ip(sender), Buffer.alloc(6), ip(target)]);
}

function solicitation(source: string, target: string): Buffer {
  const [from, to] = [source, target].map((text) => Buffer.from(text, 'hex')) as [Buffer, Buffer];
  const icmp = Buffer.concat([Buffer.from([135, 0, 0, 0, 0, 0, 0, 0]), to, Buffer.from([1, 1]), WORKLOAD]);
  const group = Buffer.concat([Buffer.from('ff0200000000000000000001ff', 'hex'), to.subarray(13)]);
  const header = Buffer.from([0x60, 0, 0, 0, 0, icmp.length, 58, 255]);
  return Buffer.concat([mac('33:33:ff:00:01:00'), WORKLOAD, Buffer.from('86dd', 'hex'), header, from, group, icmp]);
}

const VIP6 = 'fd010000000000000000000000000100';

await t.test('who asks for the link address of a virtual address gets weir\'s answer, where it asks; other questions cross', async (t) => {
  const simulation = await begin(t);
  const own = mac(virtualMac('10.1.0.100'));
  for (const side of [IN, OUT]) {
    for (const tag of [Buffer.alloc(0), Buffer.from('81000007', 'hex')]) {
      const { in: toIn, out: toOut } = send(simulation, side, arpRequest('10.1.0.2', '10.1.0.100', tag));
      t.strictSame(side === IN ? toIn : toOut, [Buffer.concat([WORKLOAD, own, tag, Buffer.from('08060001080006040002', 'hex'), own, ip('10.1.0.100'), WORKLOAD, ip('10.1.0.2')])]);
      t.strictSame(side === IN ? toOut : toIn, [], 'the question does not cross');
    }
  }
  t.match(send(simulation, IN, arpRequest('10.1.0.2', '10.1.0.1')), { in: [], out: { length: 1 } });
  t.match(send(simulation, IN, arpRequest('10.1.0.100', '10.1.0.100')), { in: [], out: { length: 1 } }, 'an announcement is no question');
  t.match(send(simulation, IN, arpRequest('10.1.0.2', VIP)), { in: [], out: { length: 1 } }, 'a routed virtual address is asked of nobody');

  const own6 = mac(virtualMac('fd01::100'));
  const { in: advertised } = send(simulation, IN, solicitation('fd010000000000000000000000000002', VIP6));
  t.equal(advertised.length, 1);
  const [na = Buffer.alloc(0)] = advertised;
  t.strictSame(na.subarray(0, 12), Buffer.concat([WORKLOAD, own6]));
  t.equal(na.subarray(22, 54).toString('hex'), `${VIP6}fd010000000000000000000000000002`);
  t.equal(na.subarray(58, 62).toString('hex'), '60000000');
  t.strictSame(na.subarray(78), Buffer.concat([Buffer.from([2, 1]), own6]));
  let sum = 58 + 32;
  for (let i = 22; i < na.length; i += 2) sum += na.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  t.equal(sum, 0xffff, 'its checksum is right');
  const { in: probed } = send(simulation, IN, solicitation('0'.repeat(32), VIP6));
  t.equal(probed[0]?.subarray(38, 54).toString('hex'), 'ff020000000000000000000000000001', 'a probe is answered to all nodes');
  t.match(send(simulation, IN, solicitation('fd010000000000000000000000000002', 'fd010000000000000000000000000001')), { in: [], out: { length: 1 } });
  t.equal(simulation.network.counters().neighbourAnswers, 6);
  await simulation.dataplane.edit((document) => ({ ...document, chains: { 'vip-web': { services: ['fw', 'slb'], deliver: true } } }), {}, 'test');
  t.match(send(simulation, IN, arpRequest('10.1.0.2', '10.1.0.100')), { in: [], out: { length: 1 } }, 'not any more');
  t.equal(simulation.dataplane.paths.all().length, 1, 'virtual addresses make no new path');
});

await t.test('a chain begins to deliver, and ceases to, under a live stream', async (t) => {
  const simulation = await begin(t, yaml().replace('deliver: true, ', '').replace(/, virtual_addresses: \[[^\]]*\]/, ''));
  const { dataplane, network } = simulation;
  for (const last of [21, 22, 23]) network.instance(`10.20.0.${last}`, (frame) => [turnRound(frame)]);
  const before = send(simulation, IN, tcp(toVip));
  t.strictSame(before.out, [tcp(toVip)]);
  const change = (deliver: boolean): Promise<unknown> => dataplane.edit((document) => ({ ...document, chains: { 'vip-web': { services: ['fw', 'slb'], deliver } } }), { existing: 'move' }, 'test');
  await change(true);
  for (const last of [21, 22, 23]) network.instance(`10.20.0.${last}`, () => []);
  t.strictSame(send(simulation, IN, tcp(toVip)), { visited: before.visited, out: [], in: [] }, 'with the same instances');
  t.strictSame(send(simulation, OUT, answer(tcp, toVip)), { visited: [], out: [], in: [answer(tcp, toVip)] });
  await change(false);
  for (const last of [21, 22, 23]) network.instance(`10.20.0.${last}`, (frame) => [turnRound(frame)]);
  t.strictSame(send(simulation, IN, tcp(toVip)), { visited: before.visited, out: [tcp(toVip)], in: [] });
  t.strictSame(send(simulation, OUT, answer(tcp, toVip)).visited, [...before.visited].reverse());
});

await t.test('that nothing comes back says nothing of an instance that ends a chain', async (t) => {
  const loaded = parseConfiguration(yaml().replace('slb: {', 'slb: {health: {passive: true}, ').replace('fw: {', 'fw: {health: {passive: true}, '), 'test.yaml');
  if (!loaded.ok) throw new Error(formatErrors(loaded.errors));
  t.match(loaded.configuration.services, [{ health: { passive: { unreachable: 3, silent: 1000 } } }, { health: { passive: { unreachable: 3, silent: null } } }]);
});

await t.test('what can not be is refused with its place', async (t) => {
  const cases: readonly (readonly [change: (text: string) => string, path: string, message: RegExp])[] = [
    [(text) => text.replace('[fw, slb]', '[]'), 'chains.vip-web.services', /service/],
    [(text) => text.replace('deliver: true', 'deliver: true, answers: backwards'), 'chains.vip-web.answers', /has no answers to order/],
    [(text) => text.replace('slb: {', 'slb: {fail: open, '), 'chains.vip-web.services[1]', /"fail: open"/],
    [(text) => text.replace('{name: slb-3, address: 10.20.0.23}', '{name: slb-3, attach: {in: x0, out: x1}}'), 'chains.vip-web.services[1]', /slb\/slb-3 is attached without stamps/],
    [(text) => text.replace('slb: {', 'slb: {health: {passive: {silent: 50}}, '), 'services.slb.health.passive.silent', /returns nothing/],
    [(text) => text.replace('deliver: true, ', ''), 'chains.vip-web.virtual_addresses', /only a chain that delivers/],
    [(text) => text.replace('deliver: true', 'deliver: yes please'), 'chains.vip-web.deliver', /true or false/],
    [(text) => text.replace('[fw, slb]', '[fw, fw]'), 'chains.vip-web.services[1]', /on this chain already/],
    [(text) => text.replace('[fw, slb]', '[fw, lb]'), 'chains.vip-web.services[1]', /no service "lb"/],
    [(text) => text.replace('80-89', '89-80'), 'policies[0].match.destination_port', /backwards/],
    [(text) => text.replace('10.1.0.100, "2001', '10.20.0.0/24, "2001'), 'policies[0].match.destination[1]', /10.20.0.1 in it, which is the underlay's own address/],
    [(text) => text.replace(/destination: \[[^\]]*\], /, ''), 'policies[0].match', /say which, as "destination"/],
    [(text) => text.replace('[10.1.0.100, "fd01::100"]', '[10.1.0.0/24]'), 'chains.vip-web.virtual_addresses[0]', /an IP address/],
    [(text) => text.replace('[10.1.0.100, "fd01::100"]', '[224.0.0.1]'), 'chains.vip-web.virtual_addresses[0]', /multicast/],
    [(text) => text.replace('[10.1.0.100, "fd01::100"]', '[10.20.0.21]'), 'chains.vip-web.virtual_addresses[0]', /already used by slb\/slb-1/],
    [(text) => text.replace('[10.1.0.100, "fd01::100"]', '[10.20.0.1]'), 'chains.vip-web.virtual_addresses[0]', /already used by the underlay/],
    [(text) => text.replace('[10.1.0.100, "fd01::100"]', '[10.1.0.100, 10.1.0.100]'), 'chains.vip-web.virtual_addresses[1]', /already used by chain vip-web/],
  ];
  const simulation = await begin(t);
  const before = simulation.dataplane.configuration;
  for (const [change, path, message] of cases) {
    const text = change(yaml());
    t.not(text, yaml(), path);
    const loaded = parseConfiguration(text, 'test.yaml');
    if (loaded.ok) {
      t.fail(`${path} was taken`);
      continue;
    }
    t.match(loaded.errors.find((error) => error.path === path)?.message ?? formatErrors(loaded.errors), message, path);
  }
  // The interface's address, which the document does not say: in simulations the underlay is 192.0.2.1.
  const edit = (destination: string): Promise<unknown> =>
    simulation.dataplane.edit((document) => ({ ...document, underlay: before.source.document['underlay'], policies: [{ name: 'vip', match: { destination }, chain: 'vip-web' }] }), {}, 'test');
  const unsaid = await begin(t, yaml().replace(', address: 10.20.0.1', ''));
  await t.rejects(unsaid.dataplane.edit((document) => ({ ...document, policies: [{ name: 'vip', match: { destination: '192.0.2.0/24' }, chain: 'vip-web' }] }), {}, 'test'), { message: /policies\[0\].match.destination: .*192.0.2.1 in it/ });
  await t.rejects(edit('0.0.0.0/0'), { message: /policies\[0\].match.destination: "0.0.0.0\/0"/ });
  await t.rejects(simulate(yaml().replace(', address: 10.20.0.1', '').replace(VIP, '192.0.2.1')), { message: /policies\[0\].match.destination\[0\]: "192.0.2.1" has 192.0.2.1 in it/ });
  t.equal(simulation.dataplane.configuration, before, 'the state in force is untouched');
});
