import t from 'tap';
import { OBSERVE_METHODS } from '../../src/control/observe-methods.js';
import { metricsText } from '../../src/dataplane/metrics.js';
import { turnRound } from '../../src/dataplane/ports/sim-port.js';
import { services, status } from '../../src/dataplane/views.js';
import { subjectOf } from '../../src/explain/subject.js';
import { trace } from '../../src/explain/trace.js';
import { services as servicesText, status as statusText } from '../../src/cli/show.js';
import { answer, stampOf, udp } from '../support/packets.js';
import { simulate, type Simulation } from '../support/sim.js';

const LAN = 0;
const IN = 1;
const OUT = 2;
const DMZ = 3;
const MS = 1_000_000n;

/** fw-1 on the one, fw-2 and ids-1 on the other. */
const document = (encapsulation: string): string => `
underlay:
  - {name: lan, interface: eth1, address: 10.20.0.1}
  - {name: dmz, interface: eth2, address: 10.30.0.1, mtu: 9000}
captures: [{name: web, in: a, out: b}]
services:
  firewall: {instances: [{name: fw-1, address: 10.20.0.11, underlay: lan}, {name: fw-2, address: 10.30.0.12, underlay: dmz}]}
  ids: {instances: [{name: ids-1, address: 10.30.0.21, underlay: dmz}]}
chains: {inspect: {services: [firewall, ids], encapsulation: ${encapsulation}}}
policies: [{name: all, match: {}, chain: inspect}]
`;

/** A frame on a port: from whom to whom. */
const ways = ({ network }: Simulation, port: number): string[] => network.sent(port).map((frame) => `${frame.subarray(26, 30).join('.')} > ${stampOf(frame).to}`);

function send(simulation: Simulation, port: number, frame: Buffer): void {
  const { network } = simulation;
  network.clear();
  network.inject(port, frame);
  network.advance(MS);
}

for (const encapsulation of ['nsh', 'geneve']) {
  t.test(`${encapsulation}: instances of one service on two underlays, and a chain that goes over both`, async (t) => {
    const simulation = await simulate(document(encapsulation));
    t.teardown(() => simulation.dataplane.stop());
    const seen = new Set<string>();
    for (let i = 0; i < 40; i++) {
      const packet = { sourcePort: 40_000 + i };
      send(simulation, IN, udp(packet));
      t.strictSame(simulation.network.sent(OUT), [udp(packet)], 'it leaves as it came');
      const there = [...ways(simulation, LAN), ...ways(simulation, DMZ)];
      t.equal(there.length, 2);
      t.ok(there.includes('10.30.0.1 > 10.30.0.21'));
      for (const way of there) seen.add(way);
      send(simulation, OUT, answer(udp, packet));
      t.strictSame(simulation.network.sent(IN), [answer(udp, packet)]);
      t.strictSame([...ways(simulation, LAN), ...ways(simulation, DMZ)].sort(), there.sort(), 'answers meet the same');
      t.ok(ways(simulation, LAN).every((way) => way === '10.20.0.1 > 10.20.0.11'));
      t.ok(ways(simulation, DMZ).every((way) => way.startsWith('10.30.0.1 > 10.30.0.')));
    }
    t.strictSame([...seen].sort(), ['10.20.0.1 > 10.20.0.11', '10.30.0.1 > 10.30.0.12', '10.30.0.1 > 10.30.0.21']);
  });

  t.test(`${encapsulation}: what an instance sends counts only on its own underlay`, async (t) => {
    const simulation = await simulate(document(encapsulation));
    t.teardown(() => simulation.dataplane.stop());
    const { network, dataplane } = simulation;
    await dataplane.setInstance('firewall', 'fw-2', 'down', null, 'test');
    let genuine: Buffer = Buffer.alloc(0);
    network.instance('10.20.0.11', (frame) => ((genuine = turnRound(frame)), []));
    send(simulation, IN, udp());
    const forged = Buffer.from(genuine);
    forged.writeUInt8(30, 31); // to the address that weir has on the other underlay
    send(simulation, DMZ, forged);
    t.strictSame(network.sent(DMZ), []);
    t.equal(network.counters().dropped['return_wrong_underlay'], 1);
    const before = network.counters().ignored;
    send(simulation, DMZ, genuine);
    t.strictSame(network.sent(DMZ), [], 'an address of weir that this underlay does not have');
    t.equal(network.counters().ignored - before, 2, 'it is ignored, as is the empty frame that moves the clock');
    send(simulation, LAN, genuine);
    t.equal(ways(simulation, DMZ)[0], '10.30.0.1 > 10.30.0.21', 'on its own it goes on');
  });
}

