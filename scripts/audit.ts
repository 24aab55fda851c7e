/** See scripts/audit. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const LICENCES = new Set(['MIT', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD', 'Apache-2.0', 'BlueOak-1.0.0', 'CC0-1.0', 'Unlicense', 'Python-2.0', 'PSF-2.0', 'Zlib']);
const ASK_MS = 60_000;

interface Locked {
  readonly version?: string;
  readonly integrity?: string;
  readonly dev?: boolean;
  /** For other platforms, too. */
  readonly optional?: boolean;
  readonly hasInstallScript?: boolean;
  readonly link?: boolean;
}
interface Manifest {
  readonly name?: string;
  readonly license?: string | { readonly type?: string };
  readonly licenses?: readonly { readonly type?: string }[];
  readonly allowScripts?: Readonly<Record<string, boolean>>;
}

const read = <T>(file: string): T => JSON.parse(readFileSync(join(ROOT, file), 'utf8')) as T;
const { packages } = read<{ packages: Readonly<Record<string, Locked>> }>('package-lock.json');
const { allowScripts = {} } = read<Manifest>('package.json');
const installed = Object.entries(packages).filter(([path, { dev, link, optional }]) => path !== '' && dev !== true && link !== true && (optional !== true || existsSync(join(ROOT, path))));
const nameOf = (path: string): string => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);

let passed = 0;
let failed = 0;
function check(claim: string, problems: readonly string[]): void {
  if (problems.length === 0) passed++;
  else failed++;
  console.log(`${problems.length === 0 ? 'ok' : 'not ok'} - ${claim}`);
  for (const problem of problems) console.log(`  ${problem}`);
}

/** `MIT`, `(MIT OR Apache-2.0)`: one of the alternatives is enough. */
const allowed = (licence: string): boolean => licence.replace(/[()]/g, '').split(/ OR /).some((one) => one.split(/ AND /).every((part) => LICENCES.has(part.trim())));

check(`${installed.length} packages have a licence on the list`, installed.flatMap(([path]) => {
  const { license, licenses } = read<Manifest>(`${path}/package.json`);
  const said = typeof license === 'string' ? license : (license?.type ?? licenses?.map(({ type }) => type).join(' OR ') ?? 'none');
  return allowed(said) ? [] : [`${nameOf(path)}: ${said}`];
}));
check('each comes with a checksum', installed.flatMap(([path, { integrity }]) => (integrity?.startsWith('sha512-') === true ? [] : [`${nameOf(path)}: ${integrity ?? 'none'}`])));
check('each is the version that is locked', installed.flatMap(([path, { version }]) => {
  const is = read<{ version?: string }>(`${path}/package.json`).version;
  return is === version ? [] : [`${nameOf(path)}: ${is}, locked ${version}`];
}));
check('none runs a script when it is installed but those that are allowed', installed.filter(([path, { hasInstallScript }]) => hasInstallScript === true && allowScripts[nameOf(path)] !== true).map(([path]) => nameOf(path)));

const { stdout, error } = spawnSync('npm', ['audit', '--omit=dev', '--json'], { cwd: ROOT, encoding: 'utf8', timeout: ASK_MS });
interface Report {
  readonly vulnerabilities?: Readonly<Record<string, { readonly severity: string; readonly range?: string; readonly via?: readonly unknown[] }>>;
  readonly message?: string;
  readonly error?: { readonly summary?: string; readonly code?: string };
}
let report: Report = {};
try {
  report = JSON.parse(stdout) as Report;
} catch {
  // Nothing that could be read: as if it had not been asked.
}
if (report.vulnerabilities === undefined) {
  console.log(`not asked - known vulnerabilities: ${error?.message ?? report.message ?? report.error?.summary ?? report.error?.code ?? 'the registry gave no answer'}`);
} else {
  // npm's own words for what nobody should run in production.
  const serious = Object.entries(report.vulnerabilities).filter(([, { severity }]) => ['moderate', 'high', 'critical'].includes(severity));
  check('the registry knows of no vulnerability', serious.map(([name, { severity, range }]) => `${name} ${range ?? ''}: ${severity}`));
}
console.log(`${passed} passed, ${failed} failed, 0 skipped`);
process.exit(failed > 0 ? 1 : 0);
