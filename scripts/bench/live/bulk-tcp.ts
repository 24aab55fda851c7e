/** One bulk TCP stream with iperf3, by every way there is. */
import type { Benchmark, Contender, Metric, RatioClaim } from '../harness.js';
import { run } from '../yardsticks.js';
import { SERVER, bumpsPath, crossingPath, hubPath, onPath, ovsPaths, routerPath, weirPath, type Path } from './paths.js';

interface Iperf {
  readonly end: { readonly sum_received: { readonly bits_per_second: number }; readonly sum_sent: { readonly retransmits?: number } };
}

const METRICS: Readonly<Record<string, Metric>> = {
  goodput: { unit: 'Gbit/s', better: 'higher' },
  retransmitted: { unit: 'segments', better: 'neither' },
};

function contender(path: Path, seconds: number): Contender {
  return {
    name: path.name,
    run: () =>
      onPath(path, ['iperf3', '-s', '--forceflush'], /Server listening/, async () => {
        const { end } = JSON.parse(await run(path.topology.inside('client', ['iperf3', '-c', SERVER, '-J', '-O', '1', '-t', String(seconds)]))) as Iperf;
        return { goodput: end.sum_received.bits_per_second / 1e9, retransmitted: end.sum_sent.retransmits ?? 0 };
      }),
  };
}

export async function bulkTcp(bench: Benchmark): Promise<void> {
  const { seconds } = bench.options;
  const measured = async (name: string, title: string, paths: () => readonly Path[], claims: readonly Omit<RatioClaim, 'metric'>[]): Promise<void> => {
    if (!bench.wanted(name)) return;
    const used = paths();
    await bench.run({
      name,
      title,
      metrics: METRICS,
      contenders: used.map((path) => contender(path, seconds)),
      claims: claims.map((claim) => ({ ...claim, metric: 'goodput' })),
    });
    for (const { topology } of used) topology.remove();
  };

  await measured(
    'bulk-1-hop',
    'Bulk TCP through a chain of one hop, offloads on',
    () => [weirPath(bench, 'weir nsh', 1), weirPath(bench, 'weir geneve', 1, { encapsulation: 'geneve' }), hubPath(), bumpsPath(3), bumpsPath(1), routerPath(), ...ovsPaths()],
    [
      { title: 'TCP, 1 hop: of the bare hub', of: 'weir nsh', against: 'bare hub and echo', target: 0.9 },
      { title: 'TCP, 1 hop: of three bumps', of: 'weir nsh', against: '3 bare bumps', target: 0.65 },
      { title: 'TCP, 1 hop, geneve: of three bumps', of: 'weir geneve', against: '3 bare bumps', target: 0.65 },
      { title: 'TCP, 1 hop: times Open vSwitch, one pass', of: 'weir nsh', against: 'Open vSwitch', target: 4 },
      { title: 'TCP, 1 hop: of kernel routing', of: 'weir nsh', against: 'kernel routing', target: null },
      { title: 'the bare hub itself: of three bumps', of: 'bare hub and echo', against: '3 bare bumps', target: null },
    ],
  );
  for (const hops of [2, 3]) {
    await measured(
      `bulk-${hops}-hops`,
      `Bulk TCP through a chain of ${hops} hops, offloads on`,
      () => [weirPath(bench, 'weir nsh', hops), weirPath(bench, 'weir geneve', hops, { encapsulation: 'geneve' }), bumpsPath(3 * hops)],
      [
        { title: `TCP, ${hops} hops: of ${3 * hops} bumps`, of: 'weir nsh', against: `${3 * hops} bare bumps`, target: 0.65 },
        { title: `TCP, ${hops} hops, geneve: of ${3 * hops} bumps`, of: 'weir geneve', against: `${3 * hops} bare bumps`, target: 0.65 },
      ],
    );
  }
  await measured(
    'crossing',
    'Bulk TCP that no policy matches',
    () => [crossingPath(bench), bumpsPath(1)],
    [{ title: 'TCP that no policy matches: of one bump', of: 'weir, no policy matches', against: 'one bare bump', target: 0.9 }],
  );
}
