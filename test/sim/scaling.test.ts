/** Hooks that work, fail, hang and lie: real programs and a real HTTP server, for a whole dataplane under virtual time. */
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { services } from '../../src/dataplane/views.js';
import { factsOf } from '../../src/explain/facts.js';
import type { WeirEvent } from '../../src/observe/events.js';
import { services as servicesText } from '../../src/cli/show.js';
import { FRESH, type Origin, type SavedState } from '../../src/state/state.js';
import { withMembers } from '../../src/scale/members.js';
import { VirtualClock } from '../support/conditions.js';
import { valid } from '../support/configuration.js';
import { udp } from '../support/packets.js';
import { simulate, type Simulation } from '../support/sim.js';

const IN = 1;
const MS = 1_000_000n;
const SECOND = 1000;

interface Setup extends Simulation {
  readonly clock: VirtualClock;
  readonly events: WeirEvent[];
  readonly directory: string;
  readonly lines: { readonly level: number; readonly msg: string }[];
  readonly saved: SavedState[];
}

const text = (scale: string, instances = ''): string => `
underlay: {interface: eth1}
captures: [{name: web, in: a, out: b}]
services:
  firewall: {instances: [${instances}], health: {probe: true, interval: 10ms}, scale: {${scale}}}
chains: {inspect: [firewall]}
policies: [{name: all, match: {}, chain: inspect}]
`;

/** A program that notes what it was asked, and then does `body`. */
function program(directory: string, name: string, body = ''): string {
  const file = join(directory, name);
  writeFileSync(file, `#!/bin/sh\necho "$WEIR_ACTION $WEIR_SERVICE $WEIR_INSTANCE $WEIR_ADDRESS" >> ${directory}/asked\n${body}\n`);
  chmodSync(file, 0o755);
  return file;
}
const asked = ({ directory }: Setup): string[] => (existsSync(join(directory, 'asked')) ? readFileSync(join(directory, 'asked'), 'utf8').trim().split('\n') : []);

