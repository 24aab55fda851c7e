/**
 * What is wrong is refused by a running weir on its control socket, with path and reason; document, generation, state file and traffic
 * stay as they are. So is a state file that was cut short or edited, and so ends a client that never reads its events.
 */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { ControlClient } from '../../src/control/client.js';
import { RpcError } from '../../src/control/protocol.js';
import { HttpLoad, failures } from '../support/http-load.js';
import { Lab, ROOT, until } from '../support/lab.js';

const REFUSED = -32000;
const INVALID_PARAMS = -32602;
const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];

const lab = await Lab.up();
t.teardown(() => lab.down());
await lab.nodes('pass', ['fw1', 'fw2', 'ids1', 'ids2']);
const load = await HttpLoad.serve(lab);
const stateDirectory = join(lab.directory, 'state');
const stateFile = join(stateDirectory, 'state.json');
const EXTRA = 'switches: {incident: off}';

const patch = (value: object): readonly [string, object] => ['config.patch', { patch: value }];
const policy = (match: object, more: object = { action: 'drop' }): readonly [string, object] => ['policy.add', { policy: { name: 'new', match, ...more } }];
const variant = (when: object): readonly [string, object] => patch({ configurations: { new: { when, policies: [] } } });
const many = (n: number): string[] => Array.from({ length: n }, (_, i) => `s${i}`);

