/** What is typed wrong is refused with what to do, before anything is done; what is typed as it comes and helps nobody is warned of. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { showAppliance } from '../../src/cli/appliance.js';
import { unsettled } from '../../src/cli/node.js';
import { CHAIN_OPTIONS } from '../../src/config/steering.js';
import { ROOT, run } from '../support/lab.js';

const directory = mkdtempSync(join(tmpdir(), 'weir-usage-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
const weir = (...words: string[]): ReturnType<typeof run> => run([...WEIR, ...words]);

t.test('weir node: what a function is not given, and what it can not be given', async (t) => {
  t.match(unsettled('firewall', undefined, false), /drops every packet.*--settings FILE, such as \{rules:/);
  t.match(unsettled('firewall', undefined, true), /`settings:` of the appliance's document/);
  for (const [name, settings] of [['firewall', 'rules.yaml'], ['meter', undefined], ['pass', undefined]] as const) t.equal(unsettled(name, settings, false), null);
  const settings = join(directory, 'settings.yaml');
  writeFileSync(settings, 'rules: []');
  for (const name of ['deliver', 'pass']) {
    t.match(await weir('node', '--service', 's', '--name', 'n', '--listen', '127.0.0.1', '--function', name, '--settings', settings), { code: 2, stderr: new RegExp(`--settings: the function ${name} takes no settings`) });
  }
});

t.test('an option that is not known is told before one that is missing', async (t) => {
  t.match(await weir('run', '--cofig', 'x'), { code: 2, stderr: /unknown option '--cofig'\n\(Did you mean --config\?\)/ });
  t.match(await weir('capture', '--instnce', 'a/b', '-w', '-'), { code: 2, stderr: /unknown option '--instnce'/ });
  t.match(await weir('run'), { code: 2, stderr: /^error: required option '-c, --config <file>' not specified\n\(--help lists the options\)\n$/ });
});

const CONFIG = join(ROOT, 'examples/weir.yaml');

t.test('weir replay: what only an expectation has, and files that can not be read or written', async (t) => {
  const dns = join(ROOT, 'pcaps/dns.pcap');
  const replay = (...words: string[]): ReturnType<typeof run> => weir('replay', '--config', CONFIG, '--read', dns, ...words);
  t.match(await replay('--expect-format', 'tap'), { code: 2, stdout: '', stderr: /--expect-format needs --expect FILE/ });
  t.match(await replay('--expect-format', 'text'), { code: 2, stderr: /--expect-format needs --expect FILE/ });
  t.match(await replay('--expect-out', join(directory, 'out')), { code: 2, stderr: /--expect-out needs --expect FILE/ });
  t.match(await weir('replay', '--config', CONFIG, '--read', CONFIG), { code: 2, stderr: /weir.yaml/ }, 'no capture');
  t.match(await replay('--write', join(directory, 'none/stamped.pcap')), { code: 2, stderr: /stamped.pcap/ });
});

t.test('weir trace: ports and VLAN ids', async (t) => {
  const trace = (...words: string[]): ReturnType<typeof run> => weir('trace', '--config', CONFIG, ...words);
  t.match(await trace('tcp', '10.1.0.2', '10.2.0.2:80'), { code: 2, stderr: /^a port is missing: 10\.1\.0\.2:PORT, or \[IPv6\]:PORT\.$/m });
  t.match(await trace('17', '10.1.0.2:1', '10.2.0.2'), { code: 2, stderr: /a port is missing: 10\.2\.0\.2:PORT/ });
  t.match(await trace('tcp', 'fd01::2:80', '[fd02::2]:80'), { code: 2, stderr: /a port is missing: \[fd01::2:80\]:PORT/ });
  t.match(await trace('icmp', '10.1.0.2', '10.2.0.2'), { code: 0 });
  const tuple = ['tcp', '10.1.0.2:1', '10.2.0.2:80'];
  for (const words of [['--vlan', '4095'], ['--vlan', '1', '--vlan', '2', '--vlan', '3']]) {
    const { code, stderr } = await trace(...tuple, ...words);
    t.equal(code, 2);
    t.match(stderr, /--vlan.*(expected a VLAN id from 0 to 4094|at most twice)/);
    t.notMatch(stderr, /^ +at /m);
  }
  t.match(await trace(...tuple, '--vlan', '0', '--vlan', '4094'), { code: 0 });
});

t.test('a manager is named where one is asked for, and told which address it lacks', async (t) => {
  const nobody = await weir('appliance', 'status', '--socket', join(directory, 'none.sock'));
  t.match(nobody, { code: 1, stderr: /none\.sock: is a manager running\? Start it with `weir manager/ });
  const empty = { name: 'a', service: 's', function: 'pass', term: 1, revision: 1, phase: 'as it should be', count: { wanted: 1, serving: 0, min: 1, max: 1 }, managers: [], dispatchers: [], units: [], maps: [], refused: {} };
  t.match(showAppliance(empty as unknown as Parameters<typeof showAppliance>[0]), /managers: none\n\ndispatchers: none\n\nunits: none\n\nmaps: none$/);
  const key = join(directory, 'key');
  writeFileSync(key, 'x'.repeat(32), { mode: 0o600 });
  const words = ['--name', 'm-1', '--key', key, '--state-dir', join(directory, 'm'), '--socket', join(directory, 'm.sock')];
  t.match(await weir('manager', '--listen', '192.0.2.77', ...words), { code: 1, stderr: /no interface of this host has the address 192\.0\.2\.77: add it with `ip address add`/ });
});

t.test('each option that a steering has is one of the command, too', async (t) => {
  const { stdout } = await weir('steer', 'set', '--help');
  for (const option of CHAIN_OPTIONS) t.match(stdout, option === 'virtual_addresses' ? '--virtual-address' : `--${option}`);
});
