/** Appliances made for Gateway Load Balancers as instances: each thing that they may do with what they get (docs/service-nodes.md). */
import t from 'tap';
import { turnRound } from '../../src/dataplane/ports/sim-port.js';
import { steerAll } from '../support/configuration.js';
import { RST, SYN, answer, frame4, stampOf, tcp, udp } from '../support/packets.js';
import { simulate, type Simulation } from '../support/sim.js';

const IN = 1;
const OUT = 2;
const MS = 1_000_000n;
const GENEVE = 42;
const INNER = GENEVE + 40;
const APPLIANCES = ['10.20.0.11', '10.20.0.12', '10.20.0.21', '10.20.0.22'];

function send({ network }: Simulation, port: number, frame: Buffer): { to: string[]; out: Buffer[]; in: Buffer[] } {
  network.clear();
  network.inject(port, frame);
  network.advance(MS);
  return { to: network.sent(0).map((stamped) => stampOf(stamped).to), out: network.sent(OUT), in: network.sent(IN) };
}
const service = (address: string): string => (address.startsWith('10.20.0.1') ? 'firewall' : 'ids');

/** Addresses, protocol and ports of the packet within, of which one direction or both have one key. */
function flowOf(stamped: Buffer, bothWays: boolean): string {
  const ip = stamped.subarray(INNER);
  const at = (ip[0] ?? 0) % 16 * 4;
  const ends = [ip.subarray(12, 16).toString('hex') + ip.subarray(at, at + 2).toString('hex'), ip.subarray(16, 20).toString('hex') + ip.subarray(at + 2, at + 4).toString('hex')];
  return `${ip[9]} ${(bothWays ? ends.sort() : ends).join(' ')}`;
}

/** Behind the header of another packet: the frame's own inner packet, outer addresses swapped, ports as they came. */
function behind(header: Buffer, stamped: Buffer): Buffer {
  const back = turnRound(stamped);
  header.copy(back, GENEVE, GENEVE, INNER);
  return back;
}

async function start(t: { teardown: (f: () => Promise<void>) => void }): Promise<Simulation> {
  const simulation = await simulate(steerAll('geneve'));
  t.teardown(() => simulation.dataplane.stop());
  return simulation;
}

t.test('all three options are there, in order, with the lengths that appliances ask for', async (t) => {
  const simulation = await start(t);
  send(simulation, IN, udp());
  for (const stamped of simulation.network.sent(0)) {
    t.equal(stamped.readUInt16BE(36), 6081);
    t.equal(stamped.readUInt16BE(GENEVE), 0x0800, 'version 0, 32 bytes of options, no flags');
    t.equal(stamped.readUInt16BE(GENEVE + 2), 0x0800);
    t.equal(stamped.readUInt32BE(GENEVE + 4), 0);
    t.strictSame([8, 20, 32].map((at) => stamped.readUInt32BE(GENEVE + at)), [0x0108_0102, 0x0108_0202, 0x0108_0301]);
    t.strictSame(stamped.subarray(INNER), udp().subarray(14));
  }
  const [there] = simulation.network.sent(0);
  send(simulation, OUT, answer(udp, {}));
  const [back] = simulation.network.sent(0);
  t.strictSame(back?.subarray(GENEVE + 8, GENEVE + 20), there?.subarray(GENEVE + 8, GENEVE + 20), 'one endpoint for both directions');
  t.strictSame(back?.subarray(GENEVE + 32, GENEVE + 40), there?.subarray(GENEVE + 32, GENEVE + 40), 'one cookie for both directions');
});

for (const bothWays of [false, true]) {
  t.test(`an appliance that keeps the first header of each flow${bothWays ? ', one for both directions' : ''}: also over a change of the chain`, async (t) => {
    const simulation = await start(t);
    for (const address of APPLIANCES) {
      const first = new Map<string, Buffer>();
      simulation.network.instance(address, (stamped) => {
        const key = flowOf(stamped, bothWays);
        if (!first.has(key)) first.set(key, Buffer.from(stamped));
        return [behind(first.get(key) ?? stamped, stamped)];
      });
    }
    for (let round = 0; round < 3; round++) {
      const there = send(simulation, IN, udp());
      t.strictSame(there.to.map(service), round === 1 ? ['ids', 'firewall'] : ['firewall', 'ids']);
      t.strictSame(there.out, [udp()]);
      const back = send(simulation, OUT, answer(udp, {}));
      t.strictSame(back.to, [...there.to].reverse());
      t.strictSame(back.in, [answer(udp, {})]);
      await simulation.dataplane.setChain('inspect', round === 0 ? ['ids', 'firewall'] : ['firewall', 'ids'], 'move', 'test');
    }
  });
}

t.test('ports as they came or swapped, any TTL and ToS, with a UDP checksum or without', async (t) => {
  const simulation = await start(t);
  const ways: readonly ((frame: Buffer) => void)[] = [
    () => undefined,
    (frame) => frame.subarray(34, 38).swap16().swap32(),
    (frame) => {
      frame[15] = 0xff;
      frame[22] = 1;
      frame.writeUInt16BE(0x1234, 18);
    },
    (frame) => frame.writeUInt16BE(checksum(frame), 40),
  ];
  for (const [i, change] of ways.entries()) {
    for (const address of APPLIANCES) {
      simulation.network.instance(address, (stamped) => {
        const back = turnRound(stamped);
        change(back);
        return [back];
      });
    }
    t.strictSame(send(simulation, IN, udp()).out, [udp()], `way ${i}`);
    t.strictSame(send(simulation, OUT, answer(udp, {})).in, [answer(udp, {})], `way ${i}`);
  }
  const wrong = simulation.network.counters().dropped['return_checksum'] ?? 0;
  simulation.network.instance('10.20.0.11', (stamped) => [withChecksum(stamped, 1)]);
  simulation.network.instance('10.20.0.12', (stamped) => [withChecksum(stamped, 1)]);
  t.strictSame(send(simulation, IN, udp()).out, []);
  t.equal(simulation.network.counters().dropped['return_checksum'], wrong + 1, 'a checksum that is wrong is not taken');
});

