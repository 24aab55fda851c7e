/**
 * A hostile host on the underlay of a mesh: packets with wrong indexes, that go in circles, from strangers; messages that are forged, played
 * back, or from another weir with the same key. Each is refused under its name and told once, and the streams of others don't notice.
 */
import { join } from 'node:path';
import t from 'tap';
import { seal, open, type Envelope } from '../../src/mesh/envelope.js';
import { Lab, ROOT, must, until } from '../support/lab.js';
import { addressOf, MESH_KEY, MeshLab, Talkers } from '../support/mesh-lab.js';
import { records } from '../support/stamped-capture.js';

const TIMES = 5;
/** So many that one of them goes from a1 to b1. */
const STREAMS = 64;
const PAST = 3;
const LOOK_MS = 700;
const SYNC_REFUSED = 'sync_refused_';
const SPOOF = join(ROOT, 'test/support/spoof.py');
const KEY = Buffer.from(MESH_KEY);
const WEIR = '10.20.0.1';
const [A, B] = [addressOf('a', 1), addressOf('b', 1)];

// Offsets of a frame over IPv4: outer addresses 26 and 30, UDP 34, its payload (VXLAN-GPE or a message of the mesh) 42, NSH 50.
const [SOURCE, DESTINATION, UDP, PAYLOAD, NSH] = [26, 30, 34, 42, 50];
const addressIn = (frame: Buffer, at: number): string => frame.subarray(at, at + 4).join('.');
const address = (text: string): Buffer => Buffer.from(text.split('.').map(Number));
const isUdp = (frame: Buffer): boolean => frame.readUInt16BE(12) === 0x0800 && frame[23] === 17;

const lab = await Lab.up();
t.teardown(() => lab.down());
const mesh = new MeshLab(lab, { functions: { a: 'meter', b: 'meter', c: 'pass' }, sync: { a: 'strict', b: 'strict', c: 'off' }, health: '{probe: true, interval: 500ms}', instances: 2 });

interface Told {
  readonly dropped: Readonly<Record<string, number>>;
  readonly mesh: { readonly refused: Readonly<Record<string, number>> };
  readonly metrics: Readonly<Record<string, number>>;
}

/** What the node has refused by now: `packet`, `map` or `state` and the reason. */
async function refused(): Promise<Readonly<Record<string, number>>> {
  const node = mesh.nodes.get('b1');
  if (node === undefined) throw new Error('there is no b1');
  const told = (): string[] => node.output().split('\n').filter((text) => text.includes('"msg":"status"') && text.endsWith('}'));
  const before = told().length;
  node.child.kill('SIGUSR2');
  await until('b1 to tell its counters', () => told().length > before);
  const { dropped, mesh: { refused: messages }, metrics } = JSON.parse(told().at(-1) ?? '') as Told;
  const under = (channel: string, counts: Readonly<Record<string, number>>): (readonly [string, number])[] => Object.entries(counts).flatMap(([name, n]) => (n > 0 ? [[`${channel} ${name}`, n] as const] : []));
  const sync = Object.fromEntries(Object.entries(metrics).flatMap(([name, n]) => (name.startsWith(SYNC_REFUSED) ? [[name.slice(SYNC_REFUSED.length), n] as const] : [])));
  return Object.fromEntries([...under('packet', dropped), ...under('map', messages), ...under('state', sync)]);
}

const macOf = async (host: string, device: string): Promise<Buffer> => Buffer.from((await lab.must(host, 'cat', `/sys/class/net/${device}/address`)).trim().replaceAll(':', ''), 'hex');
const own = await macOf('add2', 'eth0');
const weirMac = await macOf('fwd', 'und0');

/** A frame like it, from the hostile host's port of the switch. The kernel checks the sum of the IP header, and none of a UDP datagram that has none. */
function forged(like: Buffer, change: (copy: Buffer) => void, payload?: Buffer): Buffer {
  const frame = payload === undefined ? Buffer.from(like) : Buffer.concat([like.subarray(0, PAYLOAD), payload]);
  own.copy(frame, 6);
  frame.writeUInt16BE(frame.length - 14, 16);
  frame.writeUInt16BE(frame.length - UDP, UDP + 4);
  frame.writeUInt16BE(0, UDP + 6);
  change(frame);
  frame.writeUInt16BE(0, 24);
  let sum = 0;
  for (let at = 14; at < UDP; at += 2) sum += frame.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  frame.writeUInt16BE(~sum & 0xffff, 24);
  return frame;
}

const send = async (frames: readonly Buffer[]): Promise<unknown> => must(lab.inside('add2', ['python3', SPOOF, 'frames', 'eth0']), `${frames.map((frame) => frame.toString('hex')).join('\n')}\n`);

