/**
 * Hostile hosts. One on the underlay forges what instances send back, and replays it; one at the workload's side floods weir with
 * streams of made-up senders (WEIR_FLOOD of them, default 30,000).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Lab, ROOT, must, until } from '../support/lab.js';

const FLOOD = Number(process.env['WEIR_FLOOD'] ?? 30_000);
/** Fewer than the flood has, so that the table fills. */
const FLOWS = Math.max(2000, Math.min(1_000_000, FLOOD >> 2));
const HELD = 200;
const TIMES = 5;
const SPOOF = join(ROOT, 'test/support/spoof.py');
const CONNECTIONS = join(ROOT, 'test/support/held_connections.py');

const lab = await Lab.up();
t.teardown(() => lab.down());
await lab.nodes('pass', ['fw1', 'ids1']);
const CHAIN = { of: {}, policies: 'policies: [{name: all, match: {}, chain: inspect}]' };

interface Stats {
  readonly dropped: Readonly<Record<string, number>>;
  readonly streams: { readonly active: number; readonly opened: number; readonly evicted: number };
}
const stats = (): Promise<Stats> => lab.ask<Stats>('stats');

/** One instance of each service: whose packets are forged is known then. */
async function alone(): Promise<void> {
  for (const [service, instance] of [['firewall', 'fw-2'], ['ids', 'ids-2']]) await lab.ask('instance.set', { service, instance, state: 'down' });
}

/** Frames of a capture file, the newest last. */
function framesOf(file: string): Buffer[] {
  const bytes = readFileSync(file);
  const found: Buffer[] = [];
  for (let at = 24; at + 16 <= bytes.length; at += 16 + bytes.readUInt32LE(at + 8)) found.push(Buffer.from(bytes.subarray(at + 16, at + 16 + bytes.readUInt32LE(at + 8))));
  return found;
}

function fixHeader(frame: Buffer): Buffer {
  frame.writeUInt16BE(0, 24);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += frame.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  frame.writeUInt16BE(~sum & 0xffff, 24);
  return frame;
}

const changed = (frame: Buffer, change: (copy: Buffer) => void): Buffer => {
  const copy = Buffer.from(frame);
  change(copy);
  return fixHeader(copy);
};

// Offsets of a stamped frame over IPv4: outer source 26, UDP ports 34 and 36, VXLAN-GPE 42, NSH 50, SPI 54, SI 57, code 62, inner IP 80.
const SOURCE = 26;
const UDP = 34;
const STAMP = 42;
const address = (text: string): Buffer => Buffer.from(text.split('.').map(Number));

await t.test('what instances never sent is dropped under its name, and reaches nobody', async (t) => {
  for (const encapsulation of ['nsh', 'geneve'] as const) {
    const weir = await lab.weir({ ...CHAIN, encapsulation, extra: 'flows: {idle: {other: 10m}}' });
    t.teardown(() => weir.stop());
    await alone();
    const back = await lab.capture('fwd', 'und0', 'src host 10.20.0.11 and (udp port 4790 or udp port 6081)');
    const echo = await lab.start('net', ['python3', '-u', '-c', "import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('0.0.0.0',7777)); print('ready',flush=True)\nwhile True: d,a=s.recvfrom(2000); s.sendto(d,a)"], /ready/);
    const word = `import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('',40000)); s.settimeout(10); s.sendto(b'genuine-word',('10.2.0.2',7777)); print(s.recvfrom(2000)[0].decode())`;
    t.equal((await lab.must('wl', 'python3', '-c', word)).trim(), 'genuine-word');
    await back.stop();
    // The first that the firewall sent back (at fwd: its own taps do not see what goes past the queueing discipline).
    const genuine = framesOf(back.file).find((frame) => frame.includes('genuine-word'));
    if (genuine === undefined) throw new Error('nothing came back from the firewall');
    // From the attacker's own port of the switch, which would else send the firewall's frames there.
    Buffer.from((await lab.must('add2', 'cat', '/sys/class/net/eth0/address')).trim().replaceAll(':', ''), 'hex').copy(genuine, 6);

    const nsh = encapsulation === 'nsh';
    const inner = STAMP + (nsh ? 24 + 14 : 40);
    const forged = (change: (copy: Buffer) => void): Buffer => changed(genuine, (copy) => {
      Buffer.from('forged--word').copy(copy, copy.indexOf('genuine-word'));
      copy.writeUInt16BE(0, UDP + 6);
      change(copy);
    });
    const cases: readonly (readonly [claim: string, frame: Buffer, reason: string | null])[] = [
      ['from an address of no instance', forged((f) => address('10.20.0.99').copy(f, SOURCE)), 'return_wrong_instance'],
      ['from an instance of another service', forged((f) => address(nsh ? '10.20.0.21' : '10.20.0.31').copy(f, SOURCE)), 'return_wrong_instance'],
      ['with the code of no stream', forged((f) => f.writeUInt32BE(0xdeadbeef, STAMP + (nsh ? 20 : 36))), 'return_wrong_code'],
      ['of a stream that is not there', forged((f) => f.writeUInt16BE(40_001, inner + 20)), 'return_unknown_stream'],
      ['of another tenant', forged((f) => (nsh ? f.writeUInt32BE(9 << 8, STAMP + 4) : f.writeUInt32BE(9, STAMP + 16))), 'return_unknown_stream'],
      ['that lies about its length', forged((f) => f.writeUInt16BE(f.readUInt16BE(UDP + 4) + 4, UDP + 4)), 'return_malformed'],
      ['with a wrong outer checksum', forged((f) => f.writeUInt16BE(0x1234, UDP + 6)), 'return_checksum'],
      ['for the other encapsulation', forged((f) => f.writeUInt16BE(nsh ? 6081 : 4790, UDP + 2)), 'return_malformed'],
      ['for another port', forged((f) => f.writeUInt16BE(4791, UDP + 2)), null],
      ...(nsh
        ? ([
            ['of a path that is not there', forged((f) => f.writeUInt8(99, STAMP + 14 - 1)), 'return_unknown_path'],
            ['that skips a hop', forged((f) => f.writeUInt8(253, STAMP + 15)), 'return_wrong_instance'],
            ['past the last hop', forged((f) => f.writeUInt8(200, STAMP + 15)), 'return_bad_index'],
            ['that has gone round too often', forged((f) => f.writeUInt16BE((f.readUInt16BE(STAMP + 8) & 0xf03f) | (1 << 6), STAMP + 8)), 'ttl_expired'],
            ['a probe that nobody sent', forged((f) => f.writeUInt8(f.readUInt8(STAMP + 8) | 0x20, STAMP + 8)), 'oam'],
          ] as const)
        : ([['a probe that nobody sent', forged((f) => f.writeUInt8(0x80, STAMP + 1)), 'oam']] as const)),
    ];
    const seen = await lab.capture('net', 'eth0', 'udp port 7777');
    for (const [claim, frame, reason] of cases) {
      const before = await stats();
      const input = Array.from({ length: TIMES }, () => frame.toString('hex')).join('\n');
      await must(lab.inside('add2', ['python3', SPOOF, 'frames', 'eth0']), `${input}\n`);
      const delta = async (): Promise<Record<string, number>> => {
        const after = await stats();
        return Object.fromEntries(Object.entries(after.dropped).map(([name, n]) => [name, n - (before.dropped[name] ?? 0)] as const).filter(([, n]) => n !== 0));
      };
      if (reason !== null) await until(`${encapsulation}: ${claim}: ${reason}`, async () => ((await delta())[reason] ?? 0) >= TIMES, 30_000).catch(() => undefined);
      t.strictSame(await delta(), reason === null ? {} : { [reason]: TIMES }, `${encapsulation}: ${claim}`);
    }
    t.equal((await lab.must('wl', 'python3', '-c', word)).trim(), 'genuine-word', 'the stream goes on');
    // A replay, bit by bit as it was and from the right address: once its stream is over, nothing of it lives.
    await lab.ask('config.patch', { patch: { flows: { idle: { other: '1s' } } } });
    await until('the stream to be over', async () => (await stats()).streams.active === 0);
    const before = (await stats()).dropped['return_unknown_stream'] ?? 0;
    await must(lab.inside('add2', ['python3', SPOOF, 'frames', 'eth0']), `${genuine.toString('hex')}\n`);
    await until('the replay to be refused', async () => ((await stats()).dropped['return_unknown_stream'] ?? 0) === before + 1);
    const words = await must(['tshark', '-n', '-r', await seen.stop(), '-Y', 'udp contains "forged"']);
    t.equal(words.trim(), '', 'no forged word reached the destination');
    await echo.stop('SIGKILL');
    await weir.stop();
  }
});

