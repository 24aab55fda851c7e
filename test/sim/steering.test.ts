import t from 'tap';
import { turnRound } from '../../src/dataplane/ports/sim-port.js';
import { steerAll } from '../support/configuration.js';
import { ACK, FIN, RST, SYN, answer, stampOf, tcp, udp } from '../support/packets.js';
import { simulate, type Simulation } from '../support/sim.js';

const IN = 1;
const OUT = 2;
const MS = 1_000_000n;
const SECOND = 1000n * MS;

/** Sends a frame and runs 1 ms. Addresses that it visited, and what left by each side. */
function send({ network }: Simulation, port: number, frame: Buffer): { visited: string[]; spis: number[]; out: Buffer[]; in: Buffer[] } {
  network.clear();
  network.inject(port, frame);
  network.advance(MS);
  const stamps = network.sent(0).map(stampOf);
  return { visited: stamps.map((stamp) => stamp.to), spis: stamps.map((stamp) => stamp.spi), out: network.sent(OUT), in: network.sent(IN) };
}

const serviceOf = (address: string): string => ({ '1': 'firewall', '2': 'ids', '3': 'added' })[address.split('.')[3]?.[0] ?? ''] ?? '?';

for (const encapsulation of ['nsh', 'geneve'] as const) {
  t.test(`${encapsulation}: a packet visits the services in order, its answer backwards, and both leave as they came`, async (t) => {
    const simulation = await simulate(steerAll(encapsulation));
    t.teardown(() => simulation.dataplane.stop());
    const there = send(simulation, IN, udp());
    t.strictSame(there.visited.map(serviceOf), ['firewall', 'ids']);
    t.strictSame(there.out, [udp()]);
    const back = send(simulation, OUT, answer(udp, {}));
    t.strictSame(back.visited, [...there.visited].reverse());
    t.strictSame(back.in, [answer(udp, {})]);
    t.strictSame(there.spis, [2, 2]);
    t.strictSame(back.spis, [3, 3]);
  });

  t.test(`${encapsulation}: VLAN tags are back at the end, one and two of them`, async (t) => {
    const simulation = await simulate(steerAll(encapsulation));
    t.teardown(() => simulation.dataplane.stop());
    for (const vlan of [[7], [100, 200]]) {
      t.strictSame(send(simulation, IN, udp({ vlan })).out, [udp({ vlan })]);
      t.strictSame(send(simulation, OUT, answer(udp, { vlan })).in, [answer(udp, { vlan })]);
    }
    t.equal((await simulation.network.flows(0, 10)).flows.length, 2, 'each VLAN has a stream of its own');
  });
}

t.test('answers: forwards visits the services in chain order both ways', async (t) => {
  const simulation = await simulate(steerAll().replace('encapsulation: nsh', 'answers: forwards'));
  t.teardown(() => simulation.dataplane.stop());
  const there = send(simulation, IN, udp());
  t.strictSame(send(simulation, OUT, answer(udp, {})).visited, there.visited);
});

t.test('chains of 1 and 32 hops', async (t) => {
  for (const hops of [1, 32]) {
    const services = Array.from({ length: hops }, (_, i) => `s${i}: {instances: [{name: i, address: 10.20.1.${i + 1}}]}`);
    const simulation = await simulate(
      `underlay: {interface: u}\ncaptures: [{name: web, in: a, out: b}]\nservices: {${services.join(', ')}}\nchains: {c: [${services.map((_, i) => `s${i}`).join(', ')}]}\npolicies: [{name: all, match: {}, chain: c}]`,
    );
    t.teardown(() => simulation.dataplane.stop());
    const there = send(simulation, IN, udp());
    t.strictSame(there.visited, services.map((_, i) => `10.20.1.${i + 1}`), `${hops} hops`);
    t.strictSame(there.out, [udp()]);
    t.strictSame(send(simulation, OUT, answer(udp, {})).visited, services.map((_, i) => `10.20.1.${hops - i}`));
  }
});