await t.test('what is wrong is refused under its name and told once, and streams go on', async (t) => {
  await mesh.start();
  const capture = await lab.capture('sw', 'p3', 'udp');
  const talkers = await Talkers.start(lab, STREAMS, 5);
  let state = await talkers.advance(await talkers.state(), 2);
  // Maps of different versions, all of which b1 has seen.
  for (let weight = 2; weight < 2 + PAST; weight++) {
    await lab.ask('instance.weight', { service: 'c', instance: 'c1', weight });
    await mesh.complete();
  }
  // Paths that no stream is on any more go within seconds, and each makes another map.
  await until('the path of the streams and the current one to be left', async () => (await mesh.view()).paths.length <= 2, 30_000);
  const frames = [...records(await capture.stop())].map(({ bytes }) => Buffer.from(bytes)).filter(isUdp);
  const packet = frames.find((frame) => addressIn(frame, SOURCE) === A && addressIn(frame, DESTINATION) === B && frame.readUInt16BE(UDP + 2) === 4790 && frame.length < 400);
  const read = (frame: Buffer): Envelope | null => {
    const message = open(frame.subarray(PAYLOAD), KEY);
    return 'refused' in message ? null : message;
  };
  const maps = frames.filter((frame) => addressIn(frame, SOURCE) === WEIR && addressIn(frame, DESTINATION) === B && read(frame)?.kind === 'map');
  const [first, last] = [maps[0], maps.at(-1)];
  if (packet === undefined || first === undefined || last === undefined) throw new Error(`of ${frames.length} frames none is a packet of a stream to b1, or a map for it`);
  const map = read(last) as Envelope;
  const helloPort = last.readUInt16BE(UDP + 2);
  const ports = (await lab.must('fw2', 'ss', '-Hunao', 'src', B)).split('\n').flatMap((line) => /:(\d+)\s/.exec(line)?.[1] ?? []).map(Number);
  const syncPort = ports.find((port) => ![4790, 6081, helloPort].includes(port));
  if (syncPort === undefined) throw new Error(`b1 has no port for states among ${ports.join(', ')}`);

  const run = (await mesh.view()).nodes.find(({ instance }) => instance === 'b/b1')?.session ?? '';
  const message = (change: Partial<Envelope>, key = KEY): Buffer => seal({ ...map, ...change }, key);
  const toSync = (payload: Buffer): Buffer => forged(last, (f) => { address(A).copy(f, SOURCE); f.writeUInt16BE(syncPort, UDP + 2); }, payload);
  // Made when it is sent: meanwhile there may be a newer one, without a path that has ended.
  const otherMap = async (): Promise<Buffer> => {
    const body = Buffer.from(map.body);
    body.writeBigUInt64BE(BigInt((await mesh.view()).version), 0);
    body.writeUInt8((body[8] ?? 0) ^ 1, 8); // its digest
    return forged(last, () => undefined, message({ body }));
  };
  const cases: readonly (readonly [claim: string, frame: Buffer | (() => Promise<Buffer>), reason: string])[] = [
    ['a packet with an index that its path does not have', forged(packet, (f) => f.writeUInt8(200, NSH + 7)), 'packet bad_index'],
    ['a packet for another service', forged(packet, (f) => f.writeUInt8(255, NSH + 7)), 'packet wrong_service'],
    ['a packet that goes in circles', forged(packet, (f) => f.writeUInt16BE((f.readUInt16BE(NSH) & 0xf03f) | (1 << 6), NSH)), 'packet ttl_expired'],
    ['a packet from nobody on the map', forged(packet, (f) => address('10.20.0.99').copy(f, SOURCE)), 'packet stranger'],
    ['a map from the past, played back', forged(first, () => undefined), 'map map_from_the_past'],
    ['another map of the same version', otherMap, 'map two_maps'],
    ['a map of another run of weir', forged(last, () => undefined, message({ from: '00000000000000ff' })), 'map stranger'],
    ['a map that was not made with the key', forged(last, () => undefined, message({}, Buffer.from('another key'))), 'map forged'],
    ['rubbish where maps come', forged(last, () => undefined, Buffer.alloc(100, 7)), 'map malformed'],
    ['a state that was not made with the key', toSync(message({ kind: 'sync', to: run }, Buffer.from('another key'))), 'state forged'],
    ['a state from a run that is on no map', toSync(message({ kind: 'sync', from: '00000000000000ff', to: run })), 'state stranger'],
    ['a state for a former run', toSync(message({ kind: 'sync', to: '00000000000000ff' })), 'state not_for_us'],
    ['rubbish where states come', toSync(Buffer.alloc(100, 7)), 'state malformed'],
  ];
  let before = await refused();
  for (const [claim, frame, reason] of cases) {
    const one = typeof frame === 'function' ? await frame() : frame;
    await send(Array.from({ length: TIMES }, () => one));
    let now = before;
    // The log leaves out what comes too often, and metrics of a function are at most a second old.
    for (let tries = 0; tries < 10 && (now[reason] ?? 0) < (before[reason] ?? 0) + TIMES; tries++) {
      await new Promise((wake) => setTimeout(wake, LOOK_MS));
      now = await refused();
    }
    const more = Object.fromEntries(Object.entries(now).map(([name, n]) => [name, n - (before[name] ?? 0)] as const).filter(([, n]) => n !== 0));
    t.strictSame(more, { [reason]: TIMES }, claim);
    before = now;
  }
  const forgedHello = async (): Promise<number> => (await mesh.view()).refused['forged'] ?? 0;
  await send([forged(last, (f) => { address(B).copy(f, SOURCE); address(WEIR).copy(f, DESTINATION); weirMac.copy(f, 0); f.writeUInt16BE(4794, UDP + 2); }, message({ kind: 'hello' }, Buffer.from('another key')))]);
  await until('weir to refuse a forged hello', async () => (await forgedHello()) === 1);

  state = await talkers.advance(state, 5);
  t.strictSame(state.reset, [], 'no connection was reset');
  t.equal(state.wrong, 0);
  const log = mesh.nodes.get('b1')?.output() ?? '';
  for (const [claim, , reason] of cases) {
    const [channel, name] = reason.split(' ');
    const told = log.split('\n').filter((line) => line.includes(channel === 'packet' ? `"dropped":"${name}"` : `"refused":"${name}"`) && line.includes('"msg":"sync: ') === (channel === 'state'));
    t.equal(told.length, 1, `${claim}: told once`);
  }
  await talkers.stop();
  await mesh.stop();
});