await t.test(`a flood of ${FLOOD} streams from made-up senders puts out no connection that is established`, { timeout: 600_000 }, async (t) => {
  // An attacker's own segment, or any host that a bridge joins to the workload's.
  const weir = await lab.weir({ ...CHAIN, extra: `flows: {max: ${FLOWS}}` });
  t.teardown(() => weir.stop());
  await alone();
  await lab.start('net', ['python3', CONNECTIONS, 'serve', '7000'], /ready/);
  const holder = lab.inside('wl', ['python3', CONNECTIONS, 'hold', '10.2.0.2', '7000', String(HELD)]);
  const { spawn } = await import('node:child_process');
  const held = spawn(holder[0] ?? '', holder.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => held.kill('SIGKILL'));
  let said = '';
  held.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await until('the connections', () => said.includes(`open ${HELD}`));
  const established = async (): Promise<readonly { sourcePort: number; instances: readonly string[] }[]> => {
    const found: { source: string; sourcePort: number; tcp: string; instances: string[] }[] = [];
    let cursor: number | undefined = 0;
    while (cursor !== undefined) {
      const page: { flows: typeof found; next?: number } = await lab.ask('flows', { port: 7000, limit: 100_000, cursor });
      found.push(...page.flows);
      cursor = page.next;
    }
    return found.filter(({ tcp, source }) => tcp === 'established' && source === '10.1.0.2').map(({ sourcePort, instances }) => ({ sourcePort, instances })).sort((a, b) => a.sourcePort - b.sourcePort);
  };
  const before = await established();
  t.equal(before.length, HELD);

  const mac = (await lab.must('rtr', 'cat', '/sys/class/net/lan0/address')).trim();
  // What answers would take is not the point here: the router has no way back to them.
  await lab.must('rtr', 'ip', 'route', 'add', 'blackhole', '198.18.0.0/15');
  const flood = await lab.exec('wl', 'python3', SPOOF, 'syn', 'eth0', mac, '10.2.0.2', '7001', String(FLOOD));
  t.match(flood.stdout, new RegExp(`sent ${FLOOD}`));
  await until('the table to have been full', async () => (await stats()).streams.evicted > 0);
  const { streams } = await stats();
  t.comment(JSON.stringify(streams));
  t.ok(streams.active <= FLOWS);
  t.ok(streams.opened > FLOWS, 'more than it holds');

  held.stdin.write('still there?\n');
  await until('all of them to answer', () => said.includes('answered'), 120_000);
  t.match(said, `answered ${HELD}`);
  t.strictSame(await established(), before, 'each is the stream that it was, with the instances that it had');
  await weir.stop();
});
