/** The configuration changes under real traffic: random valid edits by two editors, a whole file, a restart. */
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { parse } from 'yaml';
import { ControlClient } from '../../src/control/client.js';
import { RpcError } from '../../src/control/protocol.js';
import { kernelLoss } from '../support/kernel-loss.js';
import { Lab, ROOT } from '../support/lab.js';

const OTHER_GENERATION = -32002;
const SECONDS = 8;
const SERVICES = ['firewall', 'ids', 'added'];
const lab = await Lab.up();
t.teardown(() => lab.down());
await lab.nodes('pass');

interface Document {
  readonly services: Readonly<Record<string, { readonly instances: readonly { readonly name: string; readonly address: string; readonly weight?: number }[] }>>;
  readonly chains: { readonly inspect: readonly string[] };
  readonly policies: readonly { readonly name: string }[];
}

/** mulberry32 */
function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let x = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Any edit that is valid for this document. */
function anyEdit(document: Document, whole: Document, dice: () => number): readonly [method: string, params: object] {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(dice() * list.length)] as T;
  const existing = pick(['keep', 'move']);
  const chain = document.chains.inspect;
  const absent = SERVICES.filter((service) => !chain.includes(service));
  const service = pick(SERVICES);
  const { instances } = document.services[service] ?? { instances: [] };
  const missing = (whole.services[service]?.instances ?? []).filter(({ name }) => !instances.some((instance) => instance.name === name));
  const extra = document.policies.filter(({ name }) => name !== 'all');
  const edits: (readonly [string, object])[] = [
    ['chain.set', { chain: 'inspect', services: chain.toSorted(() => dice() - 0.5), existing }],
    ['instance.weight', { service, instance: pick(instances).name, weight: 1 + Math.floor(dice() * 9) }],
    ['policy.add', { policy: { name: `p${Math.floor(dice() * 1e9)}`, priority: 1, match: { protocol: 'tcp', destination_port: 1 + Math.floor(dice() * 1000) }, action: 'drop' } }],
    ['config.patch', { patch: { flows: { idle: { tcp: `${100 + Math.floor(dice() * 100)}s` } }, services: { [service]: { affinity: pick(['5-tuple', '3-tuple', '2-tuple']) } } } }],
  ];
  if (absent.length > 0) edits.push(['chain.insert', { chain: 'inspect', service: pick(absent), [pick(['after', 'before'])]: pick(chain), existing }]);
  if (absent.length > 0) edits.push(['chain.replace', { chain: 'inspect', service: pick(chain), with: pick(absent), existing }]);
  if (chain.length > 1) edits.push(['chain.remove', { chain: 'inspect', service: pick(chain), existing }]);
  if (extra.length > 0) edits.push(['policy.remove', { policy: pick(extra).name }]);
  if (instances.length > 1) edits.push(['instance.remove', { service, instance: pick(instances).name }]);
  if (missing.length > 0) edits.push(['instance.add', { service, instance: pick(missing) }]);
  return pick(edits);
}

