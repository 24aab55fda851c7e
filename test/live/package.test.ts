/** What `npm pack` makes is a package that installs as README says and works where there is nothing else of this repository. */
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ROOT, must, run } from '../support/lab.js';

const directory = mkdtempSync(join(tmpdir(), 'weir-package-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const inside = (...command: string[]): string[] => ['env', '-C', directory, ...command];

t.comment('timeout=900000'); // for the runner: the addon is compiled anew, by one compiler
await t.test('npm pack, npm install -g, weir', { timeout: 900_000 }, async (t) => {
  // Built already: the build of the checkout that others use at the same time is left alone.
  await must(['npm', 'pack', '--silent', '--ignore-scripts', '--pack-destination', directory, ROOT]);
  const [tarball = ''] = readdirSync(directory);
  const listed = (await must(['tar', '-tzf', join(directory, tarball)])).trim().split('\n');
  for (const file of ['dist/cli/main.js', 'dist/weir.1', 'binding.gyp', 'native/addon.cc', 'examples/weir.yaml', 'examples/systemd/weir.service', 'examples/grafana-dashboard.json', 'CHANGELOG.md', 'LICENSE', 'README.md']) t.ok(listed.includes(`package/${file}`), file);
  t.strictSame(listed.filter((file) => /\.(o|a|so|node)$|native\/(bench|fuzz|test)\/|node_modules|\.tap/.test(file)), [], 'nothing that does not belong there');

  // Optimising is half of the compiler's work, and nothing here has to be fast.
  await must(inside('env', 'CXXFLAGS=-O0', `JOBS=${availableParallelism()}`, 'npm', 'install', '--global', '--prefix', join(directory, 'host'), '--no-audit', '--no-fund', `./${tarball}`));
  const weir = join(directory, 'host/bin/weir');
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  t.equal((await must(inside(weir, '--version'))).trim(), version);
  const package_ = join(directory, 'host/lib/node_modules/weir');
  t.match(await must(inside(weir, 'check', join(package_, 'examples/weir.yaml'))), /is valid/);
  const report = JSON.parse(await must(inside(weir, 'replay', '--json', '--config', join(package_, 'examples/weir.yaml'), '--read', join(ROOT, 'pcaps', readdirSync(join(ROOT, 'pcaps')).find((file) => file.endsWith('.pcap')) ?? ''), '--write', join(directory, 'stamped.pcap')))) as Record<string, unknown>;
  t.ok(Object.keys(report).length > 3);
  t.match(await must(['man', '-l', join(directory, 'host/share/man/man1/weir.1')]), /weir capture/);
  const { stdout } = await run(inside(weir, 'doctor', '--socket', join(directory, 'none')));
  t.match(stdout, /^[0-9]+ failures, /m);
});
