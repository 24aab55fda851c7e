/** How long a sparse packet takes: ping, and a byte there and back over TCP. */
import type { Benchmark, Figures } from '../harness.js';
import { quantile } from '../statistics.js';
import { bare, countsOf, run } from '../yardsticks.js';
import { FIRST_PORT, PORTS, SERVER, bumpsPath, crossingPath, hubPath, onPath, ovsPaths, routerPath, weirPath, type Path } from './paths.js';

async function measure(path: Path, seconds: number): Promise<Figures> {
  return onPath(path, bare('responder', FIRST_PORT, PORTS, 0), /ready/, async () => {
    const pings = Math.max(50, Math.round((seconds * 1000) / 10));
    const printed = await run(path.topology.inside('client', ['ping', '-c', String(pings), '-i', '0.01', SERVER]));
    const micros = [...printed.matchAll(/time=([0-9.]+) ms/g)].map(([, ms]) => Number(ms) * 1000);
    const requests = countsOf(await run(path.topology.inside('client', bare('requester', 'latency', SERVER, FIRST_PORT, seconds))));
    return { ping50: quantile(micros, 0.5), ping99: quantile(micros, 0.99), tcp50: requests['p50_us'] ?? NaN, tcp99: requests['p99_us'] ?? NaN };
  });
}

export async function latency(bench: Benchmark): Promise<void> {
  if (!bench.wanted('latency')) return;
  const paths = [weirPath(bench, 'weir, 1 hop', 1), hubPath(), crossingPath(bench), bumpsPath(1), routerPath(), ...ovsPaths()];
  await bench.run({
    name: 'latency',
    title: 'Latency of sparse packets, there and back',
    metrics: {
      ping50: { unit: 'µs median', better: 'lower' },
      ping99: { unit: 'µs 99 %', better: 'lower' },
      tcp50: { unit: 'µs median', better: 'lower' },
      tcp99: { unit: 'µs 99 %', better: 'lower' },
    },
    contenders: paths.map((path) => ({ name: path.name, run: () => measure(path, bench.options.seconds) })),
    claims: [
      { title: '1 hop, ping: times less than the bare hub', metric: 'ping50', of: 'weir, 1 hop', against: 'bare hub and echo', target: null },
      { title: '1 hop, TCP request: times less than the bare hub', metric: 'tcp50', of: 'weir, 1 hop', against: 'bare hub and echo', target: null },
      { title: 'crossing, TCP request: times less than one bump', metric: 'tcp50', of: 'weir, no policy matches', against: 'one bare bump', target: null },
    ],
    notes: ['The bare programs have TPACKET_V3 rings, which hand out a block that is not full after 1 ms at the earliest. weir has TPACKET_V2.'],
  });
  for (const { topology } of paths) topology.remove();
}