await t.test('two editors make random valid edits during iperf3: nothing is lost', async (t) => {
  const weir = await lab.weir();
  t.teardown(() => weir.stop());
  const first = await ControlClient.connect(lab.socket);
  const whole = (await first.call<{ document: Document }>('config.get')).document;
  const server = await lab.start('net', ['iperf3', '-s', '-1', '--forceflush'], /Server listening/);
  const kernelLost = await kernelLoss(lab, 1200);
  // UDP at a steady rate: what is lost stays lost, and iperf3 counts it.
  const traffic = lab.exec('wl', 'iperf3', '-c', '10.2.0.2', '-u', '-b', '20M', '-l', '1200', '-t', String(SECONDS), '-J');
  let done = false;
  void traffic.then(() => (done = true));
  const seed = Date.now() % 1_000_000;
  t.comment(`seed ${seed}`);
  let made = 0;
  let outrun = 0;
  const editor = async (client: ControlClient, dice: () => number): Promise<void> => {
    while (!done) {
      const { generation, document } = await client.call<{ generation: number; document: Document }>('config.get');
      const [method, params] = anyEdit(document, whole, dice);
      try {
        await client.call(method, { ...params, if_generation: generation });
        made++;
      } catch (error) {
        if (!(error instanceof RpcError) || error.code !== OTHER_GENERATION) t.fail(`${method} ${JSON.stringify(params)}: ${(error as Error).message}`);
        outrun++;
      }
    }
  };
  const second = await ControlClient.connect(lab.socket);
  await Promise.all([editor(first, random(seed)), editor(second, random(seed + 1))]);
  const { code, stdout } = await traffic;
  t.equal(code, 0, stdout.slice(-300));
  await server.ended;
  const { end } = JSON.parse(stdout) as { end: { sum: { lost_packets: number; packets: number } } };
  const excused = await kernelLost();
  t.ok(end.sum.lost_packets <= excused, `${end.sum.lost_packets} of ${end.sum.packets} packets lost, at most ${excused} by the kernel; ${made} edits, ${outrun} outrun`);
  t.ok(made > 50, `${made} edits`);
  const { dropped } = await first.call<{ dropped: Record<string, number> }>('stats');
  t.strictSame(Object.entries(dropped).filter(([, count]) => count > 0), []);
  first.close();
  second.close();
});

await t.test('weir apply, weir config, and a restart that comes up with what was applied', async (t) => {
  const file = lab.config();
  const start = (...more: string[]): ReturnType<Lab['start']> => lab.start('fwd', [process.execPath, `${ROOT}/dist/cli/main.js`, 'run', '--config', file, ...more], /"msg":"ready"/);
  const weir = await start();
  const edited = `${lab.directory}/edited.yaml`;
  writeFileSync(edited, readFileSync(file, 'utf8').replace('[firewall, ids]', '[firewall, added, ids]'));
  const dry = await lab.ctl('apply', edited, '--dry-run');
  t.match(dry, { code: 0, stdout: /would change:\n  chain inspect is now \[firewall, added, ids\], existing streams keep/ });
  t.match(await lab.ctl('apply', edited, '--existing', 'move'), { code: 0, stdout: /chain inspect is now \[firewall, added, ids\], existing streams move/ });
  t.match(await lab.ctl('apply', edited, '--if-generation', '1'), { code: 1, stderr: /was meant for generation 1, but generation \d+ is in force/ });
  writeFileSync(edited, 'captures: [{name: web, in: in0, out: out0}]\nunderlay: {interface: und0}\ncolour: red\n');
  t.match(await lab.ctl('apply', edited), { code: 2, stderr: /edited.yaml:3:1: colour: unknown key/ });
  t.match(await lab.ctl('policy', 'add', '{name: no-telnet, match: {protocol: tcp, destination_port: 23}, action: drop}', '--before', 'all'), { code: 0, stdout: /policy added: no-telnet/ });
  t.match(await lab.ctl('instance', 'weight', 'firewall/fw-1', '7'), { code: 0, stdout: /weight 1 is now 7/ });
  t.match(await lab.ctl('instance', 'down', 'ids/ids-2'), { code: 0 });
  const before = (await lab.ctl('config')).stdout;
  t.match(parse(before), { chains: { inspect: ['firewall', 'added', 'ids'] }, policies: [{ name: 'no-telnet' }, { name: 'all' }] });
  await weir.stop('SIGKILL');
  const again = await start();
  t.match(again.output(), /starting from the last state/);
  t.equal((await lab.ctl('config')).stdout, before);
  t.match(await lab.ask('services'), [{ name: 'firewall' }, { name: 'ids', instances: [{ state: 'up' }, { state: 'down' }] }]);
  t.match(await lab.ping('wl', '10.2.0.2'), / 0% packet loss/);
  await again.stop();
  const forced = await start('--force-config');
  t.match(forced.output(), /--force-config was given/);
  t.match(parse((await lab.ctl('config')).stdout), { chains: { inspect: ['firewall', 'ids'] } });
  await forced.stop();
});
