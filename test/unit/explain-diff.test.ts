import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { ControlClient } from '../../src/control/client.js';
import { ControlServer } from '../../src/control/server.js';
import { streamsOf } from '../../src/explain/capture.js';
import { diff, type Diff, type DiffStream } from '../../src/explain/diff.js';
import { stillSubject } from '../../src/explain/subject.js';
import type { Trace } from '../../src/explain/trace.js';
import type { FlowsAnswer } from '../../src/dataplane/views.js';
import { steerAll, valid } from '../support/configuration.js';
import { ROOT, run } from '../support/lab.js';
import { udp } from '../support/packets.js';
import { simulate } from '../support/sim.js';

const directory = mkdtempSync(join(tmpdir(), 'weir-diff-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const file = (name: string, text: string): string => {
  writeFileSync(join(directory, name), text);
  return join(directory, name);
};
const PCAPS = join(ROOT, 'pcaps');
const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];

const stream = (i: number, protocol = 6): DiffStream => ({ capture: 'web', vlan: [0, 0], protocol, source: `10.1.${(i >> 8) & 255}.${i & 255}`, sourcePort: 1024 + (i % 60_000), destination: '10.2.0.2', destinationPort: i % 2 === 0 ? 80 : 53, direction: 'out' });
const STREAMS = Array.from({ length: 1000 }, (_, i) => stream(i));
const between = (before: string, after: string, streams: Iterable<DiffStream> = STREAMS): Promise<Diff> => diff(stillSubject(valid(before)), stillSubject(valid(after)), streams);

t.test('the same configuration changes nothing', async (t) => {
  t.match(await between(steerAll(), `${steerAll()}\nflows: {max: 5}`), { streams: 1000, changed: 0, action: 0, chain: 0, path: 0, instance: 0, examples: [], policies: [{ policy: 'all', streams: 1000, changed: 0, becomes: [{ policy: 'all', streams: 1000 }] }] });
});

t.test('a policy that drops: its streams change their action and leave their services', async (t) => {
  const after = steerAll().replace('policies: [', 'policies: [{name: no-dns, match: {destination_port: 53}, action: drop}, ');
  const result = await between(steerAll(), after);
  t.match(result, { changed: 500, action: 500, chain: 0, path: 0, instance: 0, policies: [{ policy: 'all', streams: 1000, changed: 500, action: 500 }] });
  t.match(new Map(result.policies[0]?.becomes.map((row) => [row.policy, row.streams])), new Map([['no-dns', 500], ['all', 500]]));
  t.match(result.services.find((row) => row.service === 'firewall'), { before: 1000, after: 500, moved: 0, gained: 0, lost: 500 });
  t.match(result.examples[0], { stream: { destinationPort: 53 }, changes: ['action'], before: { action: 'chain', chain: 'inspect' }, after: { action: 'drop', policy: 'no-dns', instances: [] } });
});

t.test('a service inserted: the path changes, and nobody changes the instance of another service', async (t) => {
  const result = await between(steerAll(), steerAll().replace('[firewall, ids]', '[firewall, added, ids]'));
  t.match(result, { changed: 1000, action: 0, chain: 0, path: 1000, instance: 0 });
  t.match(result.services.find((row) => row.service === 'added'), { before: 0, after: 1000, gained: 1000, moved: 0 });
});

t.test('another chain with the same services is another chain on the same path', async (t) => {
  const after = steerAll().replace('chains: {inspect: {', 'chains: {other: [firewall, ids], inspect: {').replace('chain: inspect', 'chain: other');
  t.match(await between(steerAll(), after), { changed: 1000, chain: 1000, path: 0, instance: 0 });
});

