/** What opens a TCP connection and what ends it: packets that nobody in it has sent do neither. */
import t from 'tap';
import { steerAll } from '../support/configuration.js';
import { ACK, FIN, RST, SYN, answer, frame4, tcp } from '../support/packets.js';
import { simulate, type Simulation } from '../support/sim.js';

const IN = 1;
const OUT = 2;
const MS = 1_000_000n;

/** Of the workload's connections to port 80; the rest takes the default. */
const web = (byDefault: 'pass' | 'drop', more = ''): string =>
  steerAll().replace('policies: [', `policies: [${more}`).replace('{name: all, match: {}, chain: inspect}', `{name: web, match: {protocol: tcp, source: 10.1.0.0/24, destination_port: 80}, chain: inspect}`) + `default: ${byDefault}\n`;

/** Runs frames one millisecond apart (or `after` so many), and counts how often each of them was stamped. */
function through({ network }: Simulation, frames: readonly (readonly [port: number, frame: Buffer, after?: bigint])[]): number[] {
  return frames.map(([port, frame, after = 1n]) => {
    network.clear();
    network.inject(port, frame, after * MS);
    network.advance((after + 1n) * MS);
    return network.sent(0).length;
  });
}

const HANDSHAKE = [[IN, tcp({ flags: SYN })], [OUT, answer(tcp, { flags: SYN | ACK })], [IN, tcp()], [IN, tcp({ payload: Buffer.from('GET /') })], [OUT, answer(tcp, { payload: Buffer.from('200') })]] as const;
const STEERED = [2, 2, 2, 2, 2];

for (const byDefault of ['pass', 'drop'] as const) {
  for (const [what, flags] of [['an acknowledgement', ACK], ['the answer to a SYN', SYN | ACK], ['a SYN', SYN], ['a FIN', FIN | ACK], ['a RST', RST]] as const) {
    t.test(`default ${byDefault}: ${what} from the other side beforehand does not decide a connection`, async (t) => {
      const simulation = await simulate(web(byDefault));
      t.teardown(() => simulation.dataplane.stop());
          through(simulation, [[OUT, answer(tcp, { flags })]]);
      t.strictSame(through(simulation, HANDSHAKE), STEERED);
    });
  }
}

t.test('a SYN from the other side does not take a connection off its chain', async (t) => {
  const simulation = await simulate(web('pass'));
  t.teardown(() => simulation.dataplane.stop());
  const [syn, ...rest] = HANDSHAKE;
  t.strictSame(through(simulation, [syn, [OUT, answer(tcp, { flags: SYN })], ...rest]), [2, 2, 2, 2, 2, 2]);
  const oneWay = { sourcePort: 40_001 }; // its answers take another way
  const onItsWay = [[IN, tcp({ ...oneWay, flags: SYN })], [IN, tcp(oneWay)], [OUT, answer(tcp, { ...oneWay, flags: SYN })], [IN, tcp(oneWay)]] as const;
  t.strictSame(through(simulation, onItsWay), [2, 2, 2, 2]);
});

t.test('a connection that is met in its midst goes on the chain that a policy of either direction has for it', async (t) => {
  for (const first of [[OUT, answer(tcp, { payload: Buffer.from('200') })], [IN, tcp()]] as const) {
    const simulation = await simulate(web('drop'));
    t.teardown(() => simulation.dataplane.stop());
    t.strictSame(through(simulation, [first, [IN, tcp()], [OUT, answer(tcp, { payload: Buffer.from('200') })]]), [2, 2, 2]);
    const { flows } = await simulation.network.flows(0, 10);
    t.equal(flows.length, 1);
  }
  const simulation = await simulate(web('drop', '{name: in, match: {protocol: tcp, direction: in}, action: pass}, '));
  t.teardown(() => simulation.dataplane.stop());
  t.strictSame(through(simulation, [[OUT, answer(tcp, { payload: Buffer.from('200') })]]), [0], 'its own goes first');
});

t.test('a RST that both ends ignore does not end a connection', async (t) => {
  for (const [side, forged] of [[OUT, answer(tcp, { flags: RST, sequence: 0xdeadbeef })], [IN, tcp({ flags: RST, sequence: 0xdeadbeef })]] as const) {
    const simulation = await simulate(steerAll());
    t.teardown(() => simulation.dataplane.stop());
      const more = [[IN, tcp({ payload: Buffer.from('x') })], [OUT, answer(tcp, { payload: Buffer.from('y') })]] as const;
    through(simulation, [...HANDSHAKE, [side, forged], ...more, ...more]);
    through(simulation, [[IN, tcp({ payload: Buffer.from('x') }), 60_000n]]);
    t.equal(simulation.network.counters().streams.opened, 1);
  }
});

t.test('a RST that is heeded ends it: whoever sent it says nothing more, or says it again', async (t) => {
  const rst = answer(tcp, { flags: RST });
  for (const after of [[], [[IN, tcp({ payload: Buffer.from('late') })]], [[IN, tcp({ flags: RST })], [IN, tcp()], [OUT, answer(tcp, {})]]] as const) {
    const simulation = await simulate(steerAll());
    t.teardown(() => simulation.dataplane.stop());
      through(simulation, [...HANDSHAKE, [OUT, rst], ...after]);
    simulation.network.advance(8000n * MS);
    t.equal(simulation.network.counters().streams.active, 0);
  }
});

t.test('an ICMP error opens no stream that it quotes', async (t) => {
  const simulation = await simulate(web('pass'));
  t.teardown(() => simulation.dataplane.stop());
  through(simulation, [[IN, tcp({ flags: SYN })], [OUT, answer(tcp, { flags: RST | ACK })]]);
  const quoted = tcp({}).subarray(14, 42);
  const error = frame4('10.2.0.1', '10.1.0.2', 1, Buffer.concat([Buffer.from([3, 3, 0, 0, 0, 0, 0, 0]), quoted]), [], true);
  through(simulation, [[OUT, error, 5001n]]); // idle for too long, and not swept yet
  t.strictSame(through(simulation, HANDSHAKE), STEERED);
});

t.test('a SYN with data that does not fit is not cut in two: its sender is told', async (t) => {
  const simulation = await simulate(steerAll());
  t.teardown(() => simulation.dataplane.stop());
  const { network } = simulation;
  network.inject(IN, tcp({ flags: SYN, sequence: 1000, mss: 1460, payload: Buffer.alloc(1432, 'a') }));
  network.advance(1000n * MS);
  t.equal(network.sent(OUT).length, 0);
  t.equal(network.counters().dropped['too_big'], 1);
});
