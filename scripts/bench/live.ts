/** `npm run bench:live`: real frames between namespaces, weir and its yardsticks taking turns. */
import { getuid } from 'node:process';
import { Benchmark, parseOptions } from './harness.js';
import { bulkTcp } from './live/bulk-tcp.js';
import { connections } from './live/connections.js';
import { latency } from './live/latency.js';
import { smallPackets } from './live/small-packets.js';
import { ovsInstalled } from './ovs.js';

if (getuid?.() !== 0) {
  console.error('bench:live makes network namespaces: run it as root');
  process.exit(1);
}
const bench = new Benchmark('live', parseOptions('live'));
if (!ovsInstalled()) console.log('Open vSwitch is not installed (apt-get install openvswitch-switch): left out.');
await smallPackets(bench);
await bulkTcp(bench);
await latency(bench);
await connections(bench);
bench.finish();
process.exit(); // programs that only keep namespaces open need not be waited for
