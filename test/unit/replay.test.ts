import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { native, type Tuple } from '../../src/dataplane/native.js';
import { compile, replayFacts } from '../../src/program/compile.js';
import { newIds } from '../../src/program/ids.js';
import { classify } from '../../src/program/reference.js';
import { replay } from '../../src/replay/replay.js';
import { makeReport } from '../../src/replay/report.js';
import { steerAll, valid } from '../support/configuration.js';
import { ROOT, must, run } from '../support/lab.js';

/** PI_ERROR of Wireshark's expert information. */
const EXPERT_ERROR = 0x00800000;
const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const PCAPS = join(ROOT, 'pcaps');
const captures = readdirSync(PCAPS).filter((name) => /\.pcap(ng)?$/.test(name));
const directory = mkdtempSync(join(tmpdir(), 'weir-replay-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const at = (name: string): string => join(directory, name);
const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];

for (const encapsulation of ['nsh', 'geneve'] as const) {
  t.test(`${encapsulation}: every capture gives the same bytes twice, all that is steered arrives, and tshark reads all of it`, async (t) => {
    const configuration = valid(steerAll(encapsulation));
    // All that was stamped in one file: one tshark reads it, and not one for each capture.
    const stamped: Buffer[] = [];
    const frames: string[] = [];
    for (const name of captures) {
      const outputs: Buffer[][] = [];
      for (const turn of [1, 2]) {
        const [write, out] = [at(`stamped-${turn}.pcap`), at(`final-${turn}.pcap`)];
        const { counters, progress } = await replay({ configuration, read: join(PCAPS, name), write, out, workload: [] });
        t.equal(progress.error, null, name);
        t.equal(counters.stamped.packets, counters.delivered.packets * 2, `${name}: two hops a packet`);
        // Full-size IPv6 fragments don't fit behind a stamp and may not be fragmented again; their sender is told.
        const drops = Object.entries(counters.dropped).filter(([reason, n]) => n > 0 && !(name === 'fragments.pcap' && reason === 'too_big'));
        t.strictSame(drops, [], `${name}: nothing is dropped`);
        outputs.push([readFileSync(write), readFileSync(out)]);
      }
      t.ok(outputs[0]?.every((bytes, i) => bytes.equals(outputs[1]?.[i] ?? Buffer.alloc(0))), `${name}: same bytes`);

      const bytes = outputs[0]?.[0] ?? Buffer.alloc(0);
      stamped.push(stamped.length === 0 ? bytes : bytes.subarray(FILE_HEADER));
      for (let offset = FILE_HEADER, i = 1; offset < bytes.length; offset += RECORD_HEADER + bytes.readUInt32LE(offset + 8), i++) frames.push(`${name} frame ${i}`);
    }
    writeFileSync(at('stamped.pcap'), Buffer.concat(stamped));

    const fields = encapsulation === 'nsh' ? ['nsh.spi', 'nsh.si', 'nsh.metadatatype', 'nsh.metadata'] : ['geneve.option.type', 'geneve.option.class', 'geneve.option.length', 'geneve.option.unknown.data'];
    const text = await must(['tshark', '-n', '-o', 'tcp.analyze_sequence_numbers:FALSE', '-o', 'tcp.desegment_tcp_streams:FALSE', '-o', 'ip.defragment:FALSE', '-o', 'ipv6.defragment:FALSE', '-r', at('stamped.pcap'), '-T', 'fields', '-E', 'separator=|', '-E', 'occurrence=a', ...['_ws.malformed', '_ws.expert.severity', '_ws.expert.message', ...fields].flatMap((field) => ['-e', field])]);
    const lines = text.split('\n').slice(0, -1);
    t.equal(lines.length, frames.length);
    for (const [i, line] of lines.entries()) {
      const [malformed = '', severity = '', expert = '', a = '', b = '', c = '', d = ''] = line.split('|');
      // What the programs themselves did (a reset, a SYN, a DNS answer) is said too: that is about their packets, not our stamp.
      const complaint = malformed !== '' || severity.split(',').some((level) => Number(level) >= EXPERT_ERROR) || /NSH|Geneve|VXLAN|option|length|malformed|checksum/i.test(expert);
      const right = encapsulation === 'nsh' ? /^(0x0*)?[23]$/.test(a) && /^(255|254)$/.test(b) && Number(c) === 8 && d !== '' : a.split(',').map(Number).join() === '1,2,3' && b.split(',').every((value) => Number(value) === 0x0108);
      if (complaint || !right) {
        t.fail(`${frames[i]}: ${line}`);
        break;
      }
    }
  });
}

const framesOf = (file: string): Buffer[] => {
  const bytes = readFileSync(file);
  const out: Buffer[] = [];
  for (let offset = FILE_HEADER; offset < bytes.length; offset += RECORD_HEADER + bytes.readUInt32LE(offset + 8)) out.push(bytes.subarray(offset + RECORD_HEADER, offset + RECORD_HEADER + bytes.readUInt32LE(offset + 8)));
  return out;
};

for (const encapsulation of ['nsh', 'geneve'] as const) {
  t.test(`${encapsulation}: with \`fragment: true\` IPv6 fragments of full size go to their instances in outer fragments and leave as they came`, async (t) => {
    const configuration = valid(steerAll(encapsulation).replace('{interface: eth1}', '{interface: eth1, fragment: true}'));
    const { counters } = await replay({ configuration, read: join(PCAPS, 'fragments.pcap'), write: at('fragments.pcap'), out: at('whole.pcap'), workload: [] });
    t.strictSame(Object.entries(counters.dropped).filter(([, n]) => n > 0), []);
    t.equal(counters.stamped.packets, counters.delivered.packets * 2, 'two hops a packet');
    const six = (file: string): Buffer[] => framesOf(file).filter((frame) => frame.readUInt16BE(12) === 0x86dd && frame.readUInt8(20) === 44);
    const left = new Set(six(at('whole.pcap')).map((frame) => frame.toString('hex')));
    const came = six(join(PCAPS, 'fragments.pcap'));
    t.ok(came.length > 0 && came.every((frame) => left.has(frame.toString('hex'))), 'each IPv6 fragment left as it came');
    t.ok(framesOf(at('fragments.pcap')).every(({ length }) => length <= 1514), 'nothing is longer than the MTU');
    const whole = (await must(['tshark', '-n', '-r', at('fragments.pcap'), '-Y', `ip.reassembled.length && ${encapsulation} && ipv6`, '-T', 'fields', '-e', '_ws.malformed', '-e', 'udp.checksum.status', '-o', 'udp.check_checksum:TRUE'])).split('\n').slice(0, -1);
    t.equal(whole.length, counters.fragments.datagramsSent, 'tshark puts each together');
    t.ok(whole.every((line) => /^\t1/.test(line)), `with the right checksum: ${[...new Set(whole)].join(' ')}`);
  });

  t.test(`${encapsulation}: what a chain delivers leaves for its last instance and ends there; its answers cross`, async (t) => {
    const configuration = valid(
      `underlay: {interface: u}\ncaptures: [{name: web, in: a, out: b}]\nservices: {fw: {instances: [{name: fw-1, address: 10.20.0.11}]}, slb: {instances: [{name: slb-1, address: 10.20.0.21}, {name: slb-2, address: 10.20.0.22}]}}\n` +
        `chains: {vip: {services: [fw, slb], deliver: true, encapsulation: ${encapsulation}}}\npolicies: [{name: vip, match: {destination: [10.2.0.0/24, "fd02::/64"]}, chain: vip}]`,
    );
    let delivered = 0;
    for (const name of captures.filter((one) => one !== 'fragments.pcap')) {
      const { counters } = await replay({ configuration, read: join(PCAPS, name), write: at('delivered.pcap'), out: at('crossed.pcap'), workload: [] });
      t.equal(counters.delivered.packets, 0, `${name}: nothing leaves at the end of the path`);
      t.equal(counters.stamped.packets, 2 * counters.deliveredToInstances.packets, `${name}: two hops a packet`);
      t.strictSame(Object.entries(counters.dropped).filter(([, n]) => n > 0), [], name);
      const perChain = counters.chains[0]?.delivered.packets ?? 0;
      t.equal(perChain, counters.deliveredToInstances.packets);
      delivered += perChain;
    }
    t.ok(delivered > 20, `${delivered} packets delivered`);
  });
}

t.test('native and reference classifier agree on every stream of every capture', async (t) => {
  const configuration = valid(
    steerAll().replace(
      /policies:.*/,
      `policies:
  - {name: web, match: {protocol: tcp, destination_port: [8080, 80]}, chain: inspect}
  - {name: dns, priority: 5, match: {destination_port: 53}, action: drop}
  - {name: six, match: {source: "fd01::/64"}, chain: inspect}
  - {name: net, match: {destination: 10.2.0.0/24, protocol: [icmp, udp]}, chain: inspect}
  - {name: tagged, match: {vlan: [7, 100]}, action: pass}
  - {name: answers, match: {direction: in}, action: pass}`,
    ),
  );
  let streams = 0;
  for (const name of captures) {
    const ids = newIds();
    const program = compile(configuration, ids, replayFacts(configuration));
    const file = new native.Replay({ flowsMax: 10_000, read: join(PCAPS, name), write: null, out: null, workload: [], program });
    while (!file.step(1000).done);
    for (const flow of file.flows(0, 10_000).flows) {
      const tuple: Tuple = { ...flow, direction: flow.opened };
      const expected = classify(configuration, { ...tuple, capture: 'web', vlan: flow.vlan[0] }).policy;
      const found = flow.policy < 0 ? null : ids.policies.name(flow.policy);
      if (found !== (expected?.name ?? null)) t.strictSame(found, expected?.name ?? null, `${name}: ${JSON.stringify(flow)}`);
      streams++;
    }
    file.close();
  }
  t.ok(streams > 40, `${streams} streams`);
});

t.test('the command: reports in text and JSON, exit codes', async (t) => {
  const config = at('weir.yaml');
  writeFileSync(config, steerAll());
  const command = [...WEIR, 'replay', '--config', config, '--read', join(PCAPS, 'dns.pcapng')];
  const text = await run([...command, '--write', at('s.pcap'), '--out', at('f.pcap')]);
  t.match(text, { code: 0, stdout: /stamped \d+, delivered \d+[\s\S]*policy +streams[\s\S]*firewall\/fw-1/ });
  const json = JSON.parse((await run([...command, '--report', 'json'])).stdout) as ReturnType<typeof makeReport>;
  t.match(json, { unusable: 0, error: null, policies: [{ name: 'all' }], dropped: {} });
  t.match(await run([...command, '--write', join(PCAPS, 'dns.pcapng')]), { code: 2, stderr: /is the file that is read/ });
  t.match(await run([...WEIR, 'replay', '--config', config, '--read', at('none.pcap')]), { code: 2, stderr: /there is no file/ });
});

t.test('a file cut short: what is readable is processed, the report says so, exit code 1', async (t) => {
  const config = at('weir.yaml');
  writeFileSync(config, steerAll());
  const whole = readFileSync(join(PCAPS, 'curl.pcap'));
  writeFileSync(at('cut.pcap'), whole.subarray(0, whole.length - 100));
  const { code, stdout } = await run([...WEIR, 'replay', '--config', config, '--read', at('cut.pcap'), '--report', 'json']);
  t.equal(code, 1);
  const report = JSON.parse(stdout) as ReturnType<typeof makeReport>;
  t.match(report.error, /truncated/);
  t.ok(report.packets > 50 && report.totals.captured.packets === report.packets && report.totals.delivered.packets >= report.packets, `${report.packets} packets`);
});

t.test('a link type that weir does not read is refused by name', async (t) => {
  const config = at('weir.yaml');
  writeFileSync(config, steerAll());
  const other = readFileSync(join(PCAPS, 'ping.pcap'));
  other.writeUInt32LE(105, 20);
  writeFileSync(at('wifi.pcap'), other);
  const { code, stderr } = await run([...WEIR, 'replay', '--config', config, '--read', at('wifi.pcap')]);
  t.equal(code, 2);
  t.match(stderr, /link type IEEE802_11 \(105\) can't be replayed; weir reads Ethernet, raw IP, Linux cooked v1 and v2, and BSD loopback/);
});