async function setup(t: Test, make: (directory: string) => string, origin: Partial<Origin> = {}): Promise<Setup> {
  const directory = mkdtempSync(join(tmpdir(), 'weir-scale-'));
  const clock = new VirtualClock(Date.UTC(2026, 10, 21));
  const lines: Setup['lines'] = [];
  const saved: SavedState[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line) as Setup['lines'][number]) });
  const prepare = (state: SavedState) => Promise.resolve({ commit: async () => void saved.push(state), discard: async () => undefined });
  const configuration = withMembers(valid(make(directory)), origin.elastic ?? []);
  const simulation = await simulate(configuration, 1000, log, { ...FRESH, keeper: { prepare }, ...origin }, clock);
  const events: WeirEvent[] = [];
  simulation.dataplane.events.listen((event) => events.push(event));
  simulation.network.instance('10.20.0.11');
  for (let last = 41; last < 49; last++) simulation.network.instance(`10.20.0.${last}`);
  t.teardown(async () => {
    await simulation.dataplane.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  return { ...simulation, clock, events, directory, lines, saved };
}

/** Seconds of virtual time, each with what a real one would have; hooks run in real time, so some turns are waited for. */
async function until(it: Setup, what: string, condition: () => boolean, seconds = 300): Promise<void> {
  const endMs = Date.now() + 30_000;
  for (let second = 0; !condition(); second++) {
    if (second > seconds && Date.now() > endMs) throw new Error(`timed out waiting for ${what}: ${JSON.stringify(view(it))} ${JSON.stringify(it.lines.slice(-3))}`);
    for (let ms = 0; ms < 40; ms++) {
      it.network.advance(MS);
      await new Promise((resolve) => setImmediate(resolve));
    }
    it.clock.ms += SECOND;
    await it.dataplane.upkeep(it.clock.ms);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const view = ({ dataplane }: Setup) => services(dataplane)[0];
const names = (it: Setup): string[] => view(it)?.instances.map(({ name, address, state }) => `${name} ${address} ${state}`) ?? [];
const phases = (it: Setup): string[] => it.events.flatMap((event) => (event.kind === 'scale' ? [`${event.phase} ${event.instance}`] : []));
const warnings = ({ lines }: Setup): string[] => lines.filter(({ level, msg }) => level === 40 && msg.includes('hook')).map(({ msg }) => msg);

const BOUNDS = 'min: 1, max: 4, metric: streams, target: 10, cooldown: {up: 2s, down: 10s}, ready: 5s, addresses: 10.20.0.41-10.20.0.48';
const exec = (directory: string, add = '', remove = ''): string => `add: {exec: ${program(directory, 'add', add)}}, remove: {exec: [${program(directory, 'remove', remove)}, word]}`;

await t.test('the first one by a hook, more as streams come, drained and ended as they go', async (t) => {
  const it = await setup(t, (directory) => text(`${BOUNDS}, ${exec(directory)}`) + 'flows: {idle: {other: 60s}}\n');
  await until(it, 'the first', () => names(it).join() === 'firewall-1 10.20.0.41 up');
  t.strictSame(phases(it), ['adding firewall/firewall-1', 'starting firewall/firewall-1', 'serving firewall/firewall-1']);
  for (let port = 0; port < 35; port++) it.network.inject(IN, udp({ sourcePort: 20_000 + port }));
  await until(it, 'four', () => names(it).filter((name) => name.endsWith(' up')).length === 4);
  t.strictSame(names(it).map((name) => name.split(' ')[1]), ['10.20.0.41', '10.20.0.42', '10.20.0.43', '10.20.0.44']);
  t.equal(it.saved.at(-1)?.elastic?.length, 4, 'the next process will know them');

  const streams = async (): Promise<string[]> => (await it.dataplane.runner.flows(0, 256)).flows.map(({ pins }) => it.dataplane.ids.instances.name(pins[0] ?? -1) ?? '');
  t.equal((await streams()).length, 35);
  it.network.advance(70n * 1000n * MS);
  await until(it, 'one', () => names(it).length === 1 && names(it)[0]?.endsWith(' up') === true);
  t.strictSame(asked(it).filter((line) => line.startsWith('add')).length, 4);
  t.strictSame(asked(it).filter((line) => line.startsWith('remove')).length, 3);
  const order = phases(it).filter((phase) => phase.endsWith('firewall-4') || phase.endsWith('firewall-3') || phase.endsWith('firewall-2')).filter((phase) => /draining|removing/.test(phase));
  t.ok(order.indexOf('draining firewall/firewall-4') < order.indexOf('removing firewall/firewall-4'), order.join(', '));
  t.strictSame(warnings(it), []);
});

await t.test('a hook that fails is told once, tried less and less often, and seen', async (t) => {
  const it = await setup(t, (directory) => text(`${BOUNDS}, ${exec(directory, `[ -e ${directory}/mended ] || { echo "no room on the host" >&2; exit 3; }`)}`));
  await until(it, 'some tries', () => (view(it)?.scale?.faults[0]?.times ?? 0) >= 4);
  t.match(view(it)?.scale?.faults, [{ hook: 'add', cause: 'it ended with 3: no room on the host', times: Number, nextTry: String }]);
  t.equal(warnings(it).length, 1, warnings(it).join('\n'));
  t.match(servicesText(services(it.dataplane)), /scale firewall: hook add failed \d+ times since .*: it ended with 3: no room on the host; next try/);
  const perTry = asked(it).length / (view(it)?.scale?.faults[0]?.times ?? 1);
  t.ok(perTry <= 2.5, 'each try is undone once');
  writeFileSync(join(it.directory, 'mended'), '');
  await until(it, 'it to work again', () => names(it).join() === 'firewall-1 10.20.0.41 up', 400);
  t.strictSame(view(it)?.scale?.faults, []);
});

await t.test('a hook that hangs is ended with everything that it began', async (t) => {
  const it = await setup(t, (directory) => text(`${BOUNDS}, timeout: 300ms, ${exec(directory, `sleep infinity & echo $! > ${directory}/child; wait`)}`));
  await until(it, 'a fault', () => (view(it)?.scale?.faults.length ?? 0) > 0);
  t.match(view(it)?.scale?.faults, [{ hook: 'add', cause: 'it took longer than 0.3 s and was ended' }]);
  const child = readFileSync(join(it.directory, 'child'), 'utf8').trim();
  const alive = (): boolean => existsSync(`/proc/${child}`) && !/State:\s+Z/.test(readFileSync(`/proc/${child}/status`, 'utf8'));
  await until(it, 'its child to be gone', () => !alive());
  await until(it, 'what it may have begun to be undone', () => asked(it).some((line) => line.startsWith('remove firewall firewall-1')));
  t.strictSame(names(it), []);
});

for (const [lie, answer, cause] of [
  // Where the second try was quick, that was to be at the next address: the first one is being undone.
  ['the address of another instance', '{"address": "10.20.0.11"}', /at 10\.20\.0\.11, but it was to be at 10\.20\.0\.4[12]$/],
  ['no address', '{"address": "love"}', /says that the instance is at love/],
] as const) {
  await t.test(`a hook that says ${lie}`, async (t) => {
    const it = await setup(t, (directory) => text(`${BOUNDS}, min: 2, ${exec(directory, `echo '${answer}'`)}`.replace('min: 1, ', ''), '{name: fw-1, address: 10.20.0.11}'));
    await until(it, 'a fault', () => (view(it)?.scale?.faults.length ?? 0) > 0);
    t.match(view(it)?.scale?.faults[0]?.cause, cause);
    t.strictSame(names(it), ['fw-1 10.20.0.11 up'], 'who is there goes on');
    t.notOk(asked(it).some((line) => line.startsWith('remove') && line.includes('10.20.0.11')), 'nobody else is ended');
  });
}

for (const [said, cause] of [
  ['10.20.0.11', /that is firewall\/fw-1's address/],
  ['224.0.0.1', /multicast/],
  ['nowhere', /no IP address/],
  ['', /did not say where the instance is/],
] as const) {
  await t.test(`without addresses of ours the hook says it; "${said}" is refused`, async (t) => {
    const answer = said === '' ? 'echo started' : `echo started; echo '{"address": "${said}"}'`;
    const it = await setup(t, (directory) => text(`min: 2, max: 4, metric: streams, target: 10, ${exec(directory, answer)}`, '{name: fw-1, address: 10.20.0.11}'));
    await until(it, 'a fault', () => (view(it)?.scale?.faults.length ?? 0) > 0);
    t.match(view(it)?.scale?.faults[0]?.cause, cause);
    t.strictSame(names(it), ['fw-1 10.20.0.11 up']);
  });
}

await t.test('one that was started and never is healthy gets no stream and is ended', async (t) => {
  const it = await setup(t, (directory) => text(`${BOUNDS}, min: 2, ${exec(directory)}`.replace('min: 1, ', ''), '{name: fw-1, address: 10.20.0.11}'));
  it.network.instance('10.20.0.41', () => []);
  await until(it, 'it to be there', () => names(it).includes('firewall-1 10.20.0.41 down'));
  for (let port = 0; port < 50; port++) it.network.inject(IN, udp({ sourcePort: 30_000 + port }));
  t.equal(view(it)?.instances.find(({ name }) => name === 'firewall-1')?.streams, 0);
  await until(it, 'it to be ended', () => asked(it).includes('remove firewall firewall-1 10.20.0.41') && !names(it).some((name) => name.startsWith('firewall-1 10.20.0.41 down')));
  t.match(view(it)?.scale?.faults[0]?.cause ?? warnings(it)[0], /not healthy within 5 s: probe: no answer/);
});

await t.test('a remove hook that fails is tried until it works; its instance gets nothing meanwhile', async (t) => {
  const it = await setup(t, (directory) => text(`${BOUNDS}, ${exec(directory, '', `[ -e ${directory}/mended ] || exit 1`)}`));
  await until(it, 'the first', () => names(it).join() === 'firewall-1 10.20.0.41 up');
  await it.dataplane.setInstance('firewall', 'firewall-1', 'down', null, 'somebody');
  await until(it, 'faults', () => (view(it)?.scale?.faults.find(({ hook }) => hook === 'remove')?.times ?? 0) >= 2);
  t.ok(names(it).includes('firewall-1 10.20.0.41 down'), names(it).join());
  t.ok(names(it).some((name) => /^firewall-2 .* (up|down)$/.test(name)), 'another one comes in its place');
  t.equal(warnings(it).length, 1);
  writeFileSync(join(it.directory, 'mended'), '');
  await until(it, 'it to be gone', () => !names(it).some((name) => name.startsWith('firewall-1 ')), 200);
});

await t.test('documents come and go, what hooks started stays; a service that no longer scales keeps what is written', async (t) => {
  const it = await setup(t, (directory) => text(`${BOUNDS}, ${exec(directory)}`));
  await until(it, 'the first', () => names(it).join() === 'firewall-1 10.20.0.41 up');
  const document = it.dataplane.configuration.source.document as { services: { firewall: Record<string, unknown> } };
  const firewall = (more: Record<string, unknown>, without: readonly string[] = []) => ({ ...document, services: { firewall: { ...Object.fromEntries(Object.entries(document.services.firewall).filter(([key]) => !without.includes(key))), ...more } } });
  const answer = await it.dataplane.apply(firewall({ fail: 'open' }), {}, 'somebody');
  t.strictSame(answer.changes, ['service firewall: fail closed is now open']);
  t.strictSame(names(it), ['firewall-1 10.20.0.41 up']);
  const facts = JSON.parse(JSON.stringify(factsOf(it.dataplane))) as ReturnType<typeof factsOf>;
  t.strictSame(withMembers(valid(text(`${BOUNDS}, ${exec(it.directory)}`)), facts.elastic).services[0]?.instances.map(({ name }) => name), ['firewall-1'], '`weir diff` of a document has them too');
  await t.rejects(it.dataplane.apply(firewall({ instances: [{ name: 'fw-9', address: '10.20.0.41' }] }), {}, 'somebody'), { message: /10\.20\.0\.41 is firewall\/firewall-1's, which was started by `scale`/ });
  await t.rejects(it.dataplane.apply(firewall({ instances: [{ name: 'firewall-1', address: '10.20.0.90' }] }), {}, 'somebody'), { message: /was started by `scale` at 10\.20\.0\.41/ });

  await it.dataplane.apply(firewall({ instances: [{ name: 'fw-1', address: '10.20.0.11' }] }, ['scale']), {}, 'somebody');
  await until(it, 'it to be ended', () => names(it).join() === 'fw-1 10.20.0.11 up');
  t.ok(asked(it).includes('remove firewall firewall-1 10.20.0.41'));
});

await t.test('one that the document takes over is never ended', async (t) => {
  const it = await setup(t, (directory) => text(`${BOUNDS}, ${exec(directory)}`));
  await until(it, 'the first', () => names(it).join() === 'firewall-1 10.20.0.41 up');
  const document = it.dataplane.configuration.source.document as { services: { firewall: object } };
  await it.dataplane.apply({ ...document, services: { firewall: { ...document.services.firewall, instances: [{ name: 'firewall-1', address: '10.20.0.41' }] } } }, {}, 'somebody');
  await until(it, 'the scaler to let go', () => view(it)?.scale?.members.length === 0);
  t.strictSame(names(it), ['firewall-1 10.20.0.41 up']);
  t.equal(it.saved.at(-1)?.elastic?.length, 0);
});

await t.test('a process goes on with what the one before it had started', async (t) => {
  const member = { service: 'firewall', name: 'firewall-1', address: '10.20.0.41', sinceMs: 1, timeoutMs: 1000 };
  const it = await setup(t, (directory) => text(`${BOUNDS}, ${exec(directory)}`), { elastic: [{ ...member, remove: { kind: 'exec', command: ['/bin/false'] } }] });
  await until(it, 'a look', () => view(it)?.scale !== null && it.dataplane.stateOf('firewall/firewall-1') === 'up');
  await until(it, 'some seconds', () => it.clock.ms > Date.UTC(2026, 10, 21) + 20 * SECOND);
  t.strictSame(asked(it), [], 'no hook had to be asked');
  t.strictSame(names(it), ['firewall-1 10.20.0.41 up']);
});

await t.test('webhooks', async (t) => {
  const requests: { readonly url: string; readonly token: string; readonly body: unknown }[] = [];
  let handle: (request: IncomingMessage, response: ServerResponse) => void = (_, response) => void response.end('{"address": "10.20.0.43"}');
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      requests.push({ url: request.url ?? '', token: String(request.headers.authorization), body: JSON.parse(body) });
      handle(request, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const hooks = (directory: string): string => {
    writeFileSync(join(directory, 'token'), 'secret-word\n');
    return text(`min: 1, max: 4, metric: streams, target: 10, timeout: 500ms, add: {http: {url: "${at}/add", token: {file: ${directory}/token}}}, remove: {http: "${at}/remove"}`);
  };

  const it = await setup(t, hooks);
  await until(it, 'the first', () => names(it).join() === 'firewall-1 10.20.0.43 up');
  t.strictSame(requests, [{ url: '/add', token: 'Bearer secret-word', body: { action: 'add', service: 'firewall', instance: 'firewall-1', address: null } }]);
  t.notOk(JSON.stringify(it.lines).includes('secret-word'), 'the token is in no log');

  for (const [what, answer, cause] of [
    ['an error', (_, response) => void response.writeHead(500).end('no room'), /^status 500: no room$/],
    ['silence', () => undefined, /^no answer within 0\.5 s$/],
    ['a redirection', (_, response) => void response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(), /redirect/],
    ['no end', (_, response) => void setInterval(() => response.write('x'.repeat(10_000)), 5).unref(), /did not say where|no answer within/],
  ] as readonly (readonly [string, typeof handle, RegExp])[]) {
    await t.test(`that answer with ${what}`, async (t) => {
      handle = answer;
      const other = await setup(t, hooks);
      await until(other, 'a fault', () => (view(other)?.scale?.faults.some(({ hook }) => hook === 'add') ?? false));
      t.match(view(other)?.scale?.faults.find(({ hook }) => hook === 'add')?.cause, cause);
      t.strictSame(names(other), []);
    });
  }
});
