/** `health:`, `placement:` and `load:` of the configuration: forms, defaults, and what is refused with path and reason. */
import t from 'tap';
import { parseConfiguration } from '../../src/config/load.js';
import { valid } from '../support/configuration.js';

const document = (of: string, top = ''): string => `underlay: {interface: u}\ncaptures: [{name: web, in: a, out: b}]\nservices: {fw: {instances: [{name: one, address: 10.0.0.1}], ${of}}}\n${top}\n`;
const healthOf = (text: string) => valid(document(`health: ${text}`)).services[0]?.health;

t.test('forms and defaults', async (t) => {
  t.strictSame(healthOf('{tcp: 8080}'), { check: { kind: 'tcp', port: 8080 }, passive: null, intervalMs: 500, timeoutMs: 500, rise: 2, fall: 3 });
  t.match(healthOf('{http: {port: 80}}'), { check: { kind: 'http', port: 80, path: '/', status: { low: 200, high: 299 } } });
  t.match(healthOf('{http: {port: 80, path: /up, status: 204}}'), { check: { path: '/up', status: { low: 204, high: 204 } } });
  t.match(healthOf('{http: {port: 80, status: "200-399"}}'), { check: { status: { low: 200, high: 399 } } });
  t.match(healthOf('{probe: true}'), { check: { kind: 'probe', encapsulation: null } });
  t.match(healthOf('{probe: {encapsulation: geneve}, interval: 10ms}'), { check: { encapsulation: 'geneve' }, intervalMs: 10, timeoutMs: 10 });
  t.match(healthOf('{passive: true}'), { check: null, passive: { unreachable: 3, silent: 1000, recheckMs: 5000 } });
  t.match(healthOf('{tcp: 1, passive: {silent: off}}'), { check: { kind: 'tcp' }, passive: { unreachable: 3, silent: null } });
  t.equal(valid(document('affinity: 5-tuple')).services[0]?.health, null);
});

t.test('by default a failure is noticed within three seconds', async (t) => {
  const { intervalMs = Infinity, fall = Infinity, timeoutMs = Infinity } = healthOf('{tcp: 8080}') ?? {};
  t.ok(intervalMs * fall + timeoutMs < 3000, `${intervalMs * fall + timeoutMs} ms`);
});

t.test('placement and load', async (t) => {
  t.equal(valid(document('placement: hash')).services[0]?.placement, null);
  t.strictSame(valid(document('placement: by_load')).services[0]?.placement, { metric: 'cpu', least: 0.12, intervalMs: 2000 });
  t.strictSame(valid(document('placement: {by: load, metric: streams, least: 50, interval: 5s}')).services[0]?.placement, { metric: 'streams', least: 0.5, intervalMs: 5000 });
  t.match(valid(document('fail: open', 'load: {key: {file: k}}')).load, { port: 4793, keyFile: /\/k$/ });
});

const REFUSED: readonly (readonly [document: string, path: string, message: RegExp])[] = [
  [document('health: {}'), 'services.fw.health', /nothing is checked: expected one of tcp, http, probe, or passive/],
  [document('health: {probe: false}'), 'services.fw.health', /nothing is checked/],
  [document('health: {tcp: 80, probe: true}'), 'services.fw.health.probe', /one kind of check, and this one has tcp and probe/],
  [document('health: {tcp: 0}'), 'services.fw.health.tcp', /a whole number from 1 to 65535/],
  [document('health: {tcp: 80, timeout: 2s}'), 'services.fw.health.timeout', /must be over before the next one begins: expected at most the interval \(500ms\), found "2s"/],
  [document('health: {tcp: 80, interval: 1s, timeout: 0ms}'), 'services.fw.health.timeout', /longer than 0/],
  [document('health: {tcp: 80, interval: 1ms}'), 'services.fw.health.interval', /from 10ms to 1h, found "1ms"/],
  [document('health: {tcp: 80, interval: 0s}'), 'services.fw.health.interval', /from 10ms to 1h/],
  [document('health: {tcp: 80, interval: 9000h}'), 'services.fw.health.interval', /from 10ms to 1h/],
  [document('health: {tcp: 80, interval: 5}'), 'services.fw.health.interval', /a duration with its unit/],
  [document('health: {tcp: 80, rise: 0}'), 'services.fw.health.rise', /from 1 to 100/],
  [document('health: {tcp: 80, fal: 3}'), 'services.fw.health.fal', /unknown key; did you mean "fall"/],
  [document('health: {http: {port: 80, code: 200}}'), 'services.fw.health.http.code', /unknown key; known keys: port, path, status/],
  [document('health: {http: {}}'), 'services.fw.health.http', /the key "port" is missing/],
  [document('health: {http: {port: 80, path: up}}'), 'services.fw.health.http.path', /a path that begins with "\/"/],
  [document('health: {http: {port: 80, path: "/a b"}}'), 'services.fw.health.http.path', /encode them/],
  [document('health: {http: {port: 80, status: "399-200"}}'), 'services.fw.health.http.status', /runs backwards; did you mean "200-399"/],
  [document('health: {http: {port: 80, status: 999}}'), 'services.fw.health.http.status', /from 100 to 599, or a range such as 200-399/],
  [document('health: {probe: yes please}'), 'services.fw.health.probe', /true or false, or a mapping/],
  [document('health: {passive: {silent: off, unreachable: off}}'), 'services.fw.health.passive', /both signals are off/],
  [document('health: {passive: {recheck: 1ms}}'), 'services.fw.health.passive.recheck', /from 100ms to 1h/],
  [
    'captures: [{name: web, in: a, out: b}]\nservices: {fw: {instances: [{name: one, attach: {in: c, out: d}}], health: {probe: true}}}',
    'services.fw.instances[0]',
    /can't be probed: check it by tcp, http or passive/,
  ],
  [
    'captures: [{name: web, in: a, out: b}]\nservices: {fw: {instances: [{name: one, attach: {in: c, out: d}}], health: {tcp: 80}}}',
    'services.fw.instances[0]',
    /`health: \{tcp: …\}` needs an address/,
  ],
  [document('placement: by_moon'), 'services.fw.placement', /hash or by_load, or a mapping/],
  [document('placement: {by: load, metric: mood}'), 'services.fw.placement.metric', /one of cpu, packets_per_second/],
  [document('placement: {by: load, interval: 1ms}'), 'services.fw.placement.interval', /from 1s to 1h/],
  [document('fail: open', 'load: {port: 1}'), 'load', /the key "key" is missing/],
  [document('fail: open', 'load: {key: secret}'), 'load.key', /a mapping/],
  [
    'captures: [{name: web, in: a, out: b}]\nservices: {a: {instances: [{name: one, address: 10.0.0.1}]}, b: {instances: [{name: two, address: 10.0.0.1}]}}',
    'services.b.instances[0].address',
    /address "10\.0\.0\.1" is already used by a\/one/,
  ],
];

for (const [text, path, message] of REFUSED) {
  t.test(`refused: ${path} ${message}`, async (t) => {
    const loaded = parseConfiguration(text, 'test.yaml');
    t.notOk(loaded.ok);
    if (loaded.ok) return;
    t.equal(loaded.errors.length, 1, loaded.errors.map((error) => `${error.path}: ${error.message}`).join('\n'));
    t.equal(loaded.errors[0]?.path, path);
    t.match(loaded.errors[0]?.message, message);
  });
}
