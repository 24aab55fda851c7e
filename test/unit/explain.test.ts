import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { packetOf, streamsOf } from '../../src/explain/capture.js';
import { decodeFrame, decodePacket } from '../../src/explain/decode.js';
import { openingFrame } from '../../src/explain/opening-frame.js';
import { stillSubject, subjectOf } from '../../src/explain/subject.js';
import { trace, type TraceRequest } from '../../src/explain/trace.js';
import { native, type Tuple } from '../../src/dataplane/native.js';
import { steerAll, valid } from '../support/configuration.js';
import { ROOT } from '../support/lab.js';
import { answer, stampOf, tcp, udp } from '../support/packets.js';
import { simulate } from '../support/sim.js';

const PCAPS = join(ROOT, 'pcaps');
const captures = readdirSync(PCAPS).filter((name) => /\.pcap(ng)?$/.test(name));
const UDP: TraceRequest = { capture: 'web', vlan: [0, 0], protocol: 17, source: '10.1.0.2', sourcePort: 40000, destination: '10.2.0.2', destinationPort: 53, direction: 'out' };
const given = (bytes: Buffer, direction: 'out' | 'in' = 'out'): Partial<TraceRequest> => ({ frame: { bytes, direction } });

for (const encapsulation of ['nsh', 'geneve'] as const) {
  t.test(`${encapsulation}: the final frame is, byte for byte, what the pipeline then sends, and is decoded as it was stamped`, async (t) => {
    const { dataplane, network } = await simulate(steerAll(encapsulation));
    for (const frame of [udp(), tcp({ mss: 1460, flags: 2 }), tcp({ payload: Buffer.alloc(1400, 7) }), udp({ vlan: [7] }), udp({ sourcePort: 1, vlan: [100, 200] })]) {
      const packet = decodePacket(frame);
      const request: TraceRequest = { ...UDP, protocol: packet?.protocol ?? 0, sourcePort: packet?.ports?.source ?? 0, destinationPort: packet?.ports?.destination ?? 0, vlan: [packet?.ethernet?.vlans[0] ?? 0, packet?.ethernet?.vlans[1] ?? 0] };
      const { final, live, path } = await trace(subjectOf(dataplane), { ...request, ...given(frame) });
      network.clear();
      network.inject(1, frame);
      network.advance(1_000_000n);
      const sent = network.sent(0)[0];
      if (!final.sent || sent === undefined) return t.fail(JSON.stringify({ final, live }));
      t.equal(final.hex, sent.toString('hex'));
      const stamp = stampOf(sent);
      t.match(final.decoded, { stamp: { encapsulation, spi: stamp.spi, si: stamp.si, code: stamp.code, direction: 'opener' }, outer: { destination: stamp.to, protocol: 17 }, inner: { source: '10.1.0.2', destination: '10.2.0.2', ports: packet?.ports } });
      t.equal(stamp.spi, path?.spi.forward);
    }
    await dataplane.stop();
  });
}

t.test('asking leaves neither a stream nor a count behind', async (t) => {
  const { dataplane } = await simulate(steerAll());
  const before = dataplane.runner.counters();
  for (let i = 0; i < 10; i++) await trace(subjectOf(dataplane), { ...UDP, sourcePort: i, ...given(udp({ sourcePort: i })) });
  t.strictSame(dataplane.runner.counters(), before);
  await dataplane.stop();
});

