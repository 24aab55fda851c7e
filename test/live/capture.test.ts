/** `weir capture` beside tcpdump at the instance, under load. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Lab, ROOT, must, until, type Running } from '../support/lab.js';

const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
const lab = await Lab.up();
t.teardown(() => lab.down());
await lab.nodes('pass', ['fw1', 'fw2']);
const content = randomBytes(20_000_000);
writeFileSync(join(lab.directory, 'download'), content);
await lab.start('net', ['python3', '-u', '-m', 'http.server', '8080', '--bind', '::', '--directory', lab.directory], /Serving HTTP/);
const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

interface Counts {
  readonly frames: number;
  readonly packets: number;
  readonly bytes: number;
  readonly filtered: number;
  readonly unread: number;
  readonly dropped: number;
}

interface Taken {
  readonly file: string;
  readonly stop: () => Promise<Counts>;
  readonly running: Running;
}

async function capture(name: string, ...options: string[]): Promise<Taken> {
  const file = join(lab.directory, `${name}.pcap`);
  const running = await lab.start('fwd', [...WEIR, 'capture', '--instance', 'firewall/fw-1', '--write', file, '--json', '--socket', lab.socket, ...options], /capturing firewall\/fw-1 \(10\.20\.0\.11\) on und0/);
  const stop = async (): Promise<Counts> => {
    const { code, stdout, stderr } = await running.stop('SIGINT');
    if (code !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as Counts;
  };
  return { file, stop, running };
}

/** All streams at the instance that is captured. */
const onlyFirst = (): Promise<unknown> => lab.ask('instance.set', { service: 'firewall', instance: 'fw-2', state: 'down' });

/** Packets of a file, by tshark, and what it complains of. What iperf3 sends means nothing, whatever protocol has its client's port. */
async function read(file: string, filter = ''): Promise<{ packets: number; malformed: number }> {
  const out = await must(['tshark', '-n', '-r', file, '-d', 'tcp.port==5201,data', '-Y', filter === '' ? 'frame' : filter, '-T', 'fields', '-e', 'frame.number', '-e', '_ws.malformed']);
  const lines = out.split('\n').filter((line) => line !== '');
  return { packets: lines.length, malformed: lines.filter((line) => (line.split('\t')[1] ?? '') !== '').length };
}

interface Stats {
  readonly instances: readonly { readonly name: string; readonly sent: { packets: number }; readonly received: { packets: number } }[];
  readonly ports: readonly { readonly interface: string; readonly txErrors: number; readonly cuts: boolean }[];
}

/** Datagrams that went to fw-1 and came back, when nothing is on its way any more. */
async function datagrams(): Promise<{ sent: number; received: number }> {
  const ask = async (): Promise<{ sent: number; received: number }> => {
    const row = (await lab.ask<Stats>('stats')).instances.find(({ name }) => name === 'firewall/fw-1');
    return { sent: row?.sent.packets ?? 0, received: row?.received.packets ?? 0 };
  };
  let last = await ask();
  await until('traffic to have ended', async () => {
    const now = await ask();
    const calm = now.sent === last.sent && now.received === last.received && now.sent === now.received;
    last = now;
    return calm;
  });
  return last;
}

