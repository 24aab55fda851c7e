/** `weir doctor` in a host that is broken on purpose, one thing at a time; each fix that it names mends that thing. */
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Lab, ROOT, until } from '../support/lab.js';
import { withNetRaw } from '../support/unprivileged.js';

const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
const lab = await Lab.up();
t.teardown(() => lab.down());
chmodSync(lab.directory, 0o755); // who is not root reads the configuration there, and may not write

interface Finding {
  readonly level: 'ok' | 'warn' | 'fail';
  readonly subject: string;
  readonly text: string;
  readonly fix: string | null;
}

async function examine(config = lab.config(), prefix: readonly string[] = []): Promise<{ code: number | null; findings: readonly Finding[] }> {
  const { code, stdout, stderr } = await lab.exec('fwd', ...prefix, ...WEIR, 'doctor', '--json', '--config', config);
  if (stdout === '') throw new Error(stderr);
  return { code, findings: (JSON.parse(stdout) as { findings: Finding[] }).findings };
}
const shell = (command: string): Promise<string> => lab.must('fwd', 'sh', '-c', command);
const texts = (findings: readonly Finding[], level: Finding['level']): string[] => findings.filter((finding) => finding.level === level).map(({ subject, text }) => `${subject}: ${text}`);

await shell('sysctl -qw net.ipv4.conf.in0.arp_ignore=8 net.ipv4.conf.out0.arp_ignore=8; ip link set und0 mtu 1600');
for (const host of ['fw1', 'fw2', 'ids1', 'add1', 'add2']) await lab.must(host, 'ip', 'link', 'set', 'eth0', 'mtu', '1600');

await t.test('a host that is as it should be', async (t) => {
  const { code, findings } = await examine(lab.config(), withNetRaw());
  t.equal(code, 1, 'but for its files, which are of another user');
  t.strictSame(texts(findings, 'fail').map((text) => text.split(':')[0]), ['state directory', 'control socket']);
  const asRoot = await examine();
  t.equal(asRoot.code, 0);
  t.strictSame(texts(asRoot.findings, 'fail'), []);
  t.strictSame(texts(asRoot.findings, 'warn').filter((text) => !/^(privileges|host|memory):/.test(text)), []);
  for (const subject of ['kernel', 'interfaces', 'state directory', 'control socket', 'stamp ports', 'instances']) t.ok(asRoot.findings.some((finding) => finding.subject === subject && finding.level === 'ok'), subject);
});

/** What is broken how, what is found, and whether the fix that is named is one that mends it as it stands. */
const BROKEN: readonly (readonly [what: string, how: string, level: 'warn' | 'fail', found: RegExp, undo?: string])[] = [
  ['an interface is down', 'ip link set in0 down', 'fail', /^interface in0: it is down/],
  ['segmentation is off', 'ethtool -K und0 tx off tso off gso off', 'warn', /^interface und0: segmentation is off \(tx, tso, gso\)/],
  ['the underlay is too narrow', 'ip link set und0 mtu 1500', 'warn', /^interface und0: its MTU of 1500 does not carry full packets of the captures behind a stamp \(1566\)/],
  ['both sides are in one bridge', 'ip link add leak type bridge; ip link set leak up; ip link set in0 master leak; ip link set out0 master leak', 'fail', /^capture web: in0 and out0 are both in leak/, 'ip link delete leak'],
  ['one side is in a bridge', 'ip link add leak type bridge; ip link set leak up; ip link set in0 master leak', 'warn', /^interface in0: it is in leak/, 'ip link delete leak'],
  ['the host answers ARP', 'sysctl -qw net.ipv4.conf.in0.arp_ignore=0', 'warn', /^interface in0: the host answers ARP there/],
  ['proxy ARP', 'sysctl -qw net.ipv4.conf.out0.proxy_arp=1', 'fail', /^interface out0: the host answers there for the addresses of others/],
  ['the host has an address on a side', 'ip address add 10.1.0.9/24 dev in0', 'warn', /^interface in0: the host itself can be reached there \(10\.1\.0\.9\)/],
  ['the kernel routes', 'ip address add 10.1.0.9/24 dev in0; ip address add 10.9.0.1/24 dev out0; sysctl -qw net.ipv4.conf.in0.forwarding=1 net.ipv4.conf.out0.forwarding=1', 'fail', /^capture web: in0 and out0 have IPv4 addresses and forwarding is on/, 'ip address flush dev in0; ip address flush dev out0'],
  ['IPv6 speaks on a side', 'sysctl -qw net.ipv6.conf.in0.disable_ipv6=0; ip link set in0 down; ip link set in0 up', 'warn', /^interface in0: the host's own IPv6 speaks there/],
  ['an instance is behind another interface', 'ip link add other type dummy 2>/dev/null || ip link add other type veth peer name rehto; ip link set other up; ip route add 10.20.0.11/32 dev other', 'fail', /^instance firewall\/fw-1: the kernel's route to 10\.20\.0\.11 does not lead through und0/, 'ip link delete other'],
];

for (const [what, how, level, found, undo] of BROKEN) {
  await t.test(what, async (t) => {
    await shell(how);
    try {
      let seen: Finding | undefined;
      let code: number | null = null;
      // A link-local address takes a moment to appear.
      await until('it to be found', async () => {
        const answer = await examine();
        code = answer.code;
        seen = answer.findings.find((finding) => finding.level === level && found.test(`${finding.subject}: ${finding.text}`));
        return seen !== undefined;
      });
      t.equal(code, level === 'fail' ? 1 : 0);
      await shell((seen?.fix ?? 'false').replaceAll('sudo ', ''));
      await until('the fix to help', async () => !(await examine()).findings.some((finding) => finding.level !== 'ok' && found.test(`${finding.subject}: ${finding.text}`)));
    } finally {
      if (undo !== undefined) await shell(undo);
    }
  });
}

await t.test('an instance that does not answer', async (t) => {
  await lab.must('fw2', 'ip', 'link', 'set', 'eth0', 'down');
  await shell('ip neighbour flush dev und0');
  const { findings } = await examine();
  t.match(texts(findings, 'warn').find((text) => text.startsWith('instance')), /^instance firewall\/fw-2: no neighbour answers for 10\.20\.0\.12/);
  await lab.must('fw2', 'ip', 'link', 'set', 'eth0', 'up');
});

await t.test('ports that another program has', async (t) => {
  const holder = await lab.start('fwd', ['python3', '-u', '-c', "import signal,socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('10.20.0.1',6081)); h=socket.create_server(('127.0.0.1',9477)); print('ready'); signal.pause()"], /ready/);
  const { code, findings } = await examine(lab.config({ extra: 'metrics: {listen: 127.0.0.1:9477}' }));
  t.equal(code, 1);
  t.ok(texts(findings, 'fail').some((text) => /^stamp ports: UDP port 6081 on 10\.20\.0\.1 is in use/.test(text)));
  t.ok(texts(findings, 'fail').some((text) => /^metrics: metrics\.listen: .*EADDRINUSE/.test(text)));
  await holder.stop('SIGKILL');
});

await t.test('beside a weir that runs: no file is needed, and its ports are its own', async (t) => {
  const weir = await lab.weir();
  const { code, stdout } = await lab.exec('fwd', ...WEIR, 'doctor', '--socket', lab.socket);
  t.equal(code, 0, stdout);
  t.match(stdout, /^ok {4}control socket: weir answers on .* \(mode 0660, user 0, group 0\)$/m);
  t.notMatch(stdout, /stamp ports/);
  t.match(stdout, /^0 failures, [0-9]+ warnings, [0-9]+ fine$/m);
  await weir.stop();
});