/** What the issue names, the request, where it is wrong, why. */
const WRONG: readonly (readonly [claim: string, request: readonly [method: string, params: object], path: string, reason: RegExp])[] = [
  ['unknown service: inserted', ['chain.insert', { chain: 'inspect', service: 'fierwall', after: 'ids' }], 'service', /there is no service "fierwall"; there are: firewall, ids, added/],
  ['unknown service: in a whole chain', ['chain.set', { chain: 'inspect', services: ['firewall', 'nope'] }], 'services[1]', /there is no service "nope"/],
  ['unknown service: in a patch', patch({ chains: { inspect: ['firewall', 'idss'] } }), 'chains.inspect[1]', /there is no service "idss"; did you mean "ids"\?/],
  ['unknown service: an instance of it', ['instance.add', { service: 'nope', instance: { name: 'x', address: '10.20.0.99' } }], 'service', /there is no service "nope"/],
  ['unknown service: in a condition', variant({ load: { service: 'nope', streams: { above: 1 } } }), 'configurations.new.when.load.service', /there is no service "nope"/],
  ['unknown service: taken out where it is in use', ['service.remove', { service: 'ids' }], 'service', /still on the chains inspect, short: take it out there first/],
  ['unknown chain: of a policy', policy({}, { chain: 'inspcet' }), 'policies[1].chain', /there is no chain "inspcet"; did you mean "inspect"\?/],
  ['loop: inserted again', ['chain.insert', { chain: 'inspect', service: 'firewall', after: 'ids' }], 'service', /twice; a chain visits each service once/],
  ['loop: in a whole chain', ['chain.set', { chain: 'inspect', services: ['firewall', 'ids', 'firewall'] }], 'services[2]', /twice/],
  ['loop: in a patch', patch({ chains: { inspect: { services: ['ids', 'firewall', 'ids'] } } }), 'chains.inspect.services[2]', /service "ids" is on this chain already/],
  ['loop: by a replacement', ['chain.replace', { chain: 'inspect', service: 'ids', with: 'firewall' }], 'with', /twice/],
  ['empty chain: set', ['chain.set', { chain: 'inspect', services: [] }], 'services', /expected at least one service .*action: pass/],
  ['empty chain: its last service removed', ['chain.remove', { chain: 'short', service: 'ids' }], 'service', /"ids" is the last one of chain "short"/],
  ['empty chain: in a patch', patch({ chains: { inspect: [] } }), 'chains.inspect', /expected at least one service .*found an empty list/],
  ['empty chain: with options', patch({ chains: { fresh: { services: [], answers: 'forwards' } } }), 'chains.fresh.services', /expected at least one service/],
  ['overlapping addresses: in one service', ['instance.add', { service: 'firewall', instance: { name: 'x', address: '10.20.0.11' } }], 'services.firewall.instances[2].address', /already used by firewall\/fw-1/],
  ['overlapping addresses: in two services', ['service.add', { service: 'proxy', definition: { instances: [{ name: 'x', address: '10.20.0.21' }] } }], 'services.proxy.instances[0].address', /already used by ids\/ids-1/],
  ['overlapping addresses: written in another way', ['instance.add', { service: 'ids', instance: { name: 'x', address: '::ffff:10.20.0.12' } }], 'services.ids.instances[2].address', /already used by firewall\/fw-2/],
  ['overlapping addresses: no address of one host', ['instance.add', { service: 'ids', instance: { name: 'x', address: '255.255.255.255' } }], 'services.ids.instances[2].address', /expected the address of one host/],
  ['impossible prefix: too long', policy({ source: '10.0.0.0/33' }), 'policies[1].match.source', /expected a prefix length from 0 to 32/],
  ['impossible prefix: IPv6 too long', policy({ destination: ['fd01::/64', 'fd01::/129'] }), 'policies[1].match.destination[1]', /expected a prefix length from 0 to 128/],
  ['impossible prefix: bits behind its length', policy({ source: '10.0.0.1/24' }), 'policies[1].match.source', /has bits set behind its length; did you mean 10\.0\.0\.0\/24\?/],
  ['impossible prefix: no address', policy({ source: '10.0.0.256/32' }), 'policies[1].match.source', /expected an address or a prefix/],
  ['impossible range of ports', policy({ protocol: 'tcp', destination_port: '90-80' }), 'policies[1].match.destination_port', /runs backwards; did you mean "80-90"\?/],
  ['impossible window: an hour that is not there', variant({ time: { hours: '23:00-25:00' } }), 'configurations.new.when.time.hours', /there is no such time of day/],
  ['impossible window: of no length', variant({ time: { hours: ['01:00-02:00', '08:00-08:00'] } }), 'configurations.new.when.time.hours[1]', /ends when it begins/],
  ['impossible window: a day that is not there', variant({ time: { days: ['mon', 'funday'] } }), 'configurations.new.when.time.days[1]', /expected a day/],
  ['impossible window: no day and no hour', variant({ time: { zone: 'UTC' } }), 'configurations.new.when.time', /expected days, hours or both/],
  ['contradicting conditions: limits', variant({ all: [{ streams: { above: 10 } }, { streams: { below: 5 } }] }), 'configurations.new.when.all[1]', /below 5 contradicts above 10 before it/],
  ['contradicting conditions: a switch', variant({ all: [{ switch: 'incident' }, { not: { switch: 'incident' } }] }), 'configurations.new.when.all[1].not', /can't be on and off at one time/],
  ['contradicting conditions: windows', variant({ all: [{ time: { days: 'mon-fri' } }, { time: { days: ['sat', 'sun'] } }] }), 'configurations.new.when.all[1].time', /never meet/],
  ['contradicting conditions: an end that is its begin', variant({ streams: { above: 5 }, until: { below: 9 } }), 'configurations.new.when.until.below', /it would begin and end at once/],
  ['unknown time zone', variant({ time: { days: 'mon', zone: 'Europe/Berln' } }), 'configurations.new.when.time.zone', /there is no time zone "Europe\/Berln"; did you mean "Europe\/Berlin"\?/],
  ['over 32 hops: in a patch', patch({ services: Object.fromEntries(many(33).map((name) => [name, { instances: [] }])), chains: { inspect: many(33) } }), 'chains.inspect', /expected at most 32 services, found 33/],
  ['what can not change while weir runs', patch({ captures: [{ name: 'web', in: 'in0', out: 'out9' }] }), 'captures', /needs a restart/],
];

interface State {
  readonly config: unknown;
  readonly file: string;
  readonly program: unknown;
  readonly lastEvent: number;
}

/** Everything that a refused change could have touched. */
async function state(client: ControlClient): Promise<State> {
  const chains = await client.call<{ name: string; services: unknown; paths: { id: number; services: unknown; current: boolean }[] }[]>('chains');
  const { last } = await client.call<{ last: number }>('events');
  return {
    config: await client.call('config.get'),
    file: readFileSync(stateFile, 'utf8'),
    program: chains.map(({ name, services, paths }) => ({ name, services, paths: paths.map(({ id, services, current }) => ({ id, services, current })) })),
    lastEvent: last,
  };
}

await t.test('each is refused with path and reason, and nothing else happens', async (t) => {
  const weir = await lab.weir({ extra: EXTRA });
  t.teardown(() => weir.stop());
  const client = await ControlClient.connect(lab.socket);
  t.teardown(() => client.close());
  await client.call('config.patch', { patch: { chains: { short: ['ids'] } } });
  const requests = await load.start(50, 1);
  const before = await state(client);
  const refusal = (method: string, params: object): Promise<RpcError> =>
    client.call(method, params).then(
      (answer) => t.fail(`${method} ${JSON.stringify(params)} was taken: ${JSON.stringify(answer)}`) as never,
      (error: unknown) => error as RpcError,
    );
  for (const [claim, [method, params], path, reason] of WRONG) {
    for (const dry of [false, true]) {
      const error = await refusal(method, { ...params, ...(dry ? { dry_run: true } : {}) });
      t.match(error, { code: REFUSED, message: reason, data: { path } }, dry ? `${claim}, as a dry run` : claim);
      if (method === 'config.patch') t.match(error.message, path, 'the reason says where');
    }
    t.strictSame(await state(client), before, `${claim}: all is as before`);
  }
  t.match(await refusal('chain.set', { chain: 'inspect', services: many(33) }), { code: INVALID_PARAMS, message: /services: expected at most 32 entries/ }, 'over 32 hops: in a request');

  // Several at once: every one of them is told.
  const all = await refusal('config.patch', { patch: { chains: { inspect: ['nope'], fresh: [] }, policies: [{ name: 'p', match: { source: '10.0.0.0/40' }, action: 'drop' }], configurations: { new: { when: { time: { days: 'mon', zone: 'Mars/Base' } }, policies: [] } } } });
  t.strictSame((all.data as { errors: { path: string }[] }).errors.map(({ path }) => path).sort(), ['chains.fresh', 'chains.inspect[0]', 'configurations.new.when.time.zone', 'policies[0].match.source']);
  t.match(await refusal('config.patch', { patch: { default: 'drop' }, if_generation: 1 }), { code: -32002, data: { generation: (before.config as { generation: number }).generation } }, 'another generation');
  t.strictSame(await state(client), before);
  // The same by the command line, as people see it.
  const file = join(lab.directory, 'wrong.yaml');
  writeFileSync(file, readFileSync(lab.config({ extra: EXTRA }), 'utf8').replace('inspect: [firewall, ids]', 'inspect: []'));
  t.match(await lab.ctl('apply', file), { code: 2, stderr: /^.*wrong\.yaml:\d+:\d+: chains\.inspect: expected at least one service/ });
  t.match(await lab.ctl('chain', 'set', 'inspect'), { code: 1, stderr: /expected at least one service/ });
  t.match(await lab.ctl('chain', 'remove', 'short', 'ids'), { code: 1, stderr: /is the last one of chain "short"/ });

  const answered = requests.completed();
  await until('connections after all that', () => requests.completed() > answered + 50);
  const report = await requests.stop();
  t.equal(failures(report), 0, `${report.completed} of ${report.opened} connections answered meanwhile`);
  t.match(await client.call('config.patch', { patch: { default: 'drop' } }), { generation: (before.config as { generation: number }).generation + 1 }, 'and a good one is taken');
});

await t.test('a state file that was cut short or edited: the start ends with its path and why', async (t) => {
  const weir = await lab.weir({ extra: EXTRA });
  t.equal((await lab.ctl('policy', 'add', '{name: kept, match: {protocol: tcp, destination_port: 23}, action: drop}')).code, 0);
  await weir.stop();
  const good = readFileSync(stateFile);
  const config = lab.config({ extra: EXTRA });
  // The file is written again by each config(): the state must be the newer one.
  writeFileSync(stateFile, good);
  const start = (...more: string[]): ReturnType<Lab['exec']> => lab.exec('fwd', ...WEIR, 'run', '--config', config, ...more);
  const flipped = Buffer.from(good);
  flipped[good.length - 20] = (flipped[good.length - 20] ?? 0) ^ 1;
  const cases: readonly (readonly [string, Buffer, RegExp])[] = [
    ['empty', Buffer.alloc(0), /its first line is not that of a state file/],
    ['cut in the middle', good.subarray(0, good.length >> 1), /it is cut short/],
    ['cut by one byte', good.subarray(0, -1), /it is cut short/],
    ['with one bit turned', flipped, /its checksum is wrong: it was cut short, damaged or edited/],
    ['edited', Buffer.from(good.toString().replace('"kept"', '"keep"')), /its checksum is wrong/],
    ['of another format', Buffer.from(good.toString().replace('"weir_state":1', '"weir_state":99')), /it has format 99/],
  ];
  for (const [claim, bytes, why] of cases) {
    writeFileSync(stateFile, bytes);
    const { code, stderr } = await start();
    t.match({ code, stderr }, { code: 1, stderr: new RegExp(`the state file ${stateFile} can't be used: ${why.source}.*--force-config`) }, claim);
    t.ok(readFileSync(stateFile).equals(bytes), `${claim}: left as it is`);
  }
  writeFileSync(stateFile, good);
  const again = await lab.start('fwd', [...WEIR, 'run', '--config', config], /"msg":"ready"/);
  t.match((await lab.ctl('config')).stdout, /name: kept/, 'the whole one is taken');
  await again.stop();
  writeFileSync(stateFile, good.subarray(0, 100));
  const forced = await lab.start('fwd', [...WEIR, 'run', '--config', config, '--force-config'], /"msg":"ready"/);
  t.notMatch((await lab.ctl('config')).stdout, /name: kept/, '--force-config begins with the file');
  await forced.stop();
  t.strictSame(readdirSync(stateDirectory).sort(), ['runtime.json', 'state.json'], 'no draft is left');
});

await t.test('a client that never reads its events is cut off after a bounded backlog; nobody else notices', async (t) => {
  const weir = await lab.weir({ extra: EXTRA });
  t.teardown(() => weir.stop());
  const requests = await load.start(50, 2);
  const client = await ControlClient.connect(lab.socket);
  t.teardown(() => client.close());
  // Long names make long events: a chain of 32 services of 60 letters.
  const names = Array.from({ length: 32 }, (_, i) => `${'x'.repeat(57)}${String(i).padStart(3, '0')}`);
  await client.call('config.patch', { patch: { services: Object.fromEntries(names.map((name) => [name, { instances: [] }])), chains: { long: names } } });

  const reader = await ControlClient.connect(lab.socket);
  let heard = 0;
  reader.notified(() => heard++);
  await reader.call('subscribe', { events: ['config'] });
  const deaf = connect(lab.socket);
  t.teardown(() => deaf.destroy());
  let closed = false;
  deaf.on('close', () => (closed = true)).on('error', () => undefined);
  await new Promise<void>((resolve) => deaf.once('connect', resolve));
  deaf.write('{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"events":["config"]}}\n');
  await new Promise<void>((resolve) => deaf.once('readable', resolve));
  deaf.pause(); // from here on it reads nothing

  let edits = 0;
  const MOST = 4000;
  for (; !weir.output().includes('did not read its events and was cut off') && edits < MOST; edits++) {
    await client.call('chain.set', { chain: 'long', services: names.slice(1 - (edits % 2)) });
  }
  const log = weir.output().split('\n').find((line) => line.includes('was cut off')) ?? '';
  t.match(log, /did not read its events and was cut off: \d+ of them, \d+ bytes, were waiting/, `after ${edits} edits`);
  const [, bytes = '0'] = /of them, (\d+) bytes/.exec(log) ?? [];
  t.ok(Number(bytes) <= 2 * 1024 * 1024 + 4096, `${bytes} bytes waited at most`);
  await until('the one that reads to have heard all', () => heard === edits);
  deaf.resume();
  await until('the deaf one to find its connection closed', () => closed);
  reader.close();
  const report = await requests.stop();
  t.equal(failures(report), 0, `${report.completed} of ${report.opened} connections answered meanwhile`);
});