for (const encapsulation of ['nsh', 'geneve'] as const) {
  await t.test(`${encapsulation}: under iperf3 tcpdump at the instance and weir capture agree`, async (t) => {
    const weir = await lab.weir({ encapsulation, chain: ['firewall'] });
    await onlyFirst();
    const before = await datagrams();
    const [whole, stamped, inner, to, from] = await Promise.all([
      capture(`${encapsulation}-whole`, '--whole', '--direction', 'to', '--snaplen', '256'),
      capture(`${encapsulation}-stamped`),
      capture(`${encapsulation}-inner`, '--inner', '--filter', 'tcp port 5201'),
      capture(`${encapsulation}-to`, '--direction', 'to', '--snaplen', '100', '--inner-filter', 'tcp dst port 5201'),
      capture(`${encapsulation}-from`, '--direction', 'from', '--snaplen', '100'),
    ]);
    const tcpdump = await lab.capture('fw1', 'eth0', 'udp port 4790 or udp port 6081', 256);
    const server = await lab.start('net', ['iperf3', '-s', '-1', '--forceflush'], /Server listening/);
    const client = await lab.exec('wl', 'iperf3', '-c', '10.2.0.2', '-P', '6', '-b', '8M', '-t', '3');
    t.equal(client.code, 0, client.stderr);
    await server.ended;
    await lab.ping('wl', '10.2.0.2');
    const after = await datagrams();
    const counts = { whole: await whole.stop(), stamped: await stamped.stop(), inner: await inner.stop(), to: await to.stop(), from: await from.stop() };
    const seenByTcpdump = (await read(await tcpdump.stop())).packets; // it throws where the kernel lost some of it

    for (const [name, { dropped }] of Object.entries(counts)) t.equal(dropped, 0, `${name} lost nothing`);
    t.ok(seenByTcpdump > 100, `tcpdump saw ${seenByTcpdump} frames`);
    // It sees what comes in; what the node there sends goes past the queueing discipline, and with it past tcpdump.
    t.equal(counts.whole.frames, seenByTcpdump, 'as many frames as tcpdump at the instance');
    t.equal(counts.whole.packets, seenByTcpdump);
    const sent = after.sent - before.sent;
    const received = after.received - before.received;
    t.equal(counts.stamped.packets, sent + received, 'and as many datagrams as weir itself counts');
    t.ok(counts.stamped.packets > counts.stamped.frames, 'of which the kernel carried many as one frame');
    t.equal(counts.from.packets, received);
    t.ok(counts.to.filtered > 0 && counts.to.packets > 0 && counts.to.packets + counts.to.filtered === sent, 'a filter on the packet inside');

    const read5201 = await read(stamped.file, 'tcp.port == 5201');
    t.strictSame(await read(stamped.file), { packets: counts.stamped.packets, malformed: 0 }, 'tshark reads the stamped frames');
    t.strictSame(await read(inner.file), { packets: counts.inner.packets, malformed: 0 }, 'and those inside');
    t.equal(counts.inner.packets, read5201.packets, 'which are those that tshark finds in the stamped ones');
    const sums = await must(['tshark', '-n', '-r', inner.file, '-o', 'tcp.check_checksum:TRUE', '-o', 'ip.check_checksum:TRUE', '-Y', 'tcp.checksum.status == "Bad" || ip.checksum.status == "Bad"', '-c', '3000']);
    t.equal(sums, '', 'with good checksums');
    t.equal(readFileSync(stamped.file).readUInt32LE(0), 0xa1b23c4d, 'stamps in nanoseconds');
    const times = (await must(['tshark', '-n', '-r', stamped.file, '-T', 'fields', '-e', 'frame.time_epoch', '-c', '200'])).trim().split('\n');
    t.ok(times.some((time) => !time.endsWith('000')), 'that are not microseconds times a thousand');
    t.ok(times.every((time) => Math.abs(Number(time) * 1000 - Date.now()) < 120_000), 'by the clock');

    const { ports } = await lab.ask<Stats>('stats');
    t.ok(ports.every(({ txErrors, cuts }) => txErrors === 0 && !cuts), 'and the dataplane noticed nothing of it');
    await weir.stop();
  });
}