t.test('the inner packet changed in length and content goes on changed', async (t) => {
  const simulation = await start(t);
  const other = udp({ payload: Buffer.from('longer than it was before') });
  for (const address of APPLIANCES.slice(0, 2)) {
    simulation.network.instance(address, (stamped) => {
      const back = Buffer.concat([turnRound(stamped).subarray(0, INNER), other.subarray(14)]);
      back.writeUInt16BE(back.length - 14, 16);
      back.writeUInt16BE(back.length - 34, 38);
      return [back];
    });
  }
  t.strictSame(send(simulation, IN, udp()).out, [other]);
});

t.test('an appliance answers in the destinations place, behind the header of the packet that it answers', async (t) => {
  const simulation = await start(t);
  const reset = answer(tcp, { flags: RST });
  for (const address of APPLIANCES.slice(2)) {
    simulation.network.instance(address, (stamped) => {
      const back = Buffer.concat([turnRound(stamped).subarray(0, INNER), reset.subarray(14)]);
      back.writeUInt16BE(back.length - 14, 16);
      back.writeUInt16BE(back.length - 34, 38);
      return [back];
    });
  }
  const { to, in: back, out } = send(simulation, IN, tcp({ flags: SYN }));
  t.strictSame(to.map(service), ['firewall', 'ids', 'firewall'], 'back through the hops before it');
  t.strictSame(back, [reset], 'framed as an answer, though none had come yet');
  t.strictSame(out, []);
});

t.test('an ICMP error of the appliances own goes to the sender', async (t) => {
  const simulation = await start(t);
  const error = frame4('10.20.0.11', '10.1.0.2', 1, Buffer.concat([Buffer.from([3, 13, 0, 0, 0, 0, 0, 0]), udp().subarray(14, 42)]));
  for (const address of APPLIANCES.slice(0, 2)) {
    simulation.network.instance(address, (stamped) => {
      const back = Buffer.concat([turnRound(stamped).subarray(0, INNER), error.subarray(14)]);
      back.writeUInt16BE(back.length - 14, 16);
      back.writeUInt16BE(back.length - 34, 38);
      return [back];
    });
  }
  t.strictSame(send(simulation, IN, udp()).in.map((frame) => frame.subarray(14)), [error.subarray(14)]);
});

t.test('what an appliance opens itself, or sends for a stream that is not with it, is dropped', async (t) => {
  const simulation = await start(t);
  const [first = ''] = send(simulation, IN, udp()).to;
  const [stamped = Buffer.alloc(0)] = simulation.network.sent(0);
  const before = { ...simulation.network.counters().dropped };
  const drops = (reason: string): number => (simulation.network.counters().dropped[reason] ?? 0) - (before[reason] ?? 0);
  const own = Buffer.concat([turnRound(stamped).subarray(0, INNER), udp({ sourcePort: 1234 }).subarray(14)]);
  send(simulation, 0, own);
  t.equal(drops('return_unknown_stream'), 1);
  const cookie = turnRound(stamped);
  cookie.writeUInt32BE(1, GENEVE + 36);
  send(simulation, 0, cookie);
  t.equal(drops('return_wrong_code'), 1);
  const other = turnRound(stamped);
  other[29] = first.endsWith('.11') ? 12 : 11;
  t.strictSame(send(simulation, 0, other).out, []);
  t.equal(drops('return_wrong_instance'), 1, 'another instance of the same service');
  other[29] = 99;
  send(simulation, 0, other);
  t.equal(drops('return_wrong_instance'), 2, 'nobodys address');
});

for (const encapsulation of ['nsh', 'geneve'] as const) {
  t.test(`${encapsulation}: a stream between two hosts of one side, turned round by a router: each crossing goes its own way`, async (t) => {
    const simulation = await simulate(steerAll(encapsulation));
    t.teardown(() => simulation.dataplane.stop());
    const there = send(simulation, IN, udp());
    t.strictSame(there.out, [udp()]);
    for (let i = 0; i < 2; i++) {
      const again = send(simulation, OUT, udp({}, true));
      t.strictSame(again.in, [udp({}, true)]);
      t.strictSame(again.to, [...there.to].reverse());
      t.strictSame(send(simulation, IN, udp()).out, [udp()]);
    }
  });
}

/** Of the UDP datagram in a frame, over IPv4. */
function checksum(frame: Buffer): number {
  const udpPart = Buffer.from(frame.subarray(34));
  udpPart.writeUInt16BE(0, 6);
  const pseudo = Buffer.concat([frame.subarray(26, 34), Buffer.from([0, 17, udpPart.length >> 8, udpPart.length & 255]), udpPart, Buffer.alloc(udpPart.length % 2)]);
  let sum = 0;
  for (let i = 0; i < pseudo.length; i += 2) sum += pseudo.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff || 0xffff;
}

function withChecksum(stamped: Buffer, off: number): Buffer {
  const back = turnRound(stamped);
  back.writeUInt16BE((checksum(back) + off) & 0xffff, 40);
  return back;
}
