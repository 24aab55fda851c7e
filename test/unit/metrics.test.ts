/** Metrics: the text as Prometheus' own checker reads it, where they are served, the dashboard that uses them. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get, request } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { parseConfiguration } from '../../src/config/load.js';
import { formatErrors } from '../../src/config/errors.js';
import { mesh as meshText } from '../../src/cli/show.js';
import { meshView } from '../../src/control/mesh-methods.js';
import { MetricsServer } from '../../src/control/metrics-server.js';
import { MOST_ROWS, histogramOf, metricsText } from '../../src/dataplane/metrics.js';
import { native } from '../../src/dataplane/native.js';
import { Exposition } from '../../src/observe/exposition.js';
import { steerAll, valid } from '../support/configuration.js';
import { MeshOnWire } from '../support/mesh-wire.js';
import { udp } from '../support/packets.js';
import { simulate } from '../support/sim.js';

const log = pino({ level: 'silent' });
const named = "switches: {incident: on}\nconfigurations: {night: {when: {switch: incident}, policies: [{name: all, match: {}, chain: inspect}]}}";
const { dataplane, network } = await simulate(steerAll('nsh', named));
t.teardown(() => dataplane.stop());
network.inject(1, udp());
network.advance(1_000_000n);
await dataplane.upkeep();

/** Nodes of two services, of which only one is to keep its states twice. */
const nodes = new MeshOnWire([{ key: 'firewall/fw-1', address: '10.20.0.11' }, { key: 'firewall/fw-2', address: '10.20.0.12' }, { key: 'ids/ids-1', address: '10.20.0.21' }]);
const meshed = await simulate(steerAll('nsh', 'mesh: {key: {file: k}}').replace('firewall: {', 'firewall: {sync: async, '), 1000, undefined, undefined, undefined, { mesh: nodes.controller });
t.teardown(() => meshed.dataplane.stop());
nodes.controller.configure(nodes.instances);
nodes.member('firewall/fw-1', 1, () => ({ lagMs: 1250, waitingStreams: 7, fillStreams: 90, unprotected: 4 }));
nodes.member('firewall/fw-2', 2);
nodes.member('ids/ids-1', 3, () => ({ lagMs: 0, waitingStreams: 0, fillStreams: 0, unprotected: 0 }));
nodes.settle();

/** The checker that comes with Prometheus: syntax, types, naming. */
const promtool = (text: string): { status: number | null; said: string } => {
  const { status, stdout, stderr, error } = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
  if (error !== undefined) throw error;
  return { status, said: stdout + stderr };
};

/** Samples by name and labels, as they stand. */
function samples(text: string): Map<string, number> {
  return new Map(
    text
      .trimEnd()
      .split('\n')
      .filter((line) => !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))] as const),
  );
}

t.test('promtool has nothing to say of what a dataplane tells', async (t) => {
  t.strictSame(promtool(metricsText(dataplane, '1.2.3')), { status: 0, said: '' });
});

t.test('promtool does complain of a counter with a wrong name', async (t) => {
  t.not(promtool(new Exposition().counter('weir_packets', 'Packets.', 1).toString()).said, '');
});

t.test('promtool reads histograms, labels with quotes and line ends, and numbers without end', async (t) => {
  const text = new Exposition()
    .family('gauge', 'weir_odd', 'A "help"\nof two lines \\.', [[{ name: 'a "b" \\ c\nd' }, Infinity], [{ name: 'e' }, NaN]])
    .histogram('weir_odd_seconds', 'Seconds.', { bounds: [0.001, 0.002], counts: [1, 2, 3], sum: 1.5 })
    .toString();
  t.strictSame(promtool(text), { status: 0, said: '' });
  t.match(text, 'weir_odd{name="a \\"b\\" \\\\ c\\nd"} +Inf\n');
  t.match(text, 'weir_odd_seconds_bucket{le="0.002"} 3\nweir_odd_seconds_bucket{le="+Inf"} 6\nweir_odd_seconds_sum 1.5\nweir_odd_seconds_count 6\n');
});

