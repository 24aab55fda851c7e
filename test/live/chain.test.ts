/** Real traffic through a chain, proved from captures at the instances: both ports, both encapsulations. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Lab, SERVICES, must, until, type ServiceHost } from '../support/lab.js';
import { prove, type PathInfo } from '../support/proof.js';
import { arrivals, onTheWire } from '../support/stamped-capture.js';

const hosts = Object.keys(SERVICES) as ServiceHost[];
const lab = await Lab.up();
t.teardown(() => lab.down());
const content = randomBytes(14_000_000);
writeFileSync(join(lab.directory, 'download'), content);
await lab.start('net', ['python3', '-u', '-m', 'http.server', '8080', '--bind', '::', '--directory', lab.directory], /Serving HTTP/);
await lab.nodes();
const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

/** Fields of every frame as tshark reads them, and whatever it complains of. */
async function tshark(file: string, fields: readonly string[]): Promise<string[][]> {
  const out = await must(['tshark', '-n', '-r', file, '-T', 'fields', '-E', 'separator=|', '-E', 'occurrence=a', ...fields.flatMap((field) => ['-e', field])]);
  return out.trimEnd().split('\n').map((line) => line.split('|'));
}

for (const encapsulation of ['nsh', 'geneve'] as const) {
  for (const port of ['ring', 'pcap'] as const) {
    await t.test(`${encapsulation} on the ${port} port: a download with an insertion in its middle`, async (t) => {
      // Streams that have ended are asked for later, and the machine may be slow.
      const weir = await lab.weir({ encapsulation, port, extra: 'flows: {max: 100000, idle: {closed: 60s}}' });
      const captures = await Promise.all(hosts.map(async (host) => ({ host, ...(await lab.capture(host)) })));
      for (const server of ['10.2.0.2', 'fd02::2']) {
        t.match(await lab.ping('wl', server), / 0% packet loss/, `ping ${server}`);
      }
      t.match(await lab.ping('wl', '-s', '4000', '10.2.0.2'), / 0% packet loss/, 'ping in fragments');

      const got = join(lab.directory, 'got');
      const curl = await lab.start('wl', ['curl', '-sS', '--max-time', '100', '--limit-rate', '1300k', '-o', got, 'http://10.2.0.2:8080/download']);
      await until('the download to be under way', async () => {
        const { chains } = await lab.ask<{ chains: { bytes: number }[] }>('stats');
        return (chains[0]?.bytes ?? 0) > 1_000_000;
      });
      const inserted = await lab.ctl('chain', 'insert', 'inspect', 'added', '--after', 'firewall', '--existing', 'move');
      t.equal(inserted.code, 0, inserted.stderr);
      t.equal(curl.child.exitCode, null, 'the download is still running');
      const { code, stderr } = await curl.ended;
      t.equal(code, 0, stderr);
      t.equal(sha256(readFileSync(got)), sha256(content), 'the download arrived whole');

      const paths = (await lab.ask<{ paths: PathInfo[] }[]>('chains')).flatMap((chain) => chain.paths);
      const { flows } = await lab.ask<{ flows: { code: number }[] }>('flows', { limit: 1000 });
      t.strictSame((await weir.stop()).code, 0, 'weir ends cleanly');
      const files = await Promise.all(captures.map(async ({ host, stop }) => ({ host, file: await stop() })));
      const seen = files.flatMap(({ host, file }) => arrivals(file, host, SERVICES[host].address));
      const proof = prove(seen, paths, (host) => SERVICES[host as ServiceHost].service, { crossing: encapsulation === 'geneve' });
      t.strictSame(proof.violations.slice(0, 3), []);
      t.ok(proof.packets > 5000, `${proof.packets} packets`);
      for (const order of ['firewall > ids', 'ids > firewall', 'firewall > added > ids', 'ids > added > firewall']) t.ok((proof.orders.get(order) ?? 0) > 0, order);

      // tshark's reading of the same captures.
      const known = new Set(flows.map((flow) => flow.code.toString(16).padStart(8, '0')));
      // Endpoint: tenant 0. Attachment: SPI << 16 | SI << 8 | direction. Cookie: the code.
      const meant = (data: string): boolean => {
        const [endpoint = '', attachment = '', cookie = ''] = data.split(',');
        const spi = parseInt(attachment.slice(0, 12), 16);
        const answer = parseInt(attachment.slice(14, 16), 16);
        return endpoint === '0000000000000000' && spis.has(String(spi)) && spi % 2 === answer && ['ff', 'fe', 'fd'].includes(attachment.slice(12, 14)) && known.has(cookie);
      };
      const spis = new Set(paths.flatMap((path) => [String(path.id * 2), String(path.id * 2 + 1)]));
      for (const { host, file } of files.filter(({ host }) => host.startsWith('fw'))) {
        const whole = join(lab.directory, 'sample.pcap');
        onTheWire(file, whole, 2000);
        const complaints = (await tshark(whole, ['_ws.expert.message', '_ws.malformed'])).filter(([expert, malformed]) => (malformed ?? '') !== '' || /stamp|NSH|Geneve|VXLAN|option/i.test(expert ?? ''));
        t.strictSame(complaints.slice(0, 3), [], `tshark at ${host}`);
        const rows = encapsulation === 'nsh' ? await tshark(whole, ['nsh.spi', 'nsh.si', 'nsh.metadatatype', 'nsh.metadata']) : await tshark(whole, ['geneve.option.class', 'geneve.option.type', 'geneve.option.unknown.data']);
        for (const row of rows.filter(([first]) => (first ?? '') !== '')) {
          const wrong =
            encapsulation === 'nsh'
              ? !spis.has(String(Number(row[0]))) || ![254, 255, 253].includes(Number(row[1])) || Number(row[2]) !== 8 || !known.has((row[3] ?? '').replace(/^0x/, '').replaceAll(':', ''))
              : row[0] !== '0x0108,0x0108,0x0108' || (row[1] ?? '').split(',').map((type) => Number(type)).join() !== '1,2,3' || !meant(row[2] ?? '');
          if (wrong) {
            t.fail(`tshark read something else than weir meant: ${row.join(' ')}`);
            break;
          }
        }
        t.pass(`${rows.length} frames at ${host} read by tshark`);
      }
    });
  }
}