t.test('an instance taken out: its streams move to another, and only they', async (t) => {
  const result = await between(steerAll(), steerAll().replace('{name: fw-2, address: 10.20.0.12}', ''));
  t.match(result, { action: 0, chain: 0, path: 0 });
  t.equal(result.changed, result.instance);
  t.ok(result.instance > 350 && result.instance < 650, `${result.instance} of 1000`);
  t.ok(result.examples.every(({ before, after }) => before.instances[0] === 'firewall/fw-2' && after?.instances[0] === 'firewall/fw-1' && before.instances[1] === after.instances[1]));
  t.match(result.services.map((row) => [row.service, row.moved]), [['firewall', result.instance], ['ids', 0]]);
});

t.test('a capture that is not there any more', async (t) => {
  t.match(await between(steerAll(), steerAll().replace('name: web', 'name: other')), { changed: 1000, uncaptured: 1000, examples: [{ after: null }] });
});

t.test('examples show each kind of change before a second one of it', async (t) => {
  const after = steerAll().replace('[firewall, ids]', '[ids]').replace('policies: [', 'policies: [{name: no-dns, match: {destination_port: 53}, action: drop}, ');
  const { examples } = await between(steerAll(), after);
  t.equal(examples.length, 5);
  t.strictSame(new Set(examples.slice(0, 2).map((example) => example.changes.join())), new Set(['action', 'path']));
});

t.test('what is counted for a capture is what replays of it under both configurations do', async (t) => {
  const after = steerAll().replace('{name: ids-2, address: 10.20.0.22}', '{name: ids-2, address: 10.20.0.22, weight: 5}').replace('policies: [', 'policies: [{name: no-udp, match: {protocol: udp}, action: drop}, ');
  let all = 0;
  for (const name of ['dns.pcap', 'iperf3-udp.pcap', 'qinq.pcap', 'icmp-errors.pcap', 'curl-ipv6.pcap']) {
    const [was, will] = await Promise.all([steerAll(), after].map(async (yaml) => (await streamsOf(join(PCAPS, name), [], stillSubject(valid(yaml)).program)).streams));
    const changed = was?.filter((flow, i) => flow.action !== will?.[i]?.action || flow.pins.join() !== will[i]?.pins.join()).length;
    const { streams } = await streamsOf(join(PCAPS, name), []);
    const result = await between(steerAll(), after, streams.map((flow) => ({ ...flow, capture: 'web', direction: flow.opened })));
    t.match(result, { streams: was?.length, changed }, name);
    all += result.streams;
  }
  t.ok(all > 12, `${all} streams`);
});

t.test('100,000 streams', async (t) => {
  const result = await between(steerAll(), steerAll().replace('[firewall, ids]', '[ids, firewall]'), Array.from({ length: 100_000 }, (_, i) => stream(i)));
  t.match(result, { streams: 100_000, path: 100_000 });
});