t.test('a packet through two hops is counted everywhere it passed', async (t) => {
  const found = samples(metricsText(dataplane, '1.2.3'));
  const value = (name: string): number | undefined => found.get(name);
  t.equal(value('weir_build_info{version="1.2.3",port="ring"}'), 1);
  t.equal(value('weir_pipeline_packets_total{stage="captured"}'), 1);
  t.equal(value('weir_pipeline_packets_total{stage="stamped"}'), 2);
  t.equal(value('weir_pipeline_packets_total{stage="returned"}'), 2);
  t.equal(value('weir_pipeline_packets_total{stage="delivered"}'), 1);
  t.equal(value('weir_chain_packets_total{chain="inspect"}'), 1);
  for (const [hop, service] of [[1, 'firewall'], [2, 'ids']] as const) {
    t.equal(value(`weir_hop_packets_total{chain="inspect",hop="${hop}"}`), 1);
    t.equal(value(`weir_hop_info{chain="inspect",hop="${hop}",service="${service}"}`), 1);
    const sent = [1, 2].map((n) => value(`weir_instance_sent_packets_total{service="${service}",name="${service === 'firewall' ? 'fw' : 'ids'}-${n}"}`) ?? 0);
    t.equal(sent.reduce((a, b) => a + b, 0), 1);
  }
  t.equal(value('weir_policy_packets_total{policy="all"}'), 1);
  t.equal(value('weir_flow_table_streams'), 1);
  t.equal(value('weir_flow_table_fill_ratio'), 1 / 1000);
  t.equal(value('weir_condition_active{configuration="night"}'), 1);
  t.equal(value('weir_switch_on{switch="incident"}'), 1);
  t.equal(value('weir_events_total{kind="condition"}'), 1);
  t.equal(value('weir_instance_state{service="ids",name="ids-1",state="up"}'), 1);
  await dataplane.setInstance('ids', 'ids-1', 'down', null, 'test');
  const after = samples(metricsText(dataplane, '1.2.3'));
  t.equal(after.get('weir_instance_state{service="ids",name="ids-1",state="down"}'), 1);
  t.equal(after.get('weir_instance_state{service="ids",name="ids-1",state="up"}'), 0);
  t.equal(after.get('weir_generation'), dataplane.generation);
  t.ok((after.get('process_resident_memory_bytes') ?? 0) > 1e6);
});

t.test('the sync of state: of each instance that says how far it is behind, and of no other', async (t) => {
  const text = metricsText(meshed.dataplane, '1');
  t.strictSame(promtool(text), { status: 0, said: '' });
  const rows = (): [string, number][] => [...samples(metricsText(meshed.dataplane, '1'))].filter(([name]) => name.startsWith('weir_sync'));
  const of = '{service="firewall",name="fw-1"}';
  t.strictSame(rows(), [[`weir_sync_lag_seconds${of}`, 1.25], [`weir_sync_waiting_streams${of}`, 7], [`weir_sync_fill_streams${of}`, 90], [`weir_sync_unprotected_states_total${of}`, 4]]);
  t.match(meshText(meshView(meshed.dataplane)), /sync lag +waiting +to fill +unprotected\n(.*\n)*?firewall\/fw-1 .* 1250 ms +7 +90 +4\nfirewall\/fw-2 .* - +- +- +-\n/);
  t.notMatch(metricsText(dataplane, '1'), 'weir_sync', 'without a mesh there is none');
  nodes.nowMs += 101;
  t.strictSame(rows(), [], 'nor of who is not there');
  nodes.nowMs -= 101;
});

t.test('every reason of a drop is there from the start, at 0', async (t) => {
  const found = samples(metricsText(dataplane, '1'));
  for (const reason of Object.keys(dataplane.runner.counters().dropped)) t.equal(found.get(`weir_dropped_packets_total{reason="${reason}"}`), 0, reason);
});

t.test('of very many policies the first have rows, and the rest a number', async (t) => {
  const policies = Array.from({ length: MOST_ROWS + 7 }, (_, i) => `  - {name: p${i}, match: {source_port: ${i}, protocol: udp}, action: drop}`).join('\n');
  const large = await simulate(`captures: [{name: web, in: a, out: b}]\npolicies:\n${policies}`);
  const found = samples(metricsText(large.dataplane, '1'));
  t.equal([...found.keys()].filter((key) => key.startsWith('weir_policy_packets_total')).length, MOST_ROWS);
  t.equal(found.get('weir_policies_left_out_rows'), 7);
  await large.dataplane.stop();
});

t.test('histograms of several workers are one', async (t) => {
  const one = { counts: [1, 0, 2], sumNs: 3e9 };
  t.strictSame(histogramOf([one, one]), { bounds: [256e-9, 512e-9], counts: [2, 0, 4], sum: 6 });
});

t.test('what a worker measures has the buckets that are told', async (t) => {
  const worker = new native.Worker({ flowsMax: 10, workers: 2, interfaces: [null], program: dataplane.program });
  const { workers } = worker.counters();
  t.equal(workers.length, 2);
  for (const { group, transit } of workers) t.strictSame([group.counts.length, transit.counts.length], [24, 24]);
  worker.begin();
  const before = worker.beats();
  for (const end = Date.now() + 10_000; Date.now() < end && worker.beats().some((turns, i) => turns <= (before[i] ?? 0)); ) await new Promise((wake) => setTimeout(wake, 5));
  t.ok(worker.beats().every((turns, i) => turns > (before[i] ?? 0)), 'idle workers turn');
  await worker.stop();
});