t.test('existing: move takes a live stream along, keep does not', async (t) => {
  for (const existing of ['move', 'keep'] as const) {
    const simulation = await simulate(steerAll());
    t.teardown(() => simulation.dataplane.stop());
    const before = send(simulation, IN, udp());
    await simulation.dataplane.setChain('inspect', ['firewall', 'added', 'ids'], existing, 'test');
    const after = send(simulation, IN, udp());
    const expected = existing === 'move' ? ['firewall', 'added', 'ids'] : ['firewall', 'ids'];
    t.strictSame(after.visited.map(serviceOf), expected, existing);
    t.equal(after.visited[0], before.visited[0], 'the firewall instance stays');
    t.equal(after.visited.at(-1), before.visited[1], 'the ids instance stays');
    t.strictSame(send(simulation, IN, udp({ sourcePort: 50000 })).visited.map(serviceOf), ['firewall', 'added', 'ids'], 'a new stream takes the new path');
  }
});

t.test('a packet in flight ends on the path it began', async (t) => {
  const simulation = await simulate(steerAll());
  t.teardown(() => simulation.dataplane.stop());
  const { network, dataplane } = simulation;
  send(simulation, IN, udp());
  network.clear();
  network.inject(IN, udp());
  network.advance(0n); // now at the firewall
  await dataplane.setChain('inspect', ['added'], 'move', 'test');
  network.advance(MS);
  t.strictSame(network.sent(0).map((frame) => serviceOf(stampOf(frame).to)), ['firewall', 'ids']);
  t.strictSame(network.sent(OUT), [udp()]);
  t.strictSame(send(simulation, IN, udp()).visited.map(serviceOf), ['added']);
});

t.test('an old path is freed when it is empty and the grace time is over', async (t) => {
  const simulation = await simulate(steerAll());
  t.teardown(() => simulation.dataplane.stop());
  const { dataplane } = simulation;
  send(simulation, IN, udp());
  await dataplane.setChain('inspect', ['firewall'], 'move', 'test');
  await dataplane.upkeep(10_000);
  t.equal(dataplane.paths.all().length, 2, 'the stream has not moved yet');
  send(simulation, IN, udp());
  await dataplane.upkeep(20_000);
  await dataplane.upkeep(23_000);
  t.strictSame(dataplane.paths.all().map((path) => path.id), [2]);
});

t.test('a drained instance keeps its streams, gets no new ones, and goes down when they are gone', async (t) => {
  const simulation = await simulate(steerAll('nsh', 'flows: {idle: {other: 10s}}'));
  t.teardown(() => simulation.dataplane.stop());
  const { dataplane, network } = simulation;
  const [first = ''] = send(simulation, IN, udp()).visited;
  const name = first.endsWith('.11') ? 'fw-1' : 'fw-2';
  await dataplane.setInstance('firewall', name, 'draining', null, 'test');
  t.equal(send(simulation, IN, udp()).visited[0], first);
  for (let port = 41000; port < 41040; port++) t.not(send(simulation, IN, udp({ sourcePort: port })).visited[0], first);
  await dataplane.upkeep();
  t.equal(dataplane.stateOf(`firewall/${name}`), 'draining');
  network.advance(20n * SECOND);
  await dataplane.upkeep();
  t.equal(dataplane.stateOf(`firewall/${name}`), 'down');
});

t.test('an instance that goes down: rebalance moves its streams, hold drops them', async (t) => {
  for (const onFailure of ['rebalance', 'hold']) {
    const simulation = await simulate(steerAll().replace('firewall: {', `firewall: {on_failure: ${onFailure}, `));
    t.teardown(() => simulation.dataplane.stop());
    const [first = ''] = send(simulation, IN, udp()).visited;
    await simulation.dataplane.setInstance('firewall', first.endsWith('.11') ? 'fw-1' : 'fw-2', 'down', null, 'test');
    const after = send(simulation, IN, udp());
    if (onFailure === 'rebalance') {
      t.not(after.visited[0], first);
      t.strictSame(after.out, [udp()]);
    } else {
      t.strictSame(after.out, []);
      t.equal(simulation.network.counters().dropped['held'], 1);
    }
  }
});

t.test('no instance left: fail closed drops, fail open skips the hop', async (t) => {
  for (const fail of ['closed', 'open']) {
    const simulation = await simulate(steerAll().replace('firewall: {', `firewall: {fail: ${fail}, `));
    t.teardown(() => simulation.dataplane.stop());
    await simulation.dataplane.setInstance('firewall', 'fw-1', 'down', null, 'test');
    await simulation.dataplane.setInstance('firewall', 'fw-2', 'down', null, 'test');
    const after = send(simulation, IN, udp());
    t.strictSame(after.visited.map(serviceOf), fail === 'open' ? ['ids'] : []);
    t.equal(simulation.network.counters().dropped['no_instance'], fail === 'open' ? 0 : 1);
    t.strictSame(after.out, fail === 'open' ? [udp()] : []);
  }
});