t.test('of a running weir: every live stream once, by pages, with its states and its key; nothing is changed', async (t) => {
  const { dataplane, network } = await simulate(steerAll());
  const path = join(directory, 'weir.sock');
  const server = await ControlServer.listen({ path, mode: 0o600, dataplane, log: pino({ level: 'silent' }), shutdown: () => undefined });
  t.teardown(async () => {
    await server.close();
    await dataplane.stop();
  });
  for (let i = 0; i < 300; i++) network.inject(1, udp({ sourcePort: 1000 + i }));
  network.advance(1_000_000n);
  const client = await ControlClient.connect(path);
  for (const limit of [1, 7, 100, 256, 299, 300, 301]) {
    const found: number[] = [];
    for (let cursor: number | undefined = 0; cursor !== undefined; ) {
      const page: FlowsAnswer = await client.call('flows', { limit, cursor });
      found.push(...page.flows.map((flow) => flow.sourcePort));
      t.equal(page.more, page.next !== undefined);
      cursor = page.next;
    }
    t.strictSame(found.sort((a, b) => a - b), Array.from({ length: 300 }, (_, i) => 1000 + i), `limit ${limit}`);
  }

  await dataplane.setInstance('firewall', 'fw-1', 'down', null, 'test');
  const before = [dataplane.generation, dataplane.runner.counters()];
  const same = JSON.parse((await run([...WEIR, 'diff', file('same.yaml', steerAll()), '--socket', path, '--json'])).stdout) as Diff;
  t.match(same, { streams: 300, changed: 0 }, 'an instance that is down is down for both');
  t.ok(same.pinnedElsewhere > 90, `${same.pinnedElsewhere} are still pinned to fw-1`);
  const changes = file('changes.yaml', steerAll().replace('[firewall, ids]', '[ids]'));
  const text = await run([...WEIR, 'diff', changes, '--socket', path, '--exit-code']);
  t.match(text, { code: 1, stderr: '', stdout: /^300 live streams: 300 would change \(action 0, chain 0, path 300, instance 0\), 0 would not\n[\s\S]*policy +streams +changed[\s\S]*all +300 +300[\s\S]*for example:\n  udp 10\.1\.0\.2:\d+ -> 10\.2\.0\.2:53: path\n    now   inspect: firewall\/fw-2 > ids\/ids-\d \(all\)\n    then  inspect: ids\/ids-\d \(all\)/ });
  t.strictSame([dataplane.generation, dataplane.runner.counters()], before);

  const frame = udp({ sourcePort: 1000 }).toString('hex');
  const traced = await client.call<Trace>('trace', { protocol: 'udp', source: '10.1.0.2', source_port: 1000, destination: '10.2.0.2', destination_port: 53, frame });
  t.match(traced, { live: { packets: 1 }, final: { sent: true, packet: 'given', instance: 'firewall/fw-2' } });
  await t.rejects(client.call('trace', { protocol: 'udp', source: '10.1.0.2', destination: '10.2.0.2', frame: 'xyz' }), /trace: frame: expected hexadecimal digits, two for each byte, found "xyz"/);
  client.close();
});