t.test('metrics.listen: only the loopback, unless it is said', async (t) => {
  const errors = (listen: string): string => {
    const loaded = parseConfiguration(`captures: [{name: web, in: a, out: b}]\nmetrics: {listen: ${listen}}`, 'weir.yaml');
    return loaded.ok ? '' : formatErrors(loaded.errors);
  };
  for (const good of ['127.0.0.1:9477', '"[::1]:9477"', '127.8.9.1:1', '"[::ffff:127.0.0.1]:80"', '192.0.2.1:9477, public: true']) t.equal(errors(good), '', good);
  t.match(errors('0.0.0.0:9477'), /weir\.yaml:2:\d+: metrics\.listen: 0\.0\.0\.0 is no loopback address, .* public: true/);
  t.match(errors('"[fd00::1]:9477"'), /is no loopback address/);
  t.match(errors('192.0.2.1:9477, public: false'), /is no loopback address/);
  for (const wrong of ['9477', 'localhost:9477', '127.0.0.1', '127.0.0.1:0', '127.0.0.1:65536', '"::1:9477"']) t.match(errors(wrong), /expected an IP address and a port|found 9477/, wrong);
  t.strictSame(valid('captures: [{name: web, in: a, out: b}]\nmetrics: {listen: "[::1]:9477"}').metrics, { host: '::1', port: 9477 });
  t.equal(valid('captures: [{name: web, in: a, out: b}]').metrics, null);
});

/** A port that is free now. */
async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

t.test('over HTTP: /metrics and nothing else', async (t) => {
  const port = await freePort();
  const server = await MetricsServer.listen({ host: '127.0.0.1', port }, () => metricsText(dataplane, '1'), log);
  const ask = (path: string, method = 'GET'): Promise<{ status: number; type: string; body: string }> =>
    new Promise((resolve, reject) => {
      request({ host: '127.0.0.1', port, path, method, agent: false }, (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString())).on('end', () => resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? '', body }));
      })
        .on('error', reject)
        .end();
    });
  const { status, type, body } = await ask('/metrics');
  t.equal(status, 200);
  t.equal(type, 'text/plain; version=0.0.4; charset=utf-8');
  t.strictSame(promtool(body), { status: 0, said: '' });
  t.equal((await ask('/metrics?x=1')).status, 200);
  t.strictSame((await ask('/metrics', 'HEAD')).body, '');
  t.equal((await ask('/')).status, 404);
  t.equal((await ask('/metrics', 'POST')).status, 405);
  await t.rejects(MetricsServer.listen({ host: '127.0.0.1', port }, () => '', log), { message: /another program listens there/ });
  await t.rejects(MetricsServer.listen({ host: '192.0.2.1', port }, () => '', log), { message: /no interface of this host has that address/ });
  server.close();
  await t.rejects(new Promise((resolve, reject) => get({ host: '127.0.0.1', port, path: '/metrics', agent: false }, resolve).on('error', reject)), { code: 'ECONNREFUSED' });
});

t.test('the dashboard: every metric that it names is there, and Prometheus understands every expression', async (t) => {
  const dashboard = JSON.parse(readFileSync(new URL('../../examples/grafana-dashboard.json', import.meta.url), 'utf8')) as {
    panels: { title: string; targets?: { expr: string }[] }[];
    annotations: { list: { expr: string }[] };
  };
  const expressions = [...dashboard.panels.flatMap((panel) => panel.targets ?? []), ...dashboard.annotations.list].map(({ expr }) => expr);
  t.ok(expressions.length > 30, `${expressions.length} expressions`);
  const worker = new native.Worker({ flowsMax: 10, workers: 1, interfaces: [null], program: dataplane.program });
  const runner = { ...dataplane.runner.counters(), workers: worker.counters().workers, ports: [{ port: 0, interface: 'lo', rxFrames: 0, rxBytes: 0, rxDropped: 0, txFrames: 0, txBytes: 0, txErrors: 0, cuts: false, open: true }] };
  await worker.stop();
  const counters = network.counters.bind(network);
  network.counters = () => runner;
  const text = metricsText(dataplane, '1');
  network.counters = counters;
  t.strictSame(promtool(text), { status: 0, said: '' }, 'with a worker, too');
  const known = new Set([...samples(text).keys(), ...samples(metricsText(meshed.dataplane, '1')).keys()].map((key) => key.split('{')[0] ?? ''));
  const used = new Set(expressions.flatMap((expr) => expr.match(/\b(weir|process)_[a-z0-9_]+/g) ?? []));
  t.strictSame([...used].filter((name) => !known.has(name)), []);
  t.ok(used.has('weir_sync_lag_seconds'));

  const directory = mkdtempSync(join(tmpdir(), 'weir-dashboard-'));
  const rules = expressions.map((expr, i) => ({ record: `dashboard:expression:${i}`, expr: expr.replaceAll('$__rate_interval', '1m').replaceAll('$__interval', '1m') }));
  writeFileSync(join(directory, 'rules.yaml'), JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'rules', '--lint=none', join(directory, 'rules.yaml')], { encoding: 'utf8' });
  t.equal(status, 0, stdout + stderr);
  rmSync(directory, { recursive: true });
});
