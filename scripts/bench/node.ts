/** `npm run bench:node`: one service instance, fed with stamped frames: packets/s on one core, by function. */
import { writeFileSync } from 'node:fs';
import { getuid } from 'node:process';
import { Benchmark, parseOptions, sleep, until, type Contender, type Figures, type Metric } from './harness.js';
import { Topology } from './topology.js';
import { READY, scratch, weirCommand } from './weir.js';
import { Running, bare, countsOf, onCore } from './yardsticks.js';

if (getuid?.() !== 0) {
  console.error('bench:node makes network namespaces: run it as root');
  process.exit(1);
}
const bench = new Benchmark('node', parseOptions('node'));
const { seconds, weir } = bench.options;

const ADDRESS = '10.20.0.11';
const SENDER_CORE = 0;
const NODE_CORE = 1;

const METRICS: Readonly<Record<string, Metric>> = {
  rate: { unit: 'packets/s', better: 'higher' },
  'rate per core': { unit: 'packets/CPU s', better: 'higher' },
  cpu: { unit: 'ns/packet', better: 'lower' },
  busy: { unit: 'cores', better: 'neither' },
  offered: { unit: 'packets/s', better: 'neither' },
};

/** Twenty rules before the one that accepts what the stamper sends. */
const firewallSettings = scratch('firewall.json');
const rules = Array.from({ length: 20 }, (_, n) => ({ action: 'drop', protocol: 'udp', destination_port: 1000 + n }));
writeFileSync(firewallSettings, JSON.stringify({ rules: [...rules, { action: 'accept', protocol: 'udp', source: '10.64.0.0/10' }] }));
const idsSettings = scratch('ids.json');
writeFileSync(idsSettings, JSON.stringify({ rules: Array.from({ length: 1000 }, (_, n) => ({ id: `p${n}`, content: `pattern-${n}-${(n * 7919) % 1000}` })) }));

/** sender ── node; what the node returns ends at the sender's interface, where it is counted. */
function contender(name: string, length: number, streams: number, ...more: string[]): Contender {
  const topology = new Topology('sender', 'node');
  topology.wire('sender', 'eth0', 'node', 'eth0', 1700);
  topology.address('node', 'eth0', `${ADDRESS}/24`);
  const mac = topology.macOf('node', 'eth0').replaceAll(':', '');
  return {
    name,
    run: async (): Promise<Figures> => {
      const options = ['node', '--service', 's1', '--name', 'i1', '--listen', ADDRESS, '--max-streams', '1000000', ...more];
      const node = await new Running(topology.inside('node', onCore(NODE_CORE, weirCommand(weir, ...options)))).ready(READY);
      const stamper = await new Running(topology.inside('sender', onCore(SENDER_CORE, bare('stamper', 'eth0', mac, length, streams, 0)))).ready(/ready/);
      try {
        const counts = (): { returned: number; sent: number } => {
          const { rxPackets, txPackets } = topology.counts('sender', 'eth0');
          return { returned: rxPackets, sent: txPackets };
        };
        const first = counts();
        await until('every stream to have come back', () => counts().returned - first.returned > streams, 60_000);
        await sleep(1500); // compiled by then
        const sample = (): [number, number, number, number] => {
          const { returned, sent } = counts();
          return [performance.now(), returned, sent, node.cpuNs()];
        };
        const start = sample();
        await sleep(seconds * 1000);
        const [ms, packets, sent, cpu] = sample().map((value, i) => value - (start[i] ?? 0)) as [number, number, number, number];
        return { rate: (packets / ms) * 1000, 'rate per core': (packets / cpu) * 1e9, cpu: cpu / packets, busy: cpu / 1e6 / ms, offered: (sent / ms) * 1000 };
      } finally {
        countsOf(await stamper.stop());
        await node.stop();
      }
    },
  };
}

for (const [length, streams] of [[64, 1000], [1400, 1000], [64, 100_000]] as const) {
  const name = `node-${length}${streams === 1000 ? '' : '-streams'}`;
  if (!bench.wanted(name)) continue;
  await bench.run({
    name,
    title: `A service instance on one core: ${length}-byte UDP frames of ${streams.toLocaleString('en')} streams, none twice in a row, nsh`,
    metrics: METRICS,
    contenders: [
      contender('pass (native)', length, streams, '--function', 'pass'),
      contender('meter', length, streams, '--function', 'meter'),
      contender('firewall', length, streams, '--function', 'firewall', '--settings', firewallSettings),
      contender('ids, 1,000 patterns', length, streams, '--function', 'ids', '--settings', idsSettings),
    ],
    claims: [
      { title: `meter, ${length} bytes, ${streams.toLocaleString('en')} streams: packets/s on one core`, metric: 'rate per core', of: 'meter', unit: 'packets/CPU s', target: 150_000 },
      { title: `firewall, ${length} bytes, ${streams.toLocaleString('en')} streams: packets/s on one core`, metric: 'rate per core', of: 'firewall', unit: 'packets/CPU s', target: null },
      { title: `meter, ${length} bytes: packets a CPU second, of those of pass`, metric: 'rate per core', of: 'meter', against: 'pass (native)', target: null },
    ],
    notes: ['Receiving from the ring, the function, and sending are all in it; both threads of the node share the core. Packets a CPU second are what one core does: where `busy` is near 1 that is the rate, where it is well below 1 the sender was the limit, or somebody else had the core.'],
  });
}
bench.finish();
process.exit(); // programs that only keep namespaces open need not be waited for
