/** Load reports of real nodes over a real underlay, bad ones among them; and new streams placed by load, while live ones stay: by captures at both instances. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Lab, ROOT, SERVICES, until } from '../support/lab.js';
import { arrivals } from '../support/stamped-capture.js';

const lab = await Lab.up();
t.teardown(() => lab.down());
const NUMBERED = join(ROOT, 'test/support/numbered.py');
const key = join(lab.directory, 'load.key');
writeFileSync(key, randomBytes(32), { mode: 0o600 });

interface Instance {
  readonly name: string;
  readonly factor: number;
  readonly streams: number;
  readonly load: { readonly load: { readonly cpu: number | null; readonly packetsPerSecond: number; readonly source: string } | null; readonly accepted: number; readonly refused: Record<string, number>; readonly lastRefused: string | null };
}
const instance = async (name: string): Promise<Instance> => {
  const services = await lab.ask<{ name: string; instances: Instance[] }[]>('services');
  const found = services.flatMap((service) => service.instances).find((one) => one.name === name);
  if (found === undefined) throw new Error(`no instance ${name}`);
  return found;
};

await t.test('nodes report, and what is forged, replayed, stale, absurd or of another is refused, counted and told once', async (t) => {
  const weir = await lab.weir({ chain: ['firewall'], extra: `load: {key: {file: ${key}}}` });
  const node = await lab.node('fw1', 'pass', ['--report', '10.20.0.1', '--report-key', key, '--report-interval', '200ms']);
  const receiver = await lab.start('net', ['python3', NUMBERED, 'receive', '10.2.0.2', '9999'], /ready/);
  const sender = await lab.start('wl', ['python3', NUMBERED, 'many', '10.2.0.2', '9999', '41000', '50', '20'], /ready/);
  await until('reports of fw-1 with packets in them', async () => ((await instance('fw-1')).load.load?.packetsPerSecond ?? 0) > 50, 60_000);
  t.match(await instance('fw-1'), { load: { load: { cpu: Number, source: 'report' } } });

  const send = (host: 'fw1' | 'fw2' | 'add1', name: string, kind: string) => lab.must(host, process.execPath, join(ROOT, 'test/support/send-report.mjs'), '10.20.0.1', '4793', 'firewall', name, key, kind);
  const kinds = ['forged', 'replayed', 'stale', 'absurd', 'malformed'];
  for (const kind of kinds) for (let again = 0; again < 2; again++) await send('fw2', 'fw-2', kind);
  await send('fw2', 'fw-1', 'good');
  await send('add1', 'fw-1', 'good');
  await until('all of them to be counted', async () => Object.keys((await instance('fw-2')).load.refused).length >= 6);
  t.match(await instance('fw-2'), { load: { refused: { forged: 2, stale: 2, absurd: 2, malformed: 2, wrong_instance: 1 }, lastRefused: /wrong_instance: it says that it is firewall\/fw-1/ } });
  await until('the two at one place to be noticed', async () => ((await instance('add-1')).load.refused['wrong_instance'] ?? 0) > 0);
  t.strictSame((await instance('fw-1')).load.refused, {}, 'nobody spoils what fw-1 says');
  for (const kind of kinds) t.equal(weir.output().split('\n').filter((line) => line.includes(`firewall/fw-2`) && line.includes(`(${kind})`)).length, 1, `${kind} is told once`);
  t.match((await lab.ctl('services')).stdout, /fw-2.*load reports refused: .*forged 2/);

  node.child.kill('SIGKILL');
  await until('its load to be unknown', async () => (await instance('fw-1')).load.load === null);
  t.match((await lab.ctl('services')).stdout, /fw-1.*load reports stopped/);
  await Promise.all([sender.stop(), receiver.stop()]);
  await weir.stop();
});

await t.test('new streams prefer the lighter instance, and no live stream moves', async (t) => {
  const nodes = await lab.nodes('pass', ['fw1', 'fw2']);
  const weir = await lab.weir({ chain: ['firewall'], of: { firewall: 'placement: by_load' } });
  const receiver = await lab.start('net', ['python3', NUMBERED, 'receive', '10.2.0.2', '9999'], /ready/);
  const captures = await Promise.all((['fw1', 'fw2'] as const).map(async (host) => ({ host, ...(await lab.capture(host)) })));
  const senders = [await lab.start('wl', ['python3', NUMBERED, 'many', '10.2.0.2', '9999', '42000', '200', '10'], /ready/)];
  await until('the first streams', async () => (await instance('fw-1')).streams + (await instance('fw-2')).streams >= 200);
  const set = async (name: string, cpu: number): Promise<void> => {
    const answer = await lab.ctl('ctl', 'load.set', JSON.stringify({ service: 'firewall', instance: name, cpu, valid: '10m' }));
    t.equal(answer.code, 0, answer.stderr);
  };
  await set('fw-1', 90);
  await set('fw-2', 10);
  await until('shares to follow', async () => (await instance('fw-1')).factor < 0.3, 60_000);
  senders.push(await lab.start('wl', ['python3', NUMBERED, 'many', '10.2.0.2', '9999', '43000', '300', '10'], /ready/));
  await until('the second streams', async () => (await instance('fw-1')).streams + (await instance('fw-2')).streams >= 500);
  await set('fw-1', 10);
  await set('fw-2', 90);
  await until('shares to turn', async () => (await instance('fw-2')).factor < 0.3, 60_000);
  const before = (await lab.ask<{ delivered: { packets: number } }>('stats')).delivered.packets;
  await until('each stream to be seen again', async () => (await lab.ask<{ delivered: { packets: number } }>('stats')).delivered.packets > before + 1500);
  await Promise.all(senders.map((sender) => sender.stop()));
  const files = await Promise.all(captures.map(async ({ host, stop }) => ({ host, file: await stop() })));

  const seenAt = new Map<string, Set<string>>();
  for (const { host, file } of files) {
    for (const { stream } of arrivals(file, host, SERVICES[host].address)) {
      if (!/:4[23]\d\d\d\b/.test(stream)) continue;
      const hosts = seenAt.get(stream) ?? new Set();
      seenAt.set(stream, hosts.add(host));
    }
  }
  t.equal(seenAt.size, 500, 'all streams are in the captures');
  t.strictSame([...seenAt].filter(([, hosts]) => hosts.size !== 1).slice(0, 3), [], 'each at one instance only');
  const share = (first: number): number => {
    const own = [...seenAt].filter(([stream]) => new RegExp(`:${first}\\d\\d\\d\\b`).test(stream));
    return own.filter(([, hosts]) => hosts.has('fw1')).length / own.length;
  };
  t.ok(share(42) > 0.3 && share(42) < 0.7, `${(share(42) * 100).toFixed(0)} % of the first streams at fw-1`);
  t.ok(share(43) < 0.25, `${(share(43) * 100).toFixed(0)} % of the second`);
  await receiver.stop();
  await weir.stop();
  await Promise.all(nodes.map((node) => node.stop()));
});
