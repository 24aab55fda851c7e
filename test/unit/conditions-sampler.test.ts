import t from 'tap';
import type { Measure } from '../../src/config/conditions.js';
import type { NativeCounters, NativeProgram } from '../../src/dataplane/native.js';
import { Sampler } from '../../src/dataplane/sampler.js';
import { compile, replayFacts } from '../../src/program/compile.js';
import { newIds } from '../../src/program/ids.js';
import { valid } from '../support/configuration.js';
import { BASE } from '../support/conditions.js';

const configuration = valid(BASE.replace('{name: web, in: a, out: b}', '{name: first, in: c, out: d}, {name: web, in: a, out: b}'));
const ids = newIds();
const facts = replayFacts(configuration);

/** Frames and packets so far: of each side of `web` (ports 3 and 4), and sent to each instance of firewall. */
function counters(frames: number, sent: number): NativeCounters {
  const port = (number: number, share: number) => ({ port: number, rxFrames: frames * share, rxBytes: frames * share * 1000 });
  const row = (name: string) => ({ id: ids.instances.id(`firewall/${name}`), streams: 7, sent: { packets: sent, bytes: 0 }, received: { packets: 0, bytes: 0 } });
  return { streams: { active: 42 }, instances: [row('fw-1'), row('fw-2')], ports: [port(0, 100), port(1, 100), port(2, 100), port(3, 1), port(4, 3)] } as unknown as NativeCounters;
}

const program = (states: Readonly<Record<string, string>> = {}, unresolved = ''): NativeProgram =>
  compile(configuration, ids, { ...facts, stateOf: (key) => (states[key] ?? 'up') as 'up', macOf: (address) => (address === unresolved ? null : facts.macOf(address)) });

const load = (of: 'packets_per_second' | 'streams' | 'cpu', service = 'firewall'): Measure => ({ kind: 'load', service, of });
const rate = (of: 'bits_per_second' | 'packets_per_second'): Measure => ({ kind: 'rate', capture: 'web', of });

t.test('rates are what was counted between two looks; amounts are as they are', async (t) => {
  const sampler = new Sampler();
  const look = (frames: number, sent: number, ms: number) => sampler.sample(configuration, program(), ids, counters(frames, sent), ms).valueOf;
  const first = look(1000, 500, 10_000);
  t.strictSame([first(rate('bits_per_second')), first(load('packets_per_second'))], [null, null]);
  t.strictSame([first({ kind: 'streams' }), first(load('streams')), first(load('streams', 'ids')), first({ kind: 'healthy', service: 'firewall' })], [42, 14, 0, 2]);
  const second = look(1100, 550, 12_000);
  t.equal(second(rate('packets_per_second')), 200, '100 frames by one side, 300 by the other, in 2 s');
  t.equal(second(rate('bits_per_second')), 1_600_000);
  t.equal(second(load('packets_per_second')), 50);
  t.equal(second(load('packets_per_second', 'ids')), 0);
  t.equal(second(load('cpu')), null, 'nothing reports it');
  t.equal(look(9999, 9999, 12_100)(load('packets_per_second')), 50, 'too soon: as before');
  t.equal(look(1200, 10, 13_000)(load('packets_per_second')), 0, 'a count that fell is no rate below 0');
  t.equal(look(1300, 20, 5000)(rate('bits_per_second')), null, 'the clock was set back');
  t.equal(look(1400, 30, 6000)(rate('packets_per_second')), 400);
});

t.test('healthy is up and with a neighbour', async (t) => {
  const healthy = (of: NativeProgram): number | null => new Sampler().sample(configuration, of, ids, counters(0, 0), 0).valueOf({ kind: 'healthy', service: 'firewall' });
  t.equal(healthy(program({ 'firewall/fw-1': 'draining' })), 1);
  t.equal(healthy(program({ 'firewall/fw-1': 'down' }, '10.20.0.12')), 0);
  t.equal(healthy(program({}, '10.20.0.21')), 2, 'that of another service');
});

t.test('a port that counts nothing has no rates', async (t) => {
  const sampler = new Sampler();
  const none = { ...counters(0, 0), ports: [] };
  sampler.sample(configuration, program(), ids, none, 0);
  t.equal(sampler.sample(configuration, program(), ids, none, 1000).valueOf(rate('packets_per_second')), null);
});
