/** Mesh chains on real hosts: who gets a stream's packets, that both directions meet the same instances, and that a stream survives the death of one. */
import t from 'tap';
import { Lab, until } from '../support/lab.js';
import { addressOf, MeshLab, Talkers } from '../support/mesh-lab.js';
import { stamped } from '../support/stamped-capture.js';

const lab = await Lab.up();
t.teardown(() => lab.down());

/** So many that each instance has some. */
const STREAMS = 48;
/** In turn: of the meter, whose counts are compared afterwards, each one and one of them twice, and of the firewall. */
const KILLS = ['b1', 'a1', 'b2', 'b3', 'b1'] as const;

t.test('instances hand packets on to each other, both directions by the same ones, and streams survive kill -9', async (t) => {
  const mesh = new MeshLab(lab, {
    functions: { a: 'firewall', b: 'meter', c: 'pass' },
    sync: { a: 'strict', b: 'strict', c: 'off' },
    settings: { a: { default: 'drop', inside: ['10.1.0.0/24'], rules: [{ name: 'out', action: 'accept', direction: 'out', protocol: 'tcp' }] } },
    health: '{probe: true, interval: 200ms}',
  });
  await mesh.start();
  // At the switch: what an instance sends goes past the packet sockets of its own host.
  const capture = await lab.capture('sw', 'p3', 'udp port 4790');
  const talkers = await Talkers.start(lab, STREAMS, 10);
  let state = await talkers.advance(await talkers.state(), 5);

  const pins = await mesh.pins();
  const served = (name: string): number => [...pins.values()].filter((keys) => keys[1] === `b/${name}`).length;
  t.ok(['b1', 'b2', 'b3'].every((name) => served(name) > 0), 'each instance serves some streams');

  const lags = async (): Promise<string[]> => (await lab.ask<string>('metrics')).split('\n').filter((line) => line.startsWith('weir_sync_lag_seconds{'));
  await until('each node with sync to have said how far it is behind', async () => (await lags()).length >= 6);
  t.strictSame((await lags()).map((line) => /^weir_sync_lag_seconds\{service="(.)",name="(..)"\} [0-9.]+$/.exec(line)?.slice(1, 3).join('/')), ['a/a1', 'a/a2', 'a/a3', 'b/b1', 'b/b2', 'b/b3'], 'and no other node');

  for (const name of KILLS) {
    mesh.nodes.get(name)?.child.kill('SIGKILL');
    state = await talkers.advance(await talkers.state(), 5);
    await mesh.startNode(name.startsWith('a') ? 'a' : 'b', Number(name.slice(1)));
    await mesh.complete();
    state = await talkers.advance(state, 2);
  }
  // A firewall that only let pass what it does not know would have let the streams go on, too.
  const listener = await lab.start('wl', ['python3', '-c', "import socket; s = socket.create_server(('10.1.0.2', 9100)); print('ready', flush=True); s.accept(); print('accepted', flush=True); s.accept()"], /ready/);
  const knock = await lab.exec('net', 'python3', '-c', "import socket; socket.create_connection(('10.1.0.2', 9100), timeout=3)");
  t.match(knock.stderr, /timed out/, 'nobody from outside gets in');
  t.notMatch(listener.output(), /accepted/);
  t.strictSame(state.reset, [], 'no connection was reset');
  t.equal(state.wrong, 0, 'what came back is what was sent');

  await talkers.stop();
  // A connection's last packets may still be under way: those of the capture are counted after it, and not more than those before it.
  const before = await mesh.counted('b');
  const file = await capture.stop();
  const after = await mesh.counted('b');
  const own = new Set([1, 2, 3].map((i) => addressOf('b', i)));
  const [came, left, ways] = [new Map<number, number>(), new Map<number, number>(), new Set<string>()];
  for (const { from, to, ip } of stamped(file)) {
    if (ip[9] !== 6) continue;
    const header = ((ip[0] ?? 0) & 15) * 4;
    const [source, destination] = [ip.readUInt16BE(header), ip.readUInt16BE(header + 2)];
    const port = destination === 9000 ? source : destination;
    if (own.has(to)) came.set(port, (came.get(port) ?? 0) + 1);
    if (own.has(from)) left.set(port, (left.get(port) ?? 0) + 1);
    ways.add(own.has(from) ? `to ${to}` : `from ${from}`);
  }
  t.ok([...ways].every((way) => !way.endsWith(' 10.20.0.1')), `packets went from instance to instance, weir was not between: ${[...ways].join(', ')}`);
  let exact = 0;
  for (const [port, out] of left) {
    const early = before.get(port) ?? -1;
    const state = Math.max(early, after.get(port) ?? -1); // one that has ended may be forgotten by then
    if (state < out || early > (came.get(port) ?? 0)) t.fail(`stream ${port}: ${early} packets counted, then ${state}, ${came.get(port)} came, ${out} left`);
    if (state === out) exact++; // more: packets that died with their instance after they were counted
  }
  t.equal(left.size, STREAMS);
  t.ok(exact > 0, `${exact} streams were counted to the packet`);
  await mesh.stop();
});