t.test('while a named configuration is in force, its policies explain, and stay in force in what is compared', async (t) => {
  const night = `switches: {night: on}\nconfigurations: {night: {when: {switch: night}, policies: [{name: closed, match: {}, action: drop}]}}`;
  const [yaml, open] = [`${steerAll()}${night}`, `${steerAll()}${night.replace('drop', 'pass')}`];
  const { dataplane, network } = await simulate(yaml);
  network.inject(1, udp());
  network.advance(1_000_000n);
  const path = join(directory, 'night.sock');
  const server = await ControlServer.listen({ path, mode: 0o600, dataplane, log: pino({ level: 'silent' }), shutdown: () => undefined });
  t.teardown(async () => {
    await server.close();
    await dataplane.stop();
  });
  const tuple = ['udp', '10.1.0.2:40000', '10.2.0.2:53'];
  t.match(await run([...WEIR, 'trace', ...tuple, '--socket', path]), { code: 0, stdout: /decision: drop, by policy closed[\s\S]*final frame: none; dropped: policy/ });
  t.match(JSON.parse((await run([...WEIR, 'diff', file('open.yaml', open), '--socket', path, '--json'])).stdout), { streams: 1, changed: 1, examples: [{ before: { action: 'drop', policy: 'closed' }, after: { action: 'pass' } }] });

  const [config, read] = [file('night.yaml', yaml), join(PCAPS, 'dns.pcap')];
  t.match(await run([...WEIR, 'trace', '--config', config, ...tuple]), { code: 0, stdout: /decision: chain inspect/ });
  t.match(await run([...WEIR, 'trace', '--config', config, '--variant', 'night', ...tuple]), { code: 0, stdout: /decision: drop, by policy closed/ });
  t.match(await run([...WEIR, 'trace', '--config', config, '--variant', 'nigth', ...tuple]), { code: 2, stderr: /--variant: there is no configuration "nigth"; did you mean "night"\?/ });
  t.match(await run([...WEIR, 'replay', '--config', config, '--variant', 'night', '--read', read, '--expect', file('night-expect.yaml', '- {match: {}, action: drop, policy: closed}')]), { code: 0, stdout: /1 met, 0 missed/ });
  t.match(await run([...WEIR, 'diff', config, '--variant', 'night', '--config', file('day.yaml', steerAll()), '--read', read]), { code: 0, stdout: /would change \(action \d+, chain 0/ });
});

t.test('the commands without a running weir: text, JSON, exit codes', async (t) => {
  const [before, after] = [file('before.yaml', steerAll()), file('after.yaml', steerAll().replace('chain: inspect}]', 'action: pass}]'))];
  const read = join(PCAPS, 'dns.pcap');
  t.match(await run([...WEIR, 'diff', after, '--config', before, '--read', read]), { code: 0, stdout: /streams of .*dns.pcap: (\d+) would change \(action \1, chain 0, path 0, instance 0\), 0 would not/ });
  t.match(JSON.parse((await run([...WEIR, 'diff', after, '--config', before, '--read', read, '--json', '--examples', '1'])).stdout), { chain: 0, examples: [{ after: { action: 'pass' } }] });
  t.match(await run([...WEIR, 'diff', before, '--config', before, '--read', read, '--exit-code']), { code: 0 });
  t.match(await run([...WEIR, 'diff', after, '--config', before]), { code: 2, stderr: /--config compares without a running weir.*add --read/ });
  t.match(await run([...WEIR, 'diff', file('bad.yaml', 'captures: 5')]), { code: 2, stderr: /bad.yaml:1:11: captures: expected a list/ });
  t.match(await run([...WEIR, 'diff', after, '--socket', join(directory, 'none.sock')]), { code: 1, stderr: /nothing listens on/ });

  const trace = [...WEIR, 'trace', '--config', before];
  t.match(await run([...trace, 'tcp', '10.1.0.2:40000', '10.2.0.2:80']), { code: 0, stdout: /decision: chain inspect, path 1 \(version 1, SPI 2, answers 3, nsh\), by policy all[\s\S]*all +0 +0 +wins[\s\S]*hop +service[\s\S]*final frame \(packet made up\) to firewall\/fw-\d[\s\S]*outer .*192\.0\.2\.1:\d+ > 10\.20\.0\.1\d:4790[\s\S]*stamp  nsh: SPI 2 \(opener\), SI 255, code 0x[0-9a-f]{8}[\s\S]*inner .*tcp 10\.1\.0\.2:40000 > 10\.2\.0\.2:80.*SYN\n  [0-9a-f]{64}/ });
  t.match(JSON.parse((await run([...trace, '--read', read, '--packet', '2', '--json'])).stdout), { chain: 'inspect', live: null, final: { sent: true, packet: 'given', instance: /^(firewall|ids)\// } });
  t.match(await run([...trace, '--read', join(PCAPS, 'arp-ndp.pcap'), '--packet', '1']), { code: 0, stdout: /packet 1 belongs to no stream that weir steers: it crosses unchanged/ });
  const wrong: readonly (readonly [readonly string[], RegExp])[] = [
    [['tcp', '10.1.0.2:1'], /expected PROTOCOL SOURCE DESTINATION/],
    [['sctp', '10.1.0.2', '10.2.0.2'], /expected tcp, udp, icmp, icmpv6 or a number up to 255, found "sctp"/],
    [['tcp', '10.1.0.2:1', '10.2.0.2:2', '--capture', 'nope'], /there is no capture "nope"; there are: web/],
    [['--read', read], /--read needs --packet N/],
    [['--read', read, '--packet', '0'], /--read needs --packet N; the first one is 1/],
    [['--packet', '5', 'tcp', '10.1.0.2', '10.2.0.2'], /--packet needs --read/],
    [['--read', read, '--packet', '1', 'tcp', '10.1.0.2', '10.2.0.2'], /either a 5-tuple or --read/],
    [['--read', join(directory, 'none.pcap'), '--packet', '1'], /there is no file/],
  ];
  for (const [options, stderr] of wrong) t.match(await run([...trace, ...options]), { code: 2, stderr }, options.join(' '));
});
