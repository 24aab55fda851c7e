/**
 * Two editors race on the control socket under iperf3 and 500 HTTP connections a second: no connection is reset or fails, and each
 * packet captured at an instance belongs wholly to one version of one chain. 1,000 edits: WEIR_EDITS=1000 WEIR_EDIT_MS=120.
 *
 *   WEIR_EDITS=150 WEIR_EDIT_MS=200 (a turn: an edit of each editor) WEIR_CONNECTIONS=500 (a second) WEIR_SEED=N (of a failure)
 *   WEIR_BITRATE=10M (of iperf3, each way; 0: all that goes, and its packets are not captured)
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { race } from '../support/editors.js';
import { HTTP_PORT, HTTP_PORTS, HttpLoad, failures } from '../support/http-load.js';
import { Lab, SERVICES, must, type ServiceHost } from '../support/lab.js';
import { PathProof } from '../support/path-proof.js';
import { handshakes, onTheWire } from '../support/stamped-capture.js';

const EDITS = Number(process.env['WEIR_EDITS'] ?? 150);
const EDIT_MS = Number(process.env['WEIR_EDIT_MS'] ?? 200);
const RATE = Number(process.env['WEIR_CONNECTIONS'] ?? 500);
const SEED = Number(process.env['WEIR_SEED'] ?? Date.now() % 1_000_000);
const BITRATE = process.env['WEIR_BITRATE'] ?? '10M';
const BULK_PORT = 5201;

const lab = await Lab.up();
t.teardown(() => lab.down());

interface Bulk {
  readonly error?: string;
  readonly end: { readonly sum_sent: { readonly bytes: number; readonly retransmits: number }; readonly sum_received: { readonly bytes: number }; readonly sum_received_bidir_reverse?: { readonly bytes: number } };
}

/** iperf3 both ways, again and again until `enough` says so; each run is two streams that live through many edits. */
async function bulk(enough: () => boolean, seconds: number): Promise<{ runs: number; bytes: number; retransmits: number; errors: string[] }> {
  const sum = { runs: 0, bytes: 0, retransmits: 0, errors: [] as string[] };
  do {
    const { code, stdout, stderr } = await lab.exec('wl', 'iperf3', '-c', '10.2.0.2', '--bidir', '-b', BITRATE, '-t', String(seconds), '-J');
    const { error, end } = JSON.parse(stdout) as Bulk;
    sum.runs++;
    if (code !== 0 || error !== undefined) sum.errors.push(`${error} ${stderr}`);
    else {
      sum.bytes += end.sum_received.bytes + (end.sum_received_bidir_reverse?.bytes ?? 0);
      sum.retransmits += end.sum_sent.retransmits;
    }
  } while (!enough());
  return sum;
}

interface Stats {
  readonly dropped: Readonly<Record<string, number>>;
  readonly ports: readonly { readonly interface: string; readonly rxDropped: number; readonly txErrors: number }[];
}

