import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import t from 'tap';
import { Parser } from 'tap-parser';
import { formatErrors } from '../../src/config/errors.js';
import { parseExpectations } from '../../src/replay/expect-load.js';
import { expectSchema } from '../../src/replay/expect-schema.js';
import { formatExpectations } from '../../src/replay/expect-report.js';
import { checkExpectations, type ExpectResult } from '../../src/replay/expect.js';
import { steerAll, valid } from '../support/configuration.js';
import { ROOT, must, run } from '../support/lab.js';
import { ACK, RST, SYN, answer, tcp } from '../support/packets.js';

const directory = mkdtempSync(join(tmpdir(), 'weir-expect-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const at = (name: string): string => join(directory, name);
const file = (name: string, text: string): string => {
  writeFileSync(at(name), text);
  return at(name);
};
/** Two UDP queries over IPv4 and one over IPv6, two packets each; one over TCP, ten packets. */
const DNS = join(ROOT, 'pcaps/dns.pcap');
const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];

const YAML = steerAll().replace(
  /policies:.*/,
  `policies:
  - {name: six, match: {source: "fd01::/64"}, chain: other}
  - {name: no-tcp, match: {protocol: tcp, destination_port: 53}, action: drop}
  - {name: udp, match: {protocol: udp, source: 10.1.0.0/24}, chain: inspect}
  - {name: quiet, match: {protocol: icmp}, action: pass}`,
).replace('chains: {', 'chains: {other: [added], ');
const CONFIGURATION = valid(YAML);

async function check(text: string, read: string | null = DNS): Promise<ExpectResult> {
  const loaded = parseExpectations(text, 'expect.yaml', CONFIGURATION, read !== null);
  if (!loaded.ok) throw new Error(formatErrors(loaded.errors));
  return checkExpectations(CONFIGURATION, loaded.expectations, read, []);
}

const UDP4 = 'protocol: udp, source: 10.1.0.0/24';
const ONE = 'protocol: udp, source: 10.1.0.2, source_port: 39531, destination: 10.2.0.2, destination_port: 53';

const MET = [
  `- {match: {${UDP4}}, action: chain}`,
  `- {match: {${UDP4}}, chain: inspect, hops: [firewall, ids], policy: udp, streams: 2, packets: 4}`,
  `- {match: {${UDP4}}, instances: [firewall/fw-1, firewall/fw-2]}`,
  `- {match: {source: "fd01::/16"}, chain: other, hops: [added], instances: [added/add-1], policy: six, streams: 1}`,
  `- {match: {protocol: tcp}, action: drop, hops: [], policy: no-tcp, packets: {min: 1}}`,
  `- {match: {}, streams: {min: 4, max: 4}, packets: {max: 16}}`,
  `- {match: {destination_port: 50-60, capture: web, direction: out, vlan: 0}, streams: 4}`,
  `- {match: {destination_port: 80}, streams: 0}`,
  `- {match: {direction: in}, chain: inspect, packets: {max: 0}}`,
  `- {match: {${ONE}}, chain: inspect, streams: 1, packets: 2}`,
  `- {match: {protocol: udp, source: 10.1.0.9, source_port: 1, destination: 10.2.0.2, destination_port: 1}, chain: inspect}`,
  `- {match: {protocol: icmp, source: 10.9.0.2, destination: 10.2.0.2}, action: pass, policy: quiet}`,
  `- {match: {protocol: 132, source: 10.9.0.2, destination: 10.2.0.2}, action: pass, policy: null}`,
];
t.test('what is so is met', async (t) => {
  const { verdicts } = await check(MET.join('\n'));
  t.strictSame(verdicts.flatMap((verdict) => verdict.misses.map((miss) => `${verdict.line} ${JSON.stringify(miss)}`)), []);
  t.equal(verdicts.length, MET.length);
});

const MISSED: readonly (readonly [claim: string, entry: string, said: string])[] = [
  ['an action', `- {match: {${ONE}}, action: drop}`, 'action: expected drop, found chain, by policy udp: udp 10.1.0.2:39531 -> 10.2.0.2:53'],
  ['a chain, of some of the streams', '- {match: {protocol: udp}, chain: inspect}', 'chain: expected inspect, found other, by policy six in 1 of 3 streams: udp [fd01::2]:34230 -> [fd02::2]:53'],
  ['a chain where there is none', '- {match: {protocol: tcp}, chain: inspect}', 'chain: expected inspect, found no chain: drop, by policy no-tcp: tcp 10.1.0.2:38651 -> 10.2.0.2:53'],
  ['hops', `- {match: {${ONE}}, hops: [ids, firewall]}`, 'hops: expected [ids, firewall], found [firewall, ids]: udp 10.1.0.2:39531 -> 10.2.0.2:53'],
  ['a policy', `- {match: {${ONE}}, policy: six}`, 'policy: expected six, found udp: udp 10.1.0.2:39531 -> 10.2.0.2:53'],
  ['the default', `- {match: {${ONE}}, policy: null}`, 'policy: expected the default, found udp: udp 10.1.0.2:39531 -> 10.2.0.2:53'],
  ['a service that is not visited', `- {match: {${ONE}}, instances: [added/add-1]}`, 'instances: expected one of [added/add-1], found added is not visited: udp 10.1.0.2:39531 -> 10.2.0.2:53'],
  ['streams', `- {match: {${UDP4}}, streams: 3}`, 'streams: expected 3, found 2'],
  ['streams at least', '- {match: {}, streams: {min: 5}}', 'streams: expected at least 5, found 4'],
  ['packets at most', '- {match: {protocol: tcp}, packets: {max: 9}}', 'packets: expected at most 9, found 10'],
  ['packets between', '- {match: {protocol: tcp}, packets: {min: 2, max: 9}}', 'packets: expected 2 to 9, found 10'],
  ['a stream at all', '- {match: {protocol: udp, source: 10.99.0.0/16}, chain: inspect}', 'match: expected a stream that matches, found none in the capture'],
  ['a 5-tuple that is not in the capture, by the classifier', '- {match: {protocol: icmp, source: 10.9.0.2, destination: 10.2.0.2}, chain: inspect}', 'chain: expected inspect, found no chain: pass, by policy quiet: icmp 10.9.0.2 -> 10.2.0.2'],
];
for (const [claim, entry, said] of MISSED) {
  t.test(`missed: ${claim}`, async (t) => {
    const result = await check(`# a line before\n${entry}`);
    t.equal(formatExpectations('text', 'expect.yaml', '', result).split('\n')[0], `expect.yaml:2: ${result.verdicts[0]?.name}: ${said}`);
  });
}

t.test('missed: an instance; the one that was chosen is named', async (t) => {
  const chosen = (await check(`- {match: {${ONE}}, instances: [firewall/fw-1]}`)).verdicts[0]?.misses.length === 0 ? 'fw-1' : 'fw-2';
  const other = chosen === 'fw-1' ? 'fw-2' : 'fw-1';
  t.match((await check(`- {match: {${ONE}}, instances: [firewall/${other}]}`)).verdicts, [{ misses: [{ key: 'instances', found: `firewall/${chosen}` }] }]);
});

t.test('lines are those of the keys, and every miss of an entry is told', async (t) => {
  const { verdicts } = await check(`- name: all wrong\n  match: {${ONE}}\n  policy: six\n  hops: []\n\n  streams: 7\n`);
  t.match(verdicts, [{ name: 'all wrong', line: 1, misses: [{ key: 'hops', line: 4 }, { key: 'policy', line: 3 }, { key: 'streams', line: 6 }] }]);
});

t.test('without a capture a 5-tuple is decided by the classifier alone, the same instance as with one', async (t) => {
  const entry = `- {match: {${ONE}}, instances: [firewall/fw-1]}`;
  const [alone, read] = [(await check(entry, null)).verdicts[0], (await check(entry)).verdicts[0]];
  t.equal(alone?.by, 'classifier');
  t.equal(read?.by, 'capture');
  t.strictSame(alone?.misses, read?.misses);
});

/** `^` marks where the error is. */
const WRONG: readonly (readonly [marked: string, error: string, read?: boolean])[] = [
  ['^match: {}', 'expected a list of expectations, each with a match; found a mapping'],
  ['^[]', 'expected at least one entry, found an empty list'],
  ['- ^{action: drop}', '[0]: the key "match" is missing'],
  ['- ^{match: {}}', '[0]: nothing is expected: give one of action, chain, hops, policy, instances, streams, packets'],
  ['- {match: {}, ^chian: inspect}', '[0].chian: unknown key; did you mean "chain"?'],
  ['- {match: {}, chain: ^inspct}', '[0].chain: there is no chain "inspct"; did you mean "inspect"?'],
  ['- {match: {}, hops: [firewall, ^idz]}', '[0].hops[1]: there is no service "idz"; did you mean "ids"?'],
  ['- {match: {}, instances: [^firewall/fw-9]}', '[0].instances[0]: there is no instance "firewall/fw-9"; did you mean "firewall/fw-1"?'],
  ['- {match: {}, policy: ^udb}', '[0].policy: there is no policy "udb"; did you mean "udp"?'],
  ['- {match: {}, action: ^allow}', '[0].action: expected one of pass, drop, chain, found "allow"'],
  ['- {match: {}, action: drop, chain: ^inspect}', '[0].chain: a stream with the action "drop" has none'],
  ['- {match: {}, streams: ^many}', '[0].streams: expected a whole number from 0 to 1000000000000, or a mapping, found "many"'],
  ['- {match: {}, streams: {min: ^-1}}', '[0].streams.min: expected a whole number from 0 to 1000000000000, found -1'],
  ['- {match: {}, packets: ^{min: 5, max: 2}}', '[0].packets: the range runs backwards: min 5 is more than max 2'],
  ['- {match: {capture: ^wib}, streams: 1}', '[0].match.capture: there is no capture "wib"; did you mean "web"?'],
  ['- {match: {source: ^10.0.0.300}, streams: 1}', '[0].match.source: expected an address or a prefix such as 10.0.0.0/24 or fd01::/64, found "10.0.0.300"'],
  ['- {match: {destination_port: ^80-70}, streams: 1}', '[0].match.destination_port: the range runs backwards; did you mean "70-80"?'],
  ['- {match: {protokol: tcp}, streams: 1}'.replace('protokol', '^protokol'), '[0].match.protokol: unknown key; did you mean "protocol"?'],
  ['- {match: ^{protocol: udp}, chain: inspect}', '[0].match: without --read, only a whole 5-tuple can be answered: protocol, source, destination, and for tcp and udp source_port and destination_port, one value each', false],
  [`- {match: {${ONE}}, streams: ^1}`, '[0].streams: there is nothing to count without a capture: add --read', false],
  ['- {match: {}, policy: ^*nope}', 'the alias *nope has no anchor &nope before it'],
];
for (const [marked, error, read = true] of WRONG) {
  t.test(`refused: ${marked}`, async (t) => {
    const before = marked.slice(0, marked.indexOf('^')).split('\n');
    const loaded = parseExpectations(marked.replace('^', ''), 'expect.yaml', CONFIGURATION, read);
    t.strictSame(loaded.ok ? [] : formatErrors(loaded.errors).split('\n'), [`expect.yaml:${before.length}:${(before.at(-1)?.length ?? 0) + 1}: ${error}`]);
  });
}

t.test('all errors of a file are told at once, in order, with what was expected and found', async (t) => {
  const loaded = parseExpectations('- {match: {}, chain: nope}\n- {match: {protocol: tpc}, streams: 1}\n- 5\n', 'e', CONFIGURATION, true);
  t.match(loaded, { ok: false, errors: [{ line: 1, column: 22, path: '[0].chain', found: '"nope"' }, { line: 2, path: '[1].match.protocol', found: '"tpc"' }, { line: 3, path: '[2]', expected: 'a mapping', found: '5' }] });
});

const NASTY = 'a <b> & "c" \'d\' # e \\ f \u0001 ü 🙂';
const MIXED = `- {name: ${JSON.stringify(NASTY)}, match: {protocol: udp}, chain: inspect}\n- {name: fine, match: {protocol: tcp}, action: drop}\n- {match: {}, streams: 9, packets: 9}`;

t.test('JUnit is XML: one case an entry, failures with what was found and where', async (t) => {
  const xml = file('results.xml', formatExpectations('junit', 'expect.yaml', 'weir.yaml dns.pcap', await check(MIXED)));
  const script = `
import json, sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
print(json.dumps({'tag': root.tag, 'counts': root.attrib, 'cases': [{**case.attrib, 'failures': [[f.get('message'), f.text] for f in case.findall('failure')]} for case in root.iter('testcase')]}))`;
  t.match(JSON.parse(await must(['python3', '-c', script, xml])), {
    tag: 'testsuites',
    counts: { tests: '3', failures: '2', errors: '0' },
    cases: [
      { classname: 'weir.yaml dns.pcap', name: NASTY.replace('\u0001', '\ufffd'), line: '1', failures: [['chain: expected inspect, found other, by policy six', /^expect.yaml:1: chain: expected inspect, found other/]] },
      { name: 'fine', failures: [] },
      { name: '#3: every stream', line: '3', failures: [['streams: expected 9, found 4; packets: expected 9, found 16', /expect.yaml:3: streams/]] },
    ],
  });
});

t.test('TAP is read by a TAP parser: one point an entry, diagnostics in YAML', async (t) => {
  const points: { ok: boolean; name: string; diag?: { at?: { lineNumber?: number }; misses?: { key: string; found: string }[] } }[] = [];
  const parser = new Parser({ strict: true });
  parser.on('assert', (result: (typeof points)[number]) => points.push(result));
  const done = new Promise<{ ok: boolean; count: number; pass: number; failures: unknown[] }>((resolve) => parser.on('complete', resolve));
  parser.end(formatExpectations('tap', 'expect.yaml', 'weir.yaml dns.pcap', await check(MIXED)));
  t.match(await done, { ok: false, count: 3, pass: 1 });
  t.match(points, [
    { ok: false, name: NASTY, diag: { at: { lineNumber: 1 }, misses: [{ key: 'chain', found: 'other, by policy six', streams: 1 }] } },
    { ok: true, name: 'fine' },
    { ok: false, diag: { misses: [{ key: 'streams', found: '4' }, { key: 'packets', found: '16' }] } },
  ]);
});

t.test('a capture cut short misses, however well the rest went', async (t) => {
  const whole = readFileSync(DNS);
  writeFileSync(at('cut.pcap'), whole.subarray(0, whole.length - 10));
  const result = await check('- {match: {protocol: udp}, streams: 3}', at('cut.pcap'));
  t.match(result, { error: /truncated/, verdicts: [{ misses: [] }] });
  t.match(formatExpectations('junit', 'e', 's', result), /errors="1"[\s\S]*<error type="capture"/);
  t.match(formatExpectations('tap', 'e', 's', result), /1\.\.2\nok 1 .*\nnot ok 2 - the capture can be read/);
});

t.test('a 5-tuple that the capture opens again is one stream, with the packets since, and the result says so', async (t) => {
  const packet = (flags: number, reply = false): Buffer => (reply ? answer(tcp, { flags }) : tcp({ flags }));
  const frames = [packet(SYN), packet(SYN | ACK, true), packet(ACK), packet(RST | ACK), packet(SYN), packet(SYN | ACK, true)];
  const header = Buffer.from('d4c3b2a1020004000000000000000000ffff000001000000', 'hex');
  const records = frames.flatMap((frame, i) => {
    const record = Buffer.alloc(16);
    [1_700_000_000 + i, 0, frame.length, frame.length].forEach((value, at) => record.writeUInt32LE(value, at * 4));
    return [record, frame];
  });
  writeFileSync(at('again.pcap'), Buffer.concat([header, ...records]));
  const result = await check('- {match: {protocol: tcp}, streams: 1, packets: 2}', at('again.pcap'));
  t.match(result, { reopened: 1, verdicts: [{ misses: [] }] });
  t.match(formatExpectations('text', 'e', 's', result), /1 times the capture opens a 5-tuple that it closed before/);
});

t.test('the published schema is the one in force, is valid itself, and the example names it', async (t) => {
  t.strictSame(JSON.parse(readFileSync(join(ROOT, 'docs/weir-expect.schema.json'), 'utf8')), JSON.parse(JSON.stringify(expectSchema)), 'run `npm run schema` if it is not');
  t.ok(new Ajv2020({ strict: false }).validateSchema(expectSchema));
  t.match(readFileSync(join(ROOT, 'examples/expect.yaml'), 'utf8'), /^# yaml-language-server: \$schema=\.\.\/docs\/weir-expect\.schema\.json\n/);
});

t.test('the command: exit codes, formats, files', async (t) => {
  const config = file('weir.yaml', YAML);
  const [good, bad] = [file('good.yaml', MET.join('\n')), file('bad.yaml', MIXED)];
  const command = [...WEIR, 'replay', '--config', config, '--expect'];
  t.match(await run([...command, good, '--read', DNS]), { code: 0, stdout: /policy +streams[\s\S]*13 expectations: 13 met, 0 missed\n$/ });
  t.match(await run([...command, bad, '--read', DNS]), { code: 1, stdout: /bad.yaml:1: .*: chain: expected inspect, found other[\s\S]*3 expectations: 1 met, 2 missed\n$/ });
  t.match(await run([...command, bad, '--read', DNS, '--expect-format', 'tap']), { code: 1, stdout: /^TAP version 14\n/ });
  const junit = await run([...command, good, '--read', DNS, '--expect-format', 'junit', '--expect-out', at('out.xml')]);
  t.match(junit, { code: 0, stdout: /policy +streams/ });
  t.notMatch(junit.stdout, /testsuite/);
  t.match(readFileSync(at('out.xml'), 'utf8'), /^<\?xml[\s\S]*failures="0"/);
  t.match(JSON.parse((await run([...command, file('alone.yaml', `- {match: {${ONE}}, action: chain}`), '--json'])).stdout), { expectations: { verdicts: [{ by: 'classifier', misses: [] }] } });
  t.match(JSON.parse((await run([...command, bad, '--read', DNS, '--report', 'json'])).stdout), { packets: 16, expectations: { verdicts: [{ misses: [{ key: 'chain' }] }, {}, {}] } });
  t.match(await run([...command, file('wrong.yaml', '- {match: {}, chain: nope}\n- {match: {}, strems: 1}'), '--read', DNS]), { code: 2, stderr: /wrong.yaml:1:22: \[0\].chain: there is no chain "nope"[\s\S]*wrong.yaml:2:\d+: \[1\].strems: unknown key; did you mean "streams"\?/ });
  t.match(await run([...command, at('none.yaml'), '--read', DNS]), { code: 2, stderr: /can't read the expectations: there is no such file/ });
  t.match(await run([...command, file('filter.yaml', '- {match: {}, action: drop}')]), { code: 2, stderr: /without --read, only a whole 5-tuple/ });
  t.match(await run([...command, good, '--read', DNS, '--expect-out', good]), { code: 2, stderr: /is the file that is read/ });
  t.match(await run([...command, good, '--read', DNS, '--expect-out', at('none/x')]), { code: 2, stderr: /--expect-out: can't write/ });
  t.match(await run([...command, good, '--read', DNS, '--json', '--expect-format', 'tap']), { code: 2, stderr: /JSON and tap can't both stand on standard output/ });
  t.match(await run([...WEIR, 'replay', '--config', config]), { code: 2, stderr: /--read CAPTURE is missing/ });
  const examples = (name: string): string => join(ROOT, 'examples', name);
  t.match(await run([...WEIR, 'replay', '--config', examples('weir.yaml'), '--expect', examples('expect.yaml')]), { code: 0, stdout: /^5 expectations: 5 met, 0 missed\n$/ });
});
