/** A controller on a plain socket steers one live TCP stream, steers it otherwise, and lets it go; seen at the instances. */
import { randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { datagramsInFrame } from '../support/kernel-loss.js';
import { Lab, ROOT, SERVICES, until, type Running, type ServiceHost } from '../support/lab.js';
import { prove, type PathInfo } from '../support/proof.js';
import { arrivals, type Arrival } from '../support/stamped-capture.js';

const hosts = Object.keys(SERVICES) as ServiceHost[];
/** Full segments of a download, stamped, are no shorter. */
const DATAGRAM_BYTES = 1200;

const lab = await Lab.up();
t.teardown(() => lab.down());
const content = randomBytes(150_000_000);
writeFileSync(join(lab.directory, 'download'), content);
await lab.start('net', ['python3', '-u', '-m', 'http.server', '8080', '--bind', '::', '--directory', lab.directory], /Serving HTTP/);
await lab.nodes();

/** Captures and services only: no chain, no policy. */
function minimal(): string {
  const services = ['firewall', 'ids', 'added'].map((service) => {
    const instances = Object.values(SERVICES).filter((instance) => instance.service === service);
    return `  ${service}: {instances: [${instances.map((i) => `{name: ${i.name}, address: ${i.address}}`).join(', ')}]}`;
  });
  const file = join(lab.directory, 'minimal.yaml');
  writeFileSync(file, ['underlay: {interface: und0}', 'captures: [{name: web, in: in0, out: out0}]', 'services:', ...services, `control: {socket: ${lab.socket}}`, `state_dir: ${lab.directory}/minimal-state`].join('\n'));
  return file;
}

/** JSON lines on the control socket, written by hand. */
function controller(): { request: (method: string, params: object) => Promise<Record<string, unknown>>; close: () => void } {
  const socket = connect(lab.socket);
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  let id = 0;
  return {
    request: async (method, params) => {
      socket.write(`${JSON.stringify({ jsonrpc: '2.0', id: ++id, method, params })}\n`);
      const answer = JSON.parse(String((await lines.next()).value)) as { result?: Record<string, unknown>; error?: { message: string } };
      if (answer.result === undefined) throw new Error(`${method}: ${answer.error?.message}`);
      return answer.result;
    },
    close: () => void socket.destroy(),
  };
}

async function tap(work: () => Promise<void>): Promise<Arrival[]> {
  const captures = await Promise.all(hosts.map(async (host) => ({ host, ...(await lab.capture(host)) })));
  await work();
  const files = await Promise.all(captures.map(async ({ host, stop }) => ({ host, file: await stop() })));
  return files.flatMap(({ host, file }) => arrivals(file, host, SERVICES[host].address));
}

await t.test('steer.set, steer.set with another list, steer.delete, under one live download', async (t) => {
  const start = (): Promise<Running> => lab.start('fwd', [process.execPath, join(ROOT, 'dist/cli/main.js'), 'run', '--config', minimal()], /"msg":"ready"/);
  const weir = await start();
  const got = (port: number): string => join(lab.directory, `got-${port}`);
  const download = (port: number): Promise<Running> => lab.start('wl', ['curl', '-sS', '--limit-rate', '1M', '--local-port', String(port), '-o', got(port), 'http://10.2.0.2:8080/download']);
  const size = (port: number): number => statSync(got(port), { throwIfNoEntry: false })?.size ?? 0;
  /** Until the download has gone on by so much from now. */
  const goesOn = (port: number, bytes: number): Promise<void> => {
    const before = size(port);
    return until(`${bytes} more bytes on port ${port}`, () => size(port) >= before + bytes, 30_000);
  };
  const steered = await download(40_000);
  const beside = await download(40_001);
  await Promise.all([goesOn(40_000, 300_000), goesOn(40_001, 300_000)]);
  t.match(await lab.ask('flows', { port: 40_000 }), { flows: [{ action: 'pass', chain: null }] });

  const { request, close } = controller();
  const match = { protocol: 'tcp', source: '10.1.0.2', source_port: 40000, destination: '10.2.0.2', destination_port: 8080 };
  const paths: PathInfo[] = [];
  const note = async (): Promise<void> => {
    for (const chain of (await request('chains', {})) as unknown as { paths: PathInfo[] }[]) paths.push(...chain.paths);
  };
  const seen = await tap(async () => {
    await request('steer.set', { name: 'one', match, services: ['firewall', 'ids'], existing: 'move' });
    await note();
    await goesOn(40_000, 1_500_000);
    t.match(await request('steer.list', {}), { steerings: [{ name: 'one', streams: 1 }] });
    await request('steer.set', { name: 'one', match, services: ['firewall', 'added', 'ids'], existing: 'move' });
    await note();
    await goesOn(40_000, 1_500_000);
    const { generation } = await request('steer.set', { name: 'one', match, services: ['firewall', 'added', 'ids'], existing: 'move' });
    t.match(await request('status', {}), { generation }, 'the same again is no change');
    await request('steer.delete', { match, existing: 'move' });
    await goesOn(40_000, 500_000);
  });
  const after = await tap(() => goesOn(40_000, 1_000_000));
  // Far from their end, however slow the machine is.
  for (const running of [steered, beside]) await running.stop();
  for (const port of [40_000, 40_001]) {
    const arrived = readFileSync(got(port));
    t.ok(arrived.length < content.length && arrived.equals(content.subarray(0, arrived.length)), `${arrived.length} bytes of the download on port ${port} are as they were sent`);
  }

  const proof = prove(seen, paths, (host) => SERVICES[host as ServiceHost].service);
  t.strictSame(proof.violations.slice(0, 3), []);
  t.strictSame([...proof.orders.keys()].sort(), ['firewall > added > ids', 'firewall > ids', 'ids > added > firewall', 'ids > firewall']);
  t.strictSame([...new Set(seen.map((arrival) => arrival.stream))], ['6 10.1.0.2:40000 10.2.0.2:8080'], 'no packet of any other stream came to an instance');
  const { dropped, ports } = (await request('stats', {})) as { dropped: Record<string, number>; ports: { interface: string; rxDropped: number; txErrors: number }[] };
  const said = JSON.stringify({ at: [...proof.lostAt], ports: ports.map(({ interface: name, rxDropped, txErrors }) => ({ name, rxDropped, txErrors })) });
  // A frame that found weir's ring full, on a machine with more to do than cores, may have been a super-frame.
  const full = ports.reduce((sum, { rxDropped }) => sum + rxDropped, 0);
  t.ok(proof.lost <= full * datagramsInFrame(DATAGRAM_BYTES), `${proof.lost} of ${proof.packets} packets lost, ${full} frames by full rings: ${said}`);
  t.strictSame(after, [], 'no packet of it comes to an instance any more');
  t.strictSame(Object.entries(dropped).filter(([, count]) => count > 0), []);
  close();
  await weir.stop();
});

await t.test('steerings are kept over a restart; the words of the command line', async (t) => {
  const start = (): Promise<Running> => lab.start('fwd', [process.execPath, join(ROOT, 'dist/cli/main.js'), 'run', '--config', minimal(), '--force-config'], /"msg":"ready"/);
  const weir = await start();
  const flow = '{protocol: icmp, source: 10.1.0.2, destination: 10.2.0.2}';
  t.match(await lab.ctl('steer', 'list'), { code: 0, stdout: /nothing is steered/ });
  t.match(await lab.ctl('steer', 'set', flow, 'ids', 'firewall', '--name', 'ping', '--priority', '7', '--encapsulation', 'geneve'), { code: 0, stdout: /chain steer.ping added: \[ids, firewall\]\n.*policy added: steer.ping\nsteering ping/ });
  t.match(await lab.ctl('steer', 'set', flow, 'ids', 'nobody', '--name', 'ping'), { code: 1, stderr: /services\[1\]: .*"nobody"/ });
  const seen = await tap(async () => {
    t.match(await lab.ping('wl', '10.2.0.2'), / 0% packet loss/);
  });
  const paths = (await lab.ask<{ paths: PathInfo[] }[]>('chains')).flatMap((chain) => chain.paths);
  const proof = prove(seen, paths, (host) => SERVICES[host as ServiceHost].service);
  t.strictSame(proof.violations, []);
  t.strictSame([...proof.orders].sort(), [['firewall > ids', 3], ['ids > firewall', 3]]);
  t.match(await lab.ctl('steer', 'list'), { code: 0, stdout: /ping +protocol: icmp, source: 10.1.0.2, destination: 10.2.0.2 +ids > firewall +7 +encapsulation: geneve +1 +6/ });
  await weir.stop('SIGKILL');
  const again = await lab.start('fwd', [process.execPath, join(ROOT, 'dist/cli/main.js'), 'run', '--config', join(lab.directory, 'minimal.yaml')], /"msg":"ready"/);
  t.match(await lab.ask('steer.list'), { steerings: [{ name: 'ping', services: ['ids', 'firewall'], priority: 7, options: { encapsulation: 'geneve' } }] });
  t.match(await lab.ctl('steer', 'delete', 'pong'), { code: 1, stderr: /no steering "pong"; did you mean "ping"\?/ });
  t.match(await lab.ctl('steer', 'delete', '--match', '{destination: 10.2.0.2/32, source: [10.1.0.2], protocol: 1}'), { code: 0, stdout: /policy removed: steer.ping/ });
  t.match(await lab.ask('steer.list'), { steerings: [] });
  await again.stop();
});