await t.test(`${EDITS} edits by two editors under iperf3 and ${RATE} connections a second`, { timeout: 900_000 }, async (t) => {
  t.comment(`seed ${SEED}`);
  const hosts = Object.keys(SERVICES) as ServiceHost[];
  const nodes = await lab.nodes('pass', hosts);
  const weir = await lab.weir({ chain: ['firewall', 'ids'] });
  // For policies to choose. Not behind Geneve, where a packet under way goes on by its stream's new path (test/live/insert.test.ts).
  const patched = await lab.ctl('ctl', 'config.patch', JSON.stringify({ patch: { chains: { second: ['added', 'ids'] } } }));
  t.equal(patched.code, 0, patched.stderr);
  const load = await HttpLoad.serve(lab);
  await lab.start('net', ['iperf3', '-s', '--forceflush'], /Server listening/);

  // From outer UDP on: its header, a stamp of 24 bytes, the inner Ethernet header, an IPv4 header of 20, the ports.
  const inner = 8 + 24 + 14 + 20;
  const bulkFilter = BITRATE === '0' ? ` and not (udp[${inner}:2] == ${BULK_PORT} or udp[${inner + 2}:2] == ${BULK_PORT})` : '';
  const captures = await Promise.all(hosts.map(async (host) => ({ host, ...(await lab.longCapture(host, 'eth0', `udp dst port 4790 and dst host ${SERVICES[host].address}${bulkFilter}`)) })));
  const ends = await Promise.all(
    (['wl eth0', 'rtr lan0'] as const).map(async (end) => {
      const [host = '', device = ''] = end.split(' ');
      return lab.longCapture(host, device, `tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0 and not port ${BULK_PORT}`, 128);
    }),
  );

  let edited = false;
  const requests = await load.start(RATE, SEED);
  const streams = bulk(() => edited, Math.ceil((EDITS / 2) * (EDIT_MS / 1000)) + 3);
  const ports = [BULK_PORT, ...Array.from({ length: HTTP_PORTS }, (_, i) => HTTP_PORT + i)];
  const editing = Date.now();
  const edits = await race({ socket: lab.socket, edits: EDITS, everyMs: EDIT_MS, seed: SEED, ports });
  const seconds = (Date.now() - editing) / 1000;
  edited = true;
  const [report, carried] = await Promise.all([requests.stop(), streams]);
  writeFileSync(join(lab.directory, 'edits.log'), edits.made.join('\n'));

  t.strictSame(edits.refused, [], 'each edit is valid, or outrun by the other editor');
  t.ok(edits.made.length >= EDITS, `${edits.made.length} edits in ${seconds.toFixed(1)} s, ${edits.outrun} outrun, ${edits.paths.size} paths`);
  t.ok(edits.outrun > 0, 'the editors did race');
  t.comment(`http: ${JSON.stringify(report)}, ${(report.opened / report.seconds).toFixed(0)} connections a second`);
  t.equal(failures(report), 0, `of ${report.opened} connections: ${JSON.stringify(report.failed)}`);
  t.equal(report.completed, report.opened);
  t.strictSame(carried.errors, [], 'iperf3');
  t.comment(`iperf3: ${JSON.stringify(carried)}`);
  t.ok(carried.bytes > 0);

  await lab.connectionsOver('wl', 'net'); // last acknowledgements would be captured, and not counted any more
  const stats = await lab.ask<Stats>('stats');
  const rows = (await lab.ask<{ instances: { name: string; sent: { packets: number }; received: { packets: number } }[] }[]>('services')).flatMap(({ instances }) => instances);
  const sent = new Map(rows.map((instance) => [instance.name, instance.sent.packets]));
  const notBack = rows.reduce((sum, instance) => sum + instance.sent.packets - instance.received.packets, 0);
  const files = await Promise.all(captures.map(async ({ host, stop }) => ({ host, ...(await stop()) })));
  const [atWorkload, atNetwork] = (await Promise.all(ends.map(({ stop }) => stop()))).map(({ file, dropped }) => ({ ...handshakes(file), dropped }));
  t.equal((await weir.stop()).code, 0);
  const nodeDrops = await Promise.all(nodes.map(async (node) => /"dropped":(\{[^}]*\})/.exec((await node.stop()).stderr)?.[1] ?? 'nothing said'));

  const proof = new PathProof();
  for (const { host, file, dropped } of files) {
    const { service, name, address } = SERVICES[host];
    const captured = proof.add(file, { name, service, address, dropped });
    t.comment(`${name}: ${captured} packets captured, ${dropped} lost by tcpdump, ${sent.get(name)} sent by weir`);
    if (BITRATE !== '0' && dropped === 0) t.equal(captured, sent.get(name), `${name}: the capture is whole`);
  }
  const verdict = proof.judge(edits.paths);
  const { violations, orders, ...figures } = verdict;
  t.comment(`${JSON.stringify(figures)}, ${orders.size} orders`);
  t.strictSame(violations, [], `each of ${verdict.packets} packets belongs wholly to one path version`);
  t.ok(verdict.packets > RATE * 5, `${verdict.packets} packets through whole paths`);
  // Which chains policies choose is chance, and versions of a chain that none chooses carry nothing.
  t.ok(edits.paths.size > EDITS / 5 && verdict.paths > edits.paths.size / 4, `${verdict.paths} of ${edits.paths.size} path versions carried packets`);

  const ringDrops = stats.ports.reduce((sum, port) => sum + port.rxDropped, 0);
  t.comment(`lost frames: rings ${ringDrops}, nodes ${nodeDrops.join(' ')}, weir ${JSON.stringify(Object.fromEntries(Object.entries(stats.dropped).filter(([, n]) => n > 0)))}`);
  // Where rings overflow, what comes back seconds later may find its stream over.
  const excused = ringDrops > 0 ? ['return_unknown_stream'] : [];
  t.strictSame(Object.entries(stats.dropped).filter(([reason, n]) => n > 0 && !excused.includes(reason)), [], 'weir dropped nothing');
  t.ok(verdict.incomplete <= notBack, `${verdict.incomplete} packets did not get to the end of their path; ${notBack} did not come back from an instance, ${ringDrops} frames were lost in rings`);
  t.equal(verdict.unseen, 0, 'no capture lost so much that a packet can not be judged');

  // At the workload and behind weir: every SYN once, and no reset anywhere.
  for (const [where, end] of [['workload', atWorkload], ['network', atNetwork]] as const) {
    t.equal(end?.resets, 0, `no connection was reset at the ${where}`);
    t.equal(end?.opened, report.opened, `each connection was opened at the ${where}`);
    t.comment(`${where}: ${end?.repeated} SYNs seen again, ${end?.lateResets} resets after the end, ${end?.dropped} packets lost by tcpdump`);
  }

  // Another program's reading of the same stamps.
  const sample = join(lab.directory, 'sample.pcap');
  for (const { host, file } of files.filter(({ host }) => host === 'ids1' || host === 'add1')) {
    onTheWire(file, sample, 2000);
    const rows = (await must(['tshark', '-n', '-r', sample, '-T', 'fields', '-E', 'separator=|', '-e', 'nsh.spi', '-e', 'nsh.si'])).trimEnd().split('\n');
    const wrong = rows.filter((row) => {
      const [spi, si] = row.split('|').map(Number) as [number, number];
      const services = edits.paths.get(Math.floor(spi / 2))?.services ?? [];
      return (spi % 2 === 1 ? services.toReversed() : services)[255 - si] !== SERVICES[host].service;
    });
    t.strictSame(wrong.slice(0, 3), [], `tshark reads ${rows.length} stamps at ${host} alike`);
  }
});
