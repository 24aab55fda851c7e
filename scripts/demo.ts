/** The demo: real programs through a chain, watched from outside. Run by scripts/demo. */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { Lab, SERVICES, until, type ServiceHost } from '../test/support/lab.js';
import { prove, type PathInfo } from '../test/support/proof.js';
import { arrivals } from '../test/support/stamped-capture.js';

const { values } = parseArgs({
  options: { encapsulation: { type: 'string' }, port: { type: 'string' }, size: { type: 'string' }, help: { type: 'boolean' } },
});
if (values.help === true) {
  console.log('scripts/demo [--encapsulation nsh|geneve] [--port ring|pcap] [--size MB]\nWithout options: ring and nsh with 100 MB, then geneve and the pcap port with less.');
  process.exit(0);
}

type Variant = { encapsulation: 'nsh' | 'geneve'; port: 'ring' | 'pcap'; megabytes: number };
const chosen = values.encapsulation !== undefined || values.port !== undefined || values.size !== undefined;
const variants: Variant[] = chosen
  ? [{ encapsulation: (values.encapsulation ?? 'nsh') as 'nsh', port: (values.port ?? 'ring') as 'ring', megabytes: Number(values.size ?? 100) }]
  : [
      { encapsulation: 'nsh', port: 'ring', megabytes: 100 },
      { encapsulation: 'geneve', port: 'ring', megabytes: 20 },
      { encapsulation: 'nsh', port: 'pcap', megabytes: 20 },
    ];

const say = (text: string): void => console.log(text);
const hosts = Object.keys(SERVICES) as ServiceHost[];
let failures = 0;

function check(what: string, ok: boolean, detail = ''): void {
  if (!ok) failures++;
  say(`  ${ok ? 'ok  ' : 'FAIL'} ${what}${detail === '' ? '' : `: ${detail}`}`);
}

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function makeFile(file: string, megabytes: number): Promise<void> {
  const out = createWriteStream(file);
  for (let i = 0; i < megabytes; i++) if (!out.write(randomBytes(1_000_000))) await new Promise((resolve) => out.once('drain', resolve));
  await new Promise<void>((resolve) => out.end(resolve));
}

async function startServers(lab: Lab): Promise<void> {
  await lab.start('net', ['python3', '-u', '-m', 'http.server', '8080', '--bind', '::', '--directory', lab.directory], /Serving HTTP/);
  const conf = join(lab.directory, 'dnsmasq.conf');
  writeFileSync(conf, 'no-resolv\nno-hosts\nlocal=/#/\naddress=/weir.test/192.0.2.53\naddress=/weir.test/2001:db8::53\nuser=root\npid-file=\n');
  await lab.start('net', ['dnsmasq', '--keep-in-foreground', `--conf-file=${conf}`, '--log-facility=-'], /started/);
}