t.test('a live stream: its pin, its older path, and where its packets go, are told beside what a new one would get', async (t) => {
  const { dataplane, network } = await simulate(steerAll());
  network.inject(1, udp());
  network.advance(1_000_000n);
  const first = await trace(subjectOf(dataplane), UDP);
  const pinned = first.hops[0]?.pinned ?? '';
  t.equal(pinned, first.hops[0]?.chosen);
  const name = pinned.split('/')[1] ?? '';
  await dataplane.setInstance('firewall', name, 'draining', null, 'test');
  await dataplane.setChain('inspect', ['firewall', 'added', 'ids'], 'keep', 'test');
  const second = await trace(subjectOf(dataplane), UDP);
  t.match(second, {
    path: { id: 2, version: 2, current: true, services: ['firewall', 'added', 'ids'] },
    livePath: { id: 1, version: 1, current: false },
    hops: [{ service: 'firewall', pinned, ranked: [{ instance: pinned, state: 'draining' }] }, { service: 'added', pinned: null }, { service: 'ids' }],
    live: { path: 1, packets: 1 },
    final: { sent: true, instance: pinned, decoded: { stamp: { spi: 2 } } },
  });
  t.not(second.hops[0]?.chosen, pinned, 'a new stream would go elsewhere');

  const back = await trace(subjectOf(dataplane), { ...UDP, ...given(answer(udp, {}), 'in') });
  t.match(back.final, { sent: true, instance: /^ids\//, decoded: { stamp: { spi: 3, direction: 'answers' } } }, 'an answer begins at the last service');

  await dataplane.setInstance('firewall', name, 'down', null, 'test');
  const third = await trace(subjectOf(dataplane), UDP);
  t.match(third.final, { sent: true, instance: third.hops[0]?.chosen }, 'the pin can not be used any more');
  network.clear();
  network.inject(1, udp());
  network.advance(1_000_000n);
  t.equal(network.sent(0)[0]?.readUIntBE(54, 3), 2);
  t.match(third.final, { decoded: { outer: { destination: stampOf(network.sent(0)[0] ?? Buffer.alloc(80)).to } } }, 'and that is where the next packet went');
  await dataplane.stop();
});

t.test('a live stream that is told to move: the final frame is what its next packet becomes, on the new path with its old instances', async (t) => {
  const { dataplane, network } = await simulate(steerAll());
  for (let i = 0; i < 20; i++) network.inject(1, udp({ sourcePort: i + 1 }));
  network.advance(1_000_000n);
  await dataplane.setInstance('ids', 'ids-1', 'draining', null, 'test');
  await dataplane.setChain('inspect', ['ids', 'added', 'firewall'], 'move', 'test');
  await dataplane.setChain('inspect', ['ids', 'firewall'], 'move', 'test');
  for (let i = 0; i < 20; i++) {
    const packet = udp({ sourcePort: i + 1 });
    const { final, livePath } = await trace(subjectOf(dataplane), { ...UDP, sourcePort: i + 1, ...given(packet) });
    network.clear();
    network.inject(1, packet);
    network.advance(1_000_000n);
    t.match(livePath, { id: 1, movedTo: 3 });
    t.match(final, { sent: true, hex: network.sent(0)[0]?.toString('hex'), decoded: { stamp: { spi: 6 } } });
  }
  await dataplane.stop();
});

const NO_FRAME: readonly (readonly [string, string, Partial<TraceRequest>, RegExp])[] = [
  ['the default', steerAll().replace('match: {}', 'match: {protocol: tcp}'), {}, /^crosses unchanged: default_pass$/],
  ['a policy that passes', steerAll().replace('chain: inspect}]', 'action: pass}]'), {}, /^crosses unchanged: policy$/],
  ['a policy that drops', steerAll().replace('chain: inspect}]', 'action: drop}]'), {}, /^dropped: policy$/],
  ['a chain of which every service fails open', steerAll().replace(/added: .*/, 'added: {fail: open, instances: []}').replace('[firewall, ids]', '[added]'), {}, /^crosses unchanged: empty_chain$/],
  ['no instance at all', steerAll().replace(/added: .*/, 'added: {instances: []}').replace('[firewall, ids]', '[added]'), {}, /^dropped: no_instance$/],
  ['a protocol that is not steered', steerAll(), { protocol: 47 }, /^crosses unchanged: other_protocol$/],
  ['two address families', steerAll(), { destination: 'fd01::1' }, /different address families/],
  ['a packet too big to stamp', steerAll(), given(udp({ payload: Buffer.alloc(1460) })), /^dropped: too_big, and the sender is told$/],
  ['a frame cut short', steerAll(), given(udp().subarray(0, 30)), /^dropped: /],
];
for (const [claim, yaml, request, why] of NO_FRAME) {
  t.test(`no frame: ${claim}`, async (t) => {
    const { final } = await trace(stillSubject(valid(yaml)), { ...UDP, ...request });
    t.match(final, { sent: false, why });
  });
}

t.test('a frame is not what one asked about before made of it', async (t) => {
  const subject = stillSubject(valid(steerAll()));
  const late = udp();
  late.writeUInt16BE(0x2001, 20); // a later fragment: held
  const ask = async (request: Partial<TraceRequest>) => (await trace(subject, { ...UDP, ...request })).final;
  const first = await ask({});
  t.match(await ask(given(late)), { sent: false, why: /^(held|dropped)/ });
  t.match(await ask({ protocol: 47 }), { sent: false, why: 'crosses unchanged: other_protocol' });
  const other = (await trace(stillSubject(valid(steerAll('geneve'))), UDP)).final;
  t.match(other, { sent: true, decoded: { stamp: { encapsulation: 'geneve' } } }, 'the same stream by another program');
  t.strictSame(await ask({}), first);
});

t.test('every policy is judged; of many that do not match the first hundred are told', async (t) => {
  const policies = Array.from({ length: 300 }, (_, i) => `{name: p${i}, match: {destination: 172.16.${i % 256}.0/24}, action: drop}`).join(', ');
  const answer = await trace(stillSubject(valid(steerAll().replace('policies: [', `policies: [${policies}, {name: wide, priority: -1, match: {}, action: drop}, `))), UDP);
  t.equal(answer.notShown, 200);
  t.match(answer.considered.slice(-2), [{ policy: 'wide', verdict: 'outranked by all (priority)' }, { policy: 'all', verdict: 'wins' }]);
  t.match(answer.considered[0], { policy: 'p0', specificity: null, verdict: 'no match: destination' });
});

t.test('a made-up opening packet is the stream that was asked about, with right checksums', async (t) => {
  const tuples: readonly (readonly [number, string, string, number, number])[] = [
    [6, '10.1.0.2', '10.2.0.2', 40000, 80],
    [17, '10.1.0.2', '10.2.0.2', 1, 65535],
    [1, '10.1.0.2', '10.2.0.2', 77, 77],
    [6, 'fd01::2', 'fd02::1', 40000, 443],
    [17, 'fd01::2', 'fd02::1', 5, 53],
    [58, 'fd01::2', 'fd02::1', 9, 9],
  ];
  for (const [protocol, source, destination, sourcePort, destinationPort] of tuples) {
    for (const vlan of [[0, 0], [7, 0], [100, 200]] as const) {
      for (const direction of ['out', 'in'] as const) {
        const tuple: Tuple = { capture: 0, vlan, protocol, source, sourcePort, destination, destinationPort, direction };
        const { program } = stillSubject(valid(steerAll()));
        const engine = new native.Engine({ flowsMax: 4 });
        engine.install(program);
        engine.process(1n, direction === 'out' ? 1 : 2, openingFrame(tuple) ?? Buffer.alloc(0));
        const { capture: _, direction: opened, ...rest } = tuple;
        t.match(engine.flows(0, 4).flows, [{ ...rest, opened }]);
        t.equal(engine.counters().stamped.packets, 1);
      }
    }
  }
});

t.test('any packet of any capture can be asked about, whatever its link type; its side and its stream are those of the replay', async (t) => {
  let asked = 0;
  for (const name of captures) {
    const file = join(PCAPS, name);
    const { streams, packets } = await streamsOf(file, []);
    const seen = new Map<string, number>();
    for (let n = 1; n <= Math.min(packets, 12); n++) {
      const { frame, stream } = await packetOf(file, n, []);
      asked++;
      if (stream === null) continue;
      const key = `${stream.protocol} ${stream.source} ${stream.sourcePort} ${stream.destination} ${stream.destinationPort}`;
      if (!seen.has(key) && frame.direction !== stream.opened) t.fail(`${name} ${n}: the first packet of a stream is its opener's`);
      seen.set(key, (seen.get(key) ?? 0) + 1);
      if (seen.get(key) !== stream.packets) t.equal(stream.packets, seen.get(key), `${name} ${n}: the stream as it was then`);
      const packet = decodePacket(frame.bytes);
      // An ICMP error comes from whoever met it, and goes to the one whose packet it quotes.
      const error = /^type (3|11|1) code/.test(packet?.info ?? '');
      if (error) t.equal(packet?.destination, frame.direction === stream.opened ? stream.destination : stream.source);
      else if (packet?.source !== (frame.direction === stream.opened ? stream.source : stream.destination)) t.fail(`${name} ${n}: ${JSON.stringify({ packet, stream })}`);
      if (!streams.some((other) => other.code === stream.code && other.sourcePort === stream.sourcePort)) t.fail(`${name} ${n}: the stream is in the list`);
    }
  }
  t.ok(asked > 80, `${asked} packets`);
});

t.test('a packet that is not there, or can not be read, is a sentence', async (t) => {
  await t.rejects(packetOf(join(PCAPS, 'ping.pcap'), 100_000, []), /--packet: .*ping.pcap has \d+ packets, there is no 100000/);
  await t.rejects(packetOf(join(ROOT, 'README.md'), 1, []), /README.md/);
});

t.test('only what weir stamped is decoded', async (t) => {
  t.equal(decodeFrame(udp()), null);
  t.equal(decodeFrame(Buffer.alloc(10)), null);
  for (const port of [4790, 6081]) for (let length = 0; length < 60; length++) decodeFrame(udp({ destinationPort: port, payload: Buffer.alloc(length, 0x45) }));
  t.pass('and whatever else comes is no error');
});