t.test('an edit takes an instance to another underlay, and its live streams with it', async (t) => {
  const simulation = await simulate(document('nsh'));
  t.teardown(() => simulation.dataplane.stop());
  const { dataplane } = simulation;
  await dataplane.setInstance('firewall', 'fw-2', 'down', null, 'test');
  send(simulation, IN, udp());
  t.strictSame(ways(simulation, LAN), ['10.20.0.1 > 10.20.0.11']);
  const { changes } = await dataplane.edit((before) => JSON.parse(JSON.stringify(before).replace('"underlay":"lan"', '"underlay":"dmz"')) as typeof before, {}, 'test');
  t.strictSame(changes, ['instance firewall/fw-1: underlay lan is now dmz']);
  send(simulation, IN, udp());
  t.strictSame(ways(simulation, LAN), []);
  t.strictSame(ways(simulation, DMZ), ['10.30.0.1 > 10.20.0.11', '10.30.0.1 > 10.30.0.21']);
  t.strictSame(simulation.network.sent(OUT), [udp()]);
  const another = [{ name: 'lan', interface: 'eth1' }, { name: 'dmz', interface: 'eth9' }];
  await t.rejects(dataplane.edit((before) => ({ ...before, underlay: another }), {}, 'test'), /underlay: can't change while weir runs/);
});

t.test('which underlay is said wherever instances are', async (t) => {
  const simulation = await simulate(document('nsh'));
  const { dataplane } = simulation;
  t.teardown(() => dataplane.stop());
  t.match(status(dataplane).underlays, [{ name: 'lan', interface: 'eth1', addresses: ['10.20.0.1'], mtu: 1500 }, { name: 'dmz', interface: 'eth2', addresses: ['10.30.0.1'], mtu: 9000 }]);
  t.match(statusText(status(dataplane)), /underlay {3}lan: eth1 \(10\.20\.0\.1, 2001:db8::1, MTU 1500\)\nunderlay {3}dmz: eth2/);
  t.strictSame(services(dataplane).flatMap(({ instances }) => instances.map(({ underlay }) => underlay)), ['lan', 'dmz', 'dmz']);
  t.match(servicesText(services(dataplane)), /10\.30\.0\.12 \(dmz\)/);
  t.match(metricsText(dataplane, '1'), /weir_underlay_mtu_bytes\{underlay="dmz",interface="eth2"\} 9000/);
  await dataplane.setInstance('firewall', 'fw-1', 'down', null, 'test');
  t.match((await trace(subjectOf(dataplane), { capture: 'web', vlan: [0, 0], protocol: 17, source: '10.1.0.2', sourcePort: 1, destination: '10.2.0.2', destinationPort: 2, direction: 'out' })).final, { sent: true, instance: 'firewall/fw-2', underlay: 'dmz' });
});

t.test('a capture looks at one underlay, and says so where instances are on several', async (t) => {
  const simulation = await simulate(document('nsh'));
  const { dataplane } = simulation;
  t.teardown(() => dataplane.stop());
  const open = (params: object): unknown => OBSERVE_METHODS['capture.open']?.run(params as never, { dataplane, who: 'test', log: { info: () => undefined }, atEnd: () => undefined } as never);
  t.strictSame(open({ instance: 'firewall/fw-2' }), { interface: 'eth2', instances: [{ name: 'firewall/fw-2', address: '10.30.0.12' }] });
  t.throws(() => open({ instance: 'firewall' }), { message: 'they are reached by several underlays, and a capture looks at one: lan (firewall/fw-1), dmz (firewall/fw-2); say which, with --underlay NAME' });
  t.strictSame(open({ instance: 'firewall', underlay: 'lan' }), { interface: 'eth1', instances: [{ name: 'firewall/fw-1', address: '10.20.0.11' }] });
  t.throws(() => open({ instance: 'firewall', underlay: 'eth1' }), { message: 'there is no underlay "eth1"; there are: lan, dmz' });
  t.throws(() => open({ instance: 'ids', underlay: 'lan' }), { message: 'none of them is reached by underlay lan: ids/ids-1 by dmz' });
});