async function show(lab: Lab, variant: Variant): Promise<void> {
  const { encapsulation, port, megabytes } = variant;
  say(`\n${encapsulation} on the ${port} port`);
  const file = join(lab.directory, 'download');
  await makeFile(file, megabytes);
  const weir = await lab.weir({ encapsulation, port });
  const captures = await Promise.all(hosts.map(async (host) => ({ host, ...(await lab.capture(host)) })));

  for (const [family, server] of [['IPv4', '10.2.0.2'], ['IPv6', 'fd02::2']] as const) {
    const ping = await lab.exec('wl', 'ping', '-c', '3', '-i', '0.2', server);
    check(`ping over ${family}`, ping.code === 0, /rtt .*/.exec(ping.stdout)?.[0] ?? ping.stdout);
    const dig = await lab.exec('wl', 'dig', '+short', '+time=5', `@${server}`, 'weir.test', family === 'IPv4' ? 'A' : 'AAAA');
    check(`DNS over ${family}`, dig.stdout.trim() === (family === 'IPv4' ? '192.0.2.53' : '2001:db8::53'), dig.stdout.trim());
  }

  const got = join(lab.directory, 'downloaded');
  const started = Date.now();
  // It is held back, or it would be over before anything can be inserted.
  const curl = await lab.start('wl', ['curl', '-sS', '--limit-rate', `${Math.ceil(megabytes / 4)}M`, '-o', got, 'http://10.2.0.2:8080/download']);
  let done = false;
  void curl.ended.then(() => (done = true));
  // In the middle of it: a third service between the two, for the streams that are live too.
  const bytesThrough = async (): Promise<number> => (await lab.ask<{ chains: { bytes: number }[] }>('stats')).chains[0]?.bytes ?? 0;
  await until('the download to be under way', async () => done || (await bytesThrough()) > megabytes * 100_000, 60_000);
  const inserted = await lab.ctl('chain', 'insert', 'inspect', 'added', '--after', 'firewall', '--existing', 'move');
  check('third service inserted while the download runs', inserted.code === 0 && !done, inserted.stdout.trim() || inserted.stderr.trim());
  const { code, stderr } = await curl.ended;
  const seconds = (Date.now() - started) / 1000;
  check(`${megabytes} MB downloaded by curl`, code === 0, code === 0 ? `${seconds.toFixed(1)} s` : stderr);
  if (code === 0) check('its SHA-256 is right', (await sha256(got)) === (await sha256(file)), (await sha256(got)).slice(0, 16));
  const paths: PathInfo[] = (await lab.ask<{ paths: PathInfo[] }[]>('chains')).flatMap((chain) => chain.paths);
  const stats = await lab.ask<{ dropped: Record<string, number> }>('stats');
  const files = await Promise.all(captures.map(async ({ host, stop }) => ({ host, file: await stop() })));
  const again = await lab.exec('wl', 'curl', '-sS', '-o', '/dev/null', '-w', '%{speed_download}', 'http://10.2.0.2:8080/download');
  check('once more, nothing held back, through all three services', again.code === 0, `${((Number(again.stdout) * 8) / 1e9).toFixed(2)} Gbit/s`);
  await weir.stop();

  const seen = files.flatMap(({ host, file: capture }) => arrivals(capture, host, SERVICES[host].address));
  const proof = prove(seen, paths, (host) => SERVICES[host as ServiceHost].service);
  check('every packet met the services of its path in order, every stream the same instances', proof.violations.length === 0, `${proof.packets} packets, ${proof.streams} streams, from tcpdump at ${hosts.length} instances`);
  proof.violations.slice(0, 5).forEach((violation) => say(`       ${violation}`));
  for (const [order, packets] of proof.orders) say(`       ${String(packets).padStart(8)} packets  ${order}`);
  check('the inserted service was met between the two', [...proof.orders.keys()].some((order) => order === 'firewall > added > ids'));
  const drops = Object.entries(stats.dropped).filter(([, n]) => n > 0);
  say(`       dropped by weir: ${drops.length === 0 ? 'nothing' : drops.map(([reason, n]) => `${reason} ${n}`).join(', ')}; seen at one hop and not at the next: ${proof.lost === 0 ? 'none' : [...proof.lostAt].map(([place, n]) => `${n} (${place})`).join(', ')}`);
}

const lab = await Lab.up();
const interrupted = (): void => void lab.down().then(() => process.exit(130));
process.on('SIGINT', interrupted);
process.on('SIGTERM', interrupted);
try {
  say('workload 10.1.0.2 fd01::2 -- weir -- router -- 10.2.0.2 fd02::2; chain inspect: firewall (fw-1, fw-2) > ids (ids-1, ids-2)');
  const features = await lab.must('wl', 'ethtool', '-k', 'eth0');
  const on = ['tcp-segmentation-offload', 'generic-segmentation-offload', 'tx-checksumming'].filter((name) => features.includes(`${name}: on`));
  check('offloads are on', on.length === 3, on.join(', '));
  await startServers(lab);
  await lab.nodes();
  for (const variant of variants) await show(lab, variant);
} catch (error) {
  failures++;
  console.error(error);
} finally {
  await lab.down();
}
say(failures === 0 ? '\nAll of it held. Nothing is left behind.' : `\n${failures} checks failed.`);
process.exitCode = failures === 0 ? 0 : 1;