t.test('returned packets are accepted only from an instance of that hop, with a live code, on a path that is there', async (t) => {
  const simulation = await simulate(steerAll());
  t.teardown(() => simulation.dataplane.stop());
  const { network } = simulation;
  const captured: Buffer[] = [];
  network.instance('10.20.0.11', (frame) => (captured.push(Buffer.from(frame)), [turnRound(frame)]));
  network.instance('10.20.0.12', (frame) => (captured.push(Buffer.from(frame)), [turnRound(frame)]));
  send(simulation, IN, udp());
  const genuine = turnRound(captured[0] ?? Buffer.alloc(0));
  const forged = (change: (frame: Buffer) => void): string | undefined => {
    const frame = Buffer.from(genuine);
    change(frame);
    const before = network.counters().dropped;
    const { out } = send(simulation, 0, frame);
    t.strictSame(out, []);
    return Object.entries(network.counters().dropped).find(([reason, n]) => n !== before[reason])?.[0];
  };
  t.equal(forged((f) => f.writeUInt8(99, 29)), 'return_wrong_instance', 'a stranger');
  t.equal(forged((f) => f.writeUInt8(21, 29)), 'return_wrong_instance', 'an instance of another hop');
  t.equal(forged((f) => f.writeUInt32BE(1, 62)), 'return_wrong_code');
  t.equal(forged((f) => f.writeUIntBE(200, 54, 3)), 'return_unknown_path');
  t.equal(forged((f) => f.writeUInt8(255, 57)), 'return_bad_index', 'not counted down');
  t.equal(forged((f) => f.writeUInt8(7, 57)), 'return_bad_index', 'further than the path is long');
  t.equal(forged((f) => f.writeUInt8(77, f.length - 20 + 3)), 'return_unknown_stream', 'another inner address');
  t.equal(forged((f) => f.writeUInt16BE(0x0044, 50)), 'ttl_expired');
  t.equal(forged((f) => f.writeUInt8(0x2f, 50)), 'oam');
  t.equal(forged((f) => f.writeUInt8(0, 45)), 'return_malformed', 'no NSH');
});

t.test('TCP: a closed stream leaves soon, and a new SYN opens it anew', async (t) => {
  const simulation = await simulate(steerAll());
  t.teardown(() => simulation.dataplane.stop());
  const { network } = simulation;
  const state = async (): Promise<string | undefined> => (await network.flows(0, 10)).flows[0]?.tcp;
  send(simulation, IN, tcp({ flags: SYN, mss: 1460 }));
  t.equal(await state(), 'opening');
  send(simulation, OUT, answer(tcp, { flags: SYN | ACK, mss: 1460 }));
  t.equal(await state(), 'opening', 'a listener answers anybody');
  send(simulation, IN, tcp());
  t.equal(await state(), 'established');
  send(simulation, IN, tcp({ flags: FIN | ACK }));
  t.equal(await state(), 'closing');
  send(simulation, OUT, answer(tcp, { flags: FIN | ACK }));
  t.equal(await state(), 'closed');
  send(simulation, IN, tcp({ flags: SYN }));
  t.equal(await state(), 'opening');
  t.equal(network.counters().streams.opened, 2);
  send(simulation, IN, tcp({ flags: RST }));
  network.advance(7n * SECOND);
  t.equal(network.counters().streams.active, 0);
  send(simulation, IN, tcp({ flags: SYN }));
  network.advance(100n * SECOND);
  t.equal(network.counters().streams.active, 1, 'a SYN may come again');
  network.advance(22n * SECOND);
  t.equal(network.counters().streams.active, 0, 'one that nobody answered is forgotten as other streams are');
  send(simulation, IN, tcp({ flags: SYN }));
  send(simulation, OUT, answer(tcp, { flags: SYN | ACK }));
  send(simulation, IN, tcp());
  for (let i = 0; i < 3; i++) {
    network.advance(300n * SECOND);
    t.equal(network.counters().streams.active, 1, 'TCP is idle for 350 s at least, and a keepalive begins that anew');
    send(simulation, IN, tcp({ flags: ACK }));
  }
  network.advance(360n * SECOND);
  t.equal(network.counters().streams.active, 0);
  send(simulation, IN, tcp({ flags: SYN, sequence: 1 }));
  const opened = network.counters().streams.opened;
  send(simulation, IN, tcp({ flags: SYN, sequence: 999_999 }));
  send(simulation, OUT, answer(tcp, { flags: SYN | ACK }));
  send(simulation, IN, tcp());
  t.equal(await state(), 'established', 'a SYN that comes again, also with another sequence, is of the same stream');
  send(simulation, IN, tcp({ flags: SYN, sequence: 5 }));
  t.equal(await state(), 'established', 'and does not end one that is established: its ends decide that');
  t.equal(network.counters().streams.opened, opened);
  send(simulation, OUT, answer(tcp, { flags: RST }));
  t.equal(await state(), 'closed');
  network.advance(7n * SECOND);
  for (const [what, flags] of [['FIN', FIN | ACK], ['RST', RST], ['RST and ACK', RST | ACK]] as const) {
    send(simulation, IN, tcp({ flags }));
    t.equal(await state(), 'closed', `a late ${what} of a forgotten stream opens nothing that stays`);
    network.advance(7n * SECOND);
    t.equal(network.counters().streams.active, 0);
  }
});

