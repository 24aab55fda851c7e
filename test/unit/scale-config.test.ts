/** `scale:` of the configuration: forms, defaults, and what is refused with path and reason; ranges of addresses. */
import t from 'tap';
import { addressRange, firstFree } from '../../src/config/address-ranges.js';
import { parseConfiguration } from '../../src/config/load.js';
import { valid } from '../support/configuration.js';

const HOOKS = 'add: {exec: /bin/add}, remove: {exec: [/bin/remove, now]}';
const document = (scale: string, health = 'health: {tcp: 8080}'): string => `underlay: {interface: u}\ncaptures: [{name: web, in: a, out: b}]\nservices: {fw: {instances: [], ${health}${health === '' ? '' : ', '}scale: ${scale}}}\n`;
const scaleOf = (text: string) => valid(document(text)).services[0]?.scale;

t.test('forms and defaults', async (t) => {
  t.strictSame(scaleOf(`{max: 4, target: 50, ${HOOKS}}`), {
    min: 1,
    max: 4,
    metric: 'cpu',
    target: 50,
    step: { up: 1, down: 1 },
    cooldownMs: { up: 5000, down: 60_000 },
    drainMs: null,
    readyMs: 60_000,
    timeoutMs: 30_000,
    addresses: [],
    add: { kind: 'exec', command: ['/bin/add'] },
    remove: { kind: 'exec', command: ['/bin/remove', 'now'] },
  });
  t.match(scaleOf(`{min: 2, max: 4, target: 0.5, metric: queue, step: 2, cooldown: 7s, drain: 5m, ready: 10s, timeout: 5s, addresses: 10.0.0.4, ${HOOKS}}`), { min: 2, step: { up: 2, down: 2 }, cooldownMs: { up: 7000, down: 7000 }, drainMs: 300_000, addresses: ['10.0.0.4'] });
  t.match(scaleOf(`{max: 4, target: 1, step: {up: 3}, cooldown: {down: 1m}, ${HOOKS}}`), { step: { up: 3, down: 1 }, cooldownMs: { up: 5000, down: 60_000 } });
  t.match(scaleOf('{max: 4, target: 1, add: {http: "http://10.0.0.9/add"}, remove: {http: {url: "https://10.0.0.9/remove", token: {file: /etc/token}}}}'), {
    add: { kind: 'http', url: 'http://10.0.0.9/add', tokenFile: null },
    remove: { kind: 'http', url: 'https://10.0.0.9/remove', tokenFile: '/etc/token' },
  });
});

const REFUSED: readonly (readonly [document: string, path: string, message: RegExp])[] = [
  [document(`{max: 4, target: 1, ${HOOKS}}`, ''), 'services.fw.scale', /so a service that scales has a check: add `health: \{tcp: PORT\}`/],
  [document(`{max: 4, target: 1, ${HOOKS}}`, 'health: {passive: true}'), 'services.fw.scale', /has a check/],
  [document(`{min: 5, max: 4, target: 1, ${HOOKS}}`), 'services.fw.scale.min', /at most max \(4\), found 5/],
  [document(`{max: 4, target: 0, ${HOOKS}}`), 'services.fw.scale.target', /0/],
  [document(`{max: 4, ${HOOKS}}`), 'services.fw.scale', /target/],
  [document(`{max: 4, target: 1, metric: love, ${HOOKS}}`), 'services.fw.scale.metric', /cpu/],
  [document(`{max: 4, target: 1, cooldown: 1ms, ${HOOKS}}`), 'services.fw.scale.cooldown', /from 100ms to 24h, found "1ms"/],
  [document(`{max: 4, target: 1, cooldown: {up: 48h}, ${HOOKS}}`), 'services.fw.scale.cooldown.up', /from 100ms to 24h/],
  [document(`{max: 4, target: 1, addresses: 10.0.0.9-10.0.0.1, ${HOOKS}}`), 'services.fw.scale.addresses', /runs backwards; did you mean "10.0.0.1-10.0.0.9"/],
  [document(`{max: 4, target: 1, addresses: [10.0.0.1, 10.0.0.0/8], ${HOOKS}}`), 'services.fw.scale.addresses[1]', /at most 65536 addresses/],
  [document(`{max: 4, target: 1, addresses: [224.0.0.1], ${HOOKS}}`), 'services.fw.scale.addresses[0]', /multicast/],
  [document('{max: 4, target: 1, add: {exec: ./add}, remove: {exec: rm}}'), 'services.fw.scale.add.exec', /an absolute path, or the name of a program in PATH, found ".\/add"/],
  [document('{max: 4, target: 1, add: {http: "ftp://x"}, remove: {exec: rm}}'), 'services.fw.scale.add.http', /expected a URL/],
  [document('{max: 4, target: 1, add: {http: "http://a:b@x/"}, remove: {exec: rm}}'), 'services.fw.scale.add.http', /put a token into a file/],
  [document('{max: 4, target: 1, add: {http: {url: "http://x/", token: {file: t}}}, remove: {exec: rm}}'), 'services.fw.scale.add.http.token.file', /an absolute path/],
];

for (const [text, path, message] of REFUSED) {
  t.test(`${path}: ${message.source}`, async (t) => {
    const loaded = parseConfiguration(text, 'test.yaml');
    if (loaded.ok) return t.fail(`taken: ${text}`);
    const found = loaded.errors.find((error) => error.path === path);
    t.match(found?.message ?? loaded.errors.map((error) => `${error.path}: ${error.message}`).join('\n'), message);
  });
}

t.test('ranges of addresses', async (t) => {
  const free = (ranges: readonly string[], taken: readonly string[] = []): string | null => firstFree(ranges, (address) => taken.includes(address));
  t.equal(free(['10.0.0.4-10.0.0.5'], ['10.0.0.4']), '10.0.0.5');
  t.equal(free(['10.0.0.4-10.0.0.5', 'fd00::8/125'], ['10.0.0.4', '10.0.0.5', 'fd00::8']), 'fd00::9');
  t.equal(free(['10.0.0.0/30']), '10.0.0.1', 'not the network itself');
  t.equal(free(['10.0.0.0/30'], ['10.0.0.1', '10.0.0.2']), null, 'nor the broadcast address');
  t.equal(free(['10.0.0.7'], ['10.0.0.7']), null);
  t.match(addressRange('10.0.0.1-fd00::1'), /expected a range/);
  t.match(addressRange('10.0.0.1-10.0.0.2-10.0.0.3'), /expected a range/);
  t.match(addressRange('love'), /expected an address/);
});
