/** What a node says of itself: options that can't be, and reports that arrive. */
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import t from 'tap';
import { registerNode } from '../../src/cli/node.js';
import { decodeReport } from '../../src/load/report.js';
import { startReporting } from '../../src/service/reporting.js';

const directory = mkdtempSync(join(tmpdir(), 'weir-reporting-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const key = randomBytes(32);
const file = join(directory, 'key');
writeFileSync(file, key);
const SOURCE = { received: () => ({ packets: 5, bytes: 500 }) };
const NODE = { service: 'firewall', name: 'fw-1', address: '127.0.0.1', reportInterval: '100ms' };

t.test('the command line takes one forwarder or several', async (t) => {
  const program = new Command();
  registerNode(program);
  const node = program.commands[0];
  let options: Record<string, unknown> = {};
  node?.action((given: Record<string, unknown>) => void (options = given));
  program.parse(['node', 'weir', 'node', '--service', 's', '--name', 'n', '--listen', '10.0.0.1', '--report', '10.0.0.2', '10.0.0.3:5000', '--report-key', file, '--health', '8080']);
  t.match(options, { report: ['10.0.0.2', '10.0.0.3:5000'], reportKey: file, health: 8080, reportInterval: '1s' });
});

t.test('what can not be is refused with what to give instead', async (t) => {
  const refused = (change: object, why: RegExp) => t.rejects(startReporting({ ...NODE, ...change }, SOURCE), { message: why });
  await refused({ report: ['127.0.0.1'] }, /--report and --report-key belong together/);
  await refused({ reportKey: file }, /belong together/);
  for (const target of ['here', '127.0.0.1:0', '127.0.0.1:70000', '127.0.0.1:x', '[::1']) await refused({ report: [target], reportKey: file }, /expected ADDRESS, ADDRESS:PORT or \[ADDRESS\]:PORT/);
  await refused({ report: ['::1'], reportKey: file }, /of the other family/);
  for (const reportInterval of ['1ms', '1h', 'often']) await refused({ reportInterval }, /--report-interval: expected a duration from 100ms to 1m/);
  await refused({ report: ['127.0.0.1'], reportKey: join(directory, 'none') }, /--report-key: can't read/);
});

t.test('reports arrive, authentic and in order, also when a forwarder is not there', async (t) => {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const { port } = socket.address() as AddressInfo;
  const sequences: number[] = [];
  const enough = new Promise<void>((resolve) => {
    socket.on('message', (datagram) => {
      const report = decodeReport(datagram, key);
      if ('refused' in report) t.fail(report.why);
      else sequences.push(report.sequence);
      if (sequences.length === 3) resolve();
    });
  });
  const reporting = await startReporting({ ...NODE, report: [`127.0.0.1:${port}`, '127.0.0.1:9'], reportKey: file }, SOURCE);
  await enough;
  await reporting.close();
  socket.close();
  t.strictSame(sequences.slice(0, 3), [0, 1, 2]);
});
