/** TCP connections a second: opened, one byte there and back, closed; 64 at a time. */
import type { Benchmark, Figures } from '../harness.js';
import { bare, countsOf, run } from '../yardsticks.js';
import { FIRST_PORT, PORTS, SERVER, bumpsPath, crossingPath, hubPath, onPath, ovsPaths, routerPath, weirPath, type Path } from './paths.js';

const AT_ONCE = 64;

async function measure(path: Path, seconds: number): Promise<Figures> {
  return onPath(path, bare('responder', FIRST_PORT, PORTS, 0), /ready/, async () => {
    const counts = countsOf(await run(path.topology.inside('client', bare('requester', 'connect', SERVER, FIRST_PORT, PORTS, AT_ONCE, seconds))));
    return { rate: counts['per_second'] ?? NaN, failed: counts['failed'] ?? NaN };
  });
}

export async function connections(bench: Benchmark): Promise<void> {
  if (!bench.wanted('connections')) return;
  const paths = [weirPath(bench, 'weir, 1 hop', 1), hubPath(), crossingPath(bench), bumpsPath(1), routerPath(), ...ovsPaths()];
  await bench.run({
    name: 'connections',
    title: `TCP connections opened, used and closed, ${AT_ONCE} at a time`,
    metrics: { rate: { unit: 'per second', better: 'higher' }, failed: { unit: 'connections', better: 'neither' } },
    contenders: paths.map((path) => ({ name: path.name, run: () => measure(path, bench.options.seconds) })),
    claims: [
      { title: 'connections/s, 1 hop: of the bare hub', metric: 'rate', of: 'weir, 1 hop', against: 'bare hub and echo', target: null },
      { title: 'connections/s, crossing: of one bump', metric: 'rate', of: 'weir, no policy matches', against: 'one bare bump', target: null },
    ],
  });
  for (const { topology } of paths) topology.remove();
}