t.test('the MSS of a SYN is clamped to what the underlay carries', async (t) => {
  for (const [mssClamp, expected] of [['auto', 1374], ['off', 1460]] as const) {
    const simulation = await simulate(steerAll('nsh', `mss_clamp: ${mssClamp}`));
    t.teardown(() => simulation.dataplane.stop());
    // 1500 - IPv6 40 - UDP 8 - VXLAN-GPE and NSH 24 - Ethernet 14 - IPv4 20 - TCP 20, since an instance may be reached over IPv6
    t.strictSame(send(simulation, IN, tcp({ flags: SYN, mss: 1460 })).out, [tcp({ flags: SYN, mss: expected })]);
  }
});

t.test('when the table is full the idlest stream goes', async (t) => {
  const simulation = await simulate(steerAll(), 4);
  t.teardown(() => simulation.dataplane.stop());
  const { network } = simulation;
  for (let i = 0; i < 4; i++) {
    send(simulation, IN, udp({ sourcePort: 1000 + i }));
    network.advance(3n * SECOND);
  }
  send(simulation, IN, udp({ sourcePort: 1000 }));
  network.advance(3n * SECOND);
  send(simulation, IN, udp({ sourcePort: 2000 }));
  const ports = (await network.flows(0, 10)).flows.map((flow) => flow.sourcePort).sort();
  t.strictSame(ports, [1000, 1002, 1003, 2000]);
  t.equal(network.counters().streams.evicted, 1);
});

t.test('frames that are not steered cross unchanged, malformed ones are counted', async (t) => {
  const simulation = await simulate(steerAll());
  t.teardown(() => simulation.dataplane.stop());
  const arp = Buffer.from(`ffffffffffff0200000000aa0806${'00'.repeat(28)}`, 'hex');
  t.strictSame(send(simulation, IN, arp).out, [arp]);
  t.strictSame(send(simulation, OUT, arp).in, [arp]);
  const lying = udp();
  lying.writeUInt16BE(2000, 16);
  t.strictSame(send(simulation, IN, lying).out, []);
  t.strictSame(send(simulation, IN, Buffer.alloc(7)).out, []);
  t.match(simulation.network.counters().dropped, { bad_ip_length: 1, runt: 1 });
  t.match(simulation.network.counters().crossedBy, { not_ip: 2 });
});

t.test('policies: drop drops, pass crosses, direction tells who opened', async (t) => {
  const simulation = await simulate(
    `captures: [{name: web, in: a, out: b}]\npolicies:\n  - {name: telnet, match: {protocol: tcp, destination_port: 23}, action: drop}\n  - {name: inbound, match: {direction: in}, action: drop}`,
  );
  t.teardown(() => simulation.dataplane.stop());
  t.strictSame(send(simulation, IN, tcp({ destinationPort: 23 })).out, []);
  t.strictSame(send(simulation, IN, tcp()).out, [tcp()]);
  t.strictSame(send(simulation, OUT, answer(tcp, {})).in, [answer(tcp, {})], 'an answer is not an opening');
  t.strictSame(send(simulation, OUT, tcp({ sourcePort: 5 }, true)).in, []);
});