await t.test('frames to instances can be seen on this host only while a capture runs', async (t) => {
  const weir = await lab.weir({ chain: ['firewall'] });
  const seen = async (): Promise<number> => {
    const tap = await lab.start('fwd', ['tcpdump', '-Z', 'root', '-n', '-i', 'und0', '-Q', 'out', '--immediate-mode', 'udp dst port 4790'], /listening on/);
    await lab.ping('wl', '-c', '4', '10.2.0.2');
    return Number(/^([0-9]+) packets? captured/m.exec((await tap.stop('SIGINT')).stderr)?.[1]);
  };
  t.equal(await seen(), 0, 'they pass the queueing discipline, and with it every tap');
  const taken = await capture('shown');
  const other = await capture('shown-too');
  t.ok((await seen()) > 0);
  await taken.stop();
  t.ok((await seen()) > 0, 'another capture still runs');
  await other.stop();
  await until('weir to have noticed', async () => (await seen()) === 0);
  t.match(weir.output(), /capture of firewall\/fw-1 begins \(.*capture of firewall\/fw-1 ends \(/s);
  await weir.stop();
});

await t.test('into a pipe that tshark reads while it goes on', async (t) => {
  const weir = await lab.weir({ chain: ['firewall'] });
  const pipe = `${WEIR.join(' ')} capture --instance firewall --write - --count 16 --inner --filter icmp --socket ${lab.socket} | tshark -n -l -i - -T fields -e ip.src -e icmp.type`;
  const running = await lab.start('fwd', ['bash', '-o', 'pipefail', '-c', pipe], /capturing firewall\/fw-1 .*firewall\/fw-2/);
  await until('sixteen packets at tshark', async () => {
    await lab.ping('wl', '-c', '2', '10.2.0.2');
    return running.output().split('\n').filter((line) => /^10\.[12]\.0\.2\t[08]$/.test(line)).length === 16;
  });
  const { code, stderr } = await running.ended;
  t.equal(code, 0, stderr);
  t.match(stderr, /16 packets written/);
  await weir.stop();
});

await t.test('a reader that does not read costs packets of the capture and nothing else', async (t) => {
  const weir = await lab.weir({ chain: ['firewall'] });
  const pipe = `${WEIR.join(' ')} capture --instance firewall --write - --buffer 2 --socket ${lab.socket} | { sleep infinity & echo $! > ${lab.directory}/sleeper; wait; }`;
  const stuck = await lab.start('fwd', ['bash', '-c', pipe], /capturing/);
  const got = join(lab.directory, 'got');
  for (const server of ['10.2.0.2', '[fd02::2]']) {
    const { code, stderr } = await lab.exec('wl', 'curl', '-sS', '--max-time', '60', '-o', got, `http://${server}:8080/download`);
    t.equal(code, 0, stderr);
    t.equal(sha256(readFileSync(got)), sha256(content));
  }
  const { ports } = await lab.ask<Stats>('stats');
  t.ok(ports.every(({ txErrors }) => txErrors === 0));
  // It ends although nobody takes what it still has.
  const pids = (await must(['ip', 'netns', 'pids', `${lab.prefix}-fwd`])).trim().split('\n');
  const capturing = pids.find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes('capture'));
  process.kill(Number(capturing), 'SIGTERM');
  process.kill(Number(readFileSync(join(lab.directory, 'sleeper'), 'utf8')), 'SIGTERM');
  await stuck.ended;
  await weir.stop();
});

await t.test('a kernel ring that is too small drops, and says how many', async (t) => {
  const weir = await lab.weir({ chain: ['firewall'] });
  await onlyFirst();
  const taken = await capture('small', '--buffer', '2');
  process.kill(taken.running.child.pid ?? 0, 'SIGSTOP');
  await lab.exec('wl', 'curl', '-sS', '--max-time', '60', '-o', join(lab.directory, 'got'), 'http://10.2.0.2:8080/download');
  await lab.exec('wl', 'curl', '-sS', '--max-time', '60', '-o', join(lab.directory, 'got'), 'http://[fd02::2]:8080/download');
  for (let i = 0; i < 8; i++) await lab.exec('wl', 'curl', '-sS', '--max-time', '60', '-o', join(lab.directory, 'got'), 'http://10.2.0.2:8080/download');
  process.kill(taken.running.child.pid ?? 0, 'SIGCONT');
  const { dropped, packets } = await taken.stop();
  t.ok(dropped > 0, `${dropped} dropped`);
  t.strictSame(await read(taken.file), { packets, malformed: 0 }, 'what is in the file is whole');
  await weir.stop();
});

await t.test('what can be wrong is said', async (t) => {
  const weir = await lab.weir({ chain: ['firewall'] });
  const words = (...options: string[]): Promise<{ code: number | null; stderr: string }> => lab.exec('fwd', ...WEIR, 'capture', '--socket', lab.socket, '--write', join(lab.directory, 'x.pcap'), ...options);
  const cases: readonly (readonly [options: string[], code: number, message: RegExp])[] = [
    [['--instance', 'nope/fw-1'], 1, /there is no service "nope"; there are: firewall, ids, added/],
    [['--instance', 'firewall/nope'], 1, /service "firewall" has no instance "nope"; it has: fw-1, fw-2/],
    [['--instance', 'firewall', '--filter', 'tcp prot 80'], 1, /--filter: libpcap does not understand "tcp prot 80": .*syntax error/],
    [['--instance', 'firewall', '--inner-filter', 'host'], 1, /--inner-filter: libpcap does not understand/],
    [['--instance', 'firewall', '--write', '/nowhere/x.pcap'], 1, /can't write \/nowhere\/x\.pcap: No such file/],
    [['--instance', 'firewall', '--snaplen', '3'], 2, /expected a whole number from 64 to 262144/],
    [['--instance', 'firewall', '--direction', 'up'], 2, /Allowed choices are both, to, from/],
    [[], 2, /required option '--instance/],
  ];
  for (const [options, code, message] of cases) {
    const answer = await words(...options);
    t.equal(answer.code, code, options.join(' '));
    t.match(answer.stderr, message);
  }
  const alone = await lab.exec('fwd', ...WEIR, 'capture', '--instance', 'firewall', '--write', join(lab.directory, 'x.pcap'), '--socket', '/nowhere');
  t.match(alone.stderr, /nothing listens on \/nowhere/);
  const orphan = await capture('orphan');
  await weir.stop();
  const { code, stderr } = await orphan.running.ended;
  t.equal(code, 1);
  t.match(stderr, /the capture ends with it/);
});
