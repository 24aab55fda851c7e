/** Packets that are too long for the way out of the capture, and whom ICMP tells of it. */
import t from 'tap';
import { replayFacts } from '../../src/program/compile.js';
import { steerAll, valid } from '../support/configuration.js';
import { SYN, answer, tcp, udp } from '../support/packets.js';
import { simulate, type Simulation } from '../support/sim.js';

const IN = 1;
const OUT = 2;
const MS = 1_000_000n;

/** An underlay with room for 9,000 bytes, a capture for 1,500. */
async function jumbo(underlay = 'mtu: 9000', policies?: string): Promise<Simulation> {
  const text = steerAll().replace('{interface: eth1}', `{interface: eth1, ${underlay}}`);
  const configuration = valid(policies === undefined ? text : text.replace(/policies: .*/, policies));
  const { underlays } = replayFacts(configuration);
  return simulate(configuration, 1000, undefined, undefined, undefined, { host: { underlays, captureMtus: [1500], interfaces: [] } });
}

/** What came back to the sender, and what left on the other side. */
function send({ network }: Simulation, from: number, frame: Buffer): { back: Buffer[]; on: Buffer[] } {
  network.clear();
  network.inject(from, frame, 20n * MS); // ICMP is held back in the very first moment, and a while after each
  network.advance(21n * MS);
  return { back: network.sent(from), on: network.sent(from === IN ? OUT : IN) };
}

const nextHopMtu = (frame: Buffer | undefined): number => (frame?.[34] === 3 && frame[35] === 4 ? frame.readUInt16BE(40) : 0);

for (const underlay of ['mtu: 9000', 'mtu: 4000, fragment: true']) {
  t.test(`underlay {${underlay}}: what does not fit the capture's other side is not sent through the chain first`, async (t) => {
    const simulation = await jumbo(underlay);
    t.teardown(() => simulation.dataplane.stop());
    const { back, on } = send(simulation, IN, udp({ payload: Buffer.alloc(3000) }));
    t.equal(nextHopMtu(back[0]), 1500);
    t.strictSame(on, []);
    t.equal(simulation.network.counters().stamped.packets, 0);
    t.equal(simulation.network.counters().dropped['too_big'], 1);
    const syn = send(simulation, IN, tcp({ flags: SYN, mss: 8960 })).on[0];
    t.equal(syn?.readUInt16BE(14 + 20 + 20 + 2), 1460, 'the MSS is clamped to it');
    t.strictSame(send(simulation, IN, tcp({ payload: Buffer.alloc(3000) })).on.map((frame) => frame.length <= 1514), [true, true, true], 'TCP is cut to it');
  });
}

t.test('what only crosses and does not fit the other side: its sender is told, too', async (t) => {
  const simulation = await jumbo('mtu: 9000', 'policies: []');
  t.teardown(() => simulation.dataplane.stop());
  const { back, on } = send(simulation, OUT, answer(udp, { payload: Buffer.alloc(3000) }));
  t.equal(nextHopMtu(back[0]), 1500);
  t.strictSame(on, []);
  t.equal(simulation.network.counters().dropped['too_big'], 1);
  t.equal(send(simulation, OUT, answer(udp, { payload: Buffer.alloc(1400) })).on.length, 1);
});

t.test('nobody is told about multicast or broadcast, or where the sender is no single host', async (t) => {
  const simulation = await simulate(steerAll());
  t.teardown(() => simulation.dataplane.stop());
  const payload = Buffer.alloc(1472);
  const multicast = udp({ destination: '239.1.1.1', payload });
  multicast.write('01005e010101', 0, 'hex');
  const broadcast = udp({ destination: '255.255.255.255', payload });
  broadcast.write('ffffffffffff', 0, 'hex');
  const directed = udp({ destination: '10.2.0.255', payload });
  directed.write('ffffffffffff', 0, 'hex');
  const frames = [multicast, broadcast, directed, udp({ destination: '239.1.1.1', payload }), udp({ source: '0.0.0.0', payload }), udp({ source: '127.0.0.1', payload }), udp({ source: '224.0.0.5', payload })];
  for (const [i, frame] of frames.entries()) t.strictSame(send(simulation, IN, frame).back, [], `frame ${i}`);
  const six = Buffer.concat([Buffer.from('333300000101' + '0200000000aa86dd', 'hex'), Buffer.alloc(40), Buffer.alloc(1460)]);
  six[14] = 0x60;
  six.writeUInt16BE(1460, 18);
  six[20] = 17;
  six.write('fd010000000000000000000000000002ff0e0000000000000000000000000101', 22, 'hex');
  six.writeUInt16BE(1460, 58);
  t.strictSame(send(simulation, IN, six).back, [], 'IPv6 multicast: from no address that may answer');
  t.equal(simulation.network.counters().dropped['too_big'], frames.length + 1);
  t.equal(send(simulation, IN, udp({ payload })).back.length, 1);
});
