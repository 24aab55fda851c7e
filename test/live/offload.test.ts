/** Super-frames on real interfaces: they travel whole where they can, and are cut where the kernel or the device wants it. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Lab, ROOT, must, until } from '../support/lab.js';

const MTU = 1500;
/** What becomes of streams: through a chain of two services, or across unchanged. */
const WAYS = ['chain: inspect', 'action: pass'] as const;
const policy = (action: string): string => `policies: [{name: all, match: {}, ${action}}]`;
const lab = await Lab.up();
t.teardown(() => lab.down());
const content = randomBytes(20_000_000);
writeFileSync(join(lab.directory, 'download'), content);
await lab.start('net', ['python3', '-u', '-m', 'http.server', '8080', '--bind', '::', '--directory', lab.directory], /Serving HTTP/);
await lab.nodes('pass', ['fw1', 'fw2', 'ids1', 'ids2']);
const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

async function download(server: string): Promise<boolean> {
  const got = join(lab.directory, 'got');
  const { code } = await lab.exec('wl', 'curl', '-sS', '--max-time', '60', '-o', got, `http://${server}:8080/download`);
  return code === 0 && sha256(readFileSync(got)) === sha256(content);
}

/** The longest frame of a capture, in bytes. */
async function longest(file: string): Promise<number> {
  const lengths = await must(['tshark', '-n', '-r', file, '-T', 'fields', '-e', 'frame.len']);
  return Math.max(...lengths.trim().split('\n').map(Number));
}

for (const encapsulation of ['nsh', 'geneve'] as const) {
  await t.test(`${encapsulation}: super-frames arrive whole at an instance and at the workload`, async (t) => {
    const weir = await lab.weir({ encapsulation, chain: ['firewall'] });
    const captures = await Promise.all([lab.capture('fw1'), lab.capture('fw2'), lab.capture('wl', 'eth0', 'tcp port 8080')]);
    t.ok(await download('10.2.0.2'), 'IPv4');
    t.ok(await download('[fd02::2]'), 'IPv6');
    const [fw1, fw2, workload] = await Promise.all(captures.map(async ({ stop }) => longest(await stop())));
    t.ok(Math.max(fw1 ?? 0, fw2 ?? 0) > 10 * MTU, `stamped frames of up to ${fw1} and ${fw2} bytes`);
    t.ok((workload ?? 0) > 10 * MTU, `delivered frames of up to ${workload} bytes`);
    const { ports } = await lab.ask<{ ports: { cuts: boolean }[] }>('stats');
    t.ok(ports.every((port) => !port.cuts));
    await weir.stop();
  });
}

await t.test('devices without segmentation offload: the kernel cuts, and the log says so once', async (t) => {
  const devices = ['und0', 'in0', 'out0'];
  for (const device of devices) await lab.must('fwd', 'ethtool', '-K', device, 'tx', 'off', 'tso', 'off', 'gso', 'off');
  t.teardown(() => Promise.all(devices.map((device) => lab.must('fwd', 'ethtool', '-K', device, 'tx', 'on', 'tso', 'on', 'gso', 'on'))));
  for (const action of WAYS) {
    const weir = await lab.weir({ policies: policy(action) });
    t.ok(await download('10.2.0.2'), `IPv4, ${action}`);
    t.ok(await download('[fd02::2]'), `IPv6, ${action}`);
    const { ports } = await lab.ask<{ ports: { interface: string; cuts: boolean }[] }>('stats');
    t.ok(ports.some((port) => port.cuts));
    await until('the log to say so', () => ports.every(({ interface: name, cuts }) => !cuts || weir.output().includes(`interface ${name} takes no super-frames`)));
    const { stderr } = await weir.stop();
    for (const port of ports.filter(({ cuts }) => cuts)) t.equal(stderr.split(`interface ${port.interface} takes no super-frames`).length, 2, `${port.interface} is named once`);
  }
});

await t.test('a kernel that refuses super-frames: they are cut here, and nothing is lost', async (t) => {
  const shim = join(lab.directory, 'refuse-offload.so');
  await must(['cc', '-shared', '-fPIC', '-O1', '-o', shim, join(ROOT, 'test/support/refuse-offload.c')]);
  for (const encapsulation of ['nsh', 'geneve'] as const) {
    for (const action of WAYS) {
      const weir = await lab.weir({ encapsulation, policies: policy(action), prefix: ['env', `LD_PRELOAD=${shim}`] });
      t.ok(await download('10.2.0.2'), `${encapsulation}, IPv4, ${action}`);
      t.ok(await download('[fd02::2]'), `${encapsulation}, IPv6, ${action}`);
      const { ports } = await lab.ask<{ ports: { interface: string; cuts: boolean; txErrors: number }[] }>('stats');
      t.ok(ports.some((port) => port.cuts));
      t.ok(ports.every((port) => port.txErrors === 0));
      await weir.stop();
    }
  }
});

await t.test('several workers reorder no stream', async (t) => {
  const weir = await lab.weir({ extra: 'workers: 4' });
  const server = await lab.start('net', ['iperf3', '-s', '-1', '--forceflush'], /Server listening/);
  const { stdout } = await lab.exec('wl', 'iperf3', '-c', '10.2.0.2', '-u', '-b', '5M', '-l', '400', '-P', '8', '-t', '4', '-J');
  const { end } = JSON.parse(stdout) as { end: { streams: { udp: { out_of_order: number; packets: number } }[] } };
  t.equal(end.streams.length, 8);
  t.strictSame(end.streams.map(({ udp }) => udp.out_of_order), end.streams.map(() => 0), `of ${end.streams[0]?.udp.packets} packets each`);
  await server.ended;
  await weir.stop();
});

await t.test('a stream of lone frames and super-frames keeps its order, though they come by different rings', async (t) => {
  const program = join(ROOT, 'test/support/numbered_datagrams.py');
  for (const workers of [1, 3]) {
    for (const way of WAYS) {
      const weir = await lab.weir({ policies: policy(way), extra: `workers: ${workers}` });
      const receiver = await lab.start('net', ['python3', '-u', program, 'receive', '7000'], /ready/);
      await lab.must('wl', 'python3', program, 'send', '10.2.0.2', '7000', '3');
      const { stdout } = await receiver.ended;
      const { received, sent, late } = JSON.parse(stdout.split('ready')[1] ?? '') as { received: number; sent: number; late: number };
      t.equal(late, 0, `none late of ${received}, ${workers} workers, ${way}`);
      t.ok(received > 2000, `${received} of ${sent} arrived`); // the receiver may be too slow for the rest
      await weir.stop();
    }
  }
});
