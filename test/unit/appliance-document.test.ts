/** Documents of appliances: what is taken, and what is refused with its place and why. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { checkApplianceDocument, loadAppliance, parseAppliance } from '../../src/appliance/document.js';
import { applianceSchema } from '../../src/appliance/schema.js';
import { ROOT } from '../support/lab.js';

type Json = Record<string, unknown>;

const GOOD = {
  name: 'edge',
  service: 'inspect',
  function: 'firewall',
  settings: { default: 'drop' },
  managers: [{ name: 'm-1', address: '10.20.0.61' }, { name: 'm-2', address: '10.20.0.62', port: 5000 }],
  dispatchers: [{ name: 'd-1', address: '10.20.0.51' }, { name: 'd-2', address: '10.20.0.52' }],
  units: [1, 2, 3, 4].map((i) => ({ name: `u-${i}`, address: `10.20.0.${100 + i}`, host: `h-${i % 2}` })),
  layout: { min: 1, max: 4 },
};

const errorsOf = (change: Json): string[] => {
  const checked = checkApplianceDocument({ appliance: { ...GOOD, ...change } });
  return checked.ok ? [] : checked.errors.map(({ path, message }) => `${path}: ${message}`);
};

t.test('a good document, with what it leaves out', async (t) => {
  const checked = checkApplianceDocument({ appliance: GOOD });
  if (!checked.ok) throw new Error(JSON.stringify(checked.errors));
  const { managers, layout, units } = checked.appliance;
  t.strictSame(managers.map(({ port }) => port), [4795, 5000]);
  t.match(layout, { min: 1, max: 4, start: 1, perHost: null, spread: 'hosts', thresholds: null, drainMs: null, leaseMs: 1000, add: null });
  t.equal(units[0]?.weight, 1);
  t.ok(loadAppliance(`${ROOT}/examples/appliance.yaml`).ok, 'the example is valid');
  t.strictSame(JSON.parse(readFileSync(`${ROOT}/docs/weir-appliance.schema.json`, 'utf8')), JSON.parse(JSON.stringify(applianceSchema)), 'the schema in docs/ is this one: run `npm run schema` if it is not');
});

t.test('two units with one address, two of one name', async (t) => {
  const [first] = GOOD.units;
  t.strictSame(errorsOf({ units: [...GOOD.units, { name: 'u-5', address: '10.20.0.101' }] }), ['appliance.units[4].address: unit "u-1" has the address 10.20.0.101 too: stamped packets and answers could not be told apart']);
  t.strictSame(errorsOf({ units: [...GOOD.units, { ...first, address: '10.20.0.9' }] }), ['appliance.units[4].name: there is a unit "u-1" already (units[0])']);
  t.strictSame(errorsOf({ units: [...GOOD.units, { name: 'u-5', address: '10.20.0.51' }] }), ['appliance.units[4].address: dispatcher "d-1" has this address: a host is one or the other']);
  t.match(errorsOf({ units: [{ name: 'u-1', address: 'fd20::1' }], layout: { min: 1, max: 1 } }), [/all their addresses are IPv4 or all are IPv6/]);
  t.match(errorsOf({ units: [{ name: 'u-1', address: '10.20.0.300' }], layout: { min: 1, max: 1 } }), [/units\[0\].address: expected an address of one host/]);
});

t.test('unknown names', async (t) => {
  t.match(errorsOf({ function: 'firewal' }), [/there is no function "firewal"; built in: pass, meter, firewall/]);
  t.match(errorsOf({ function: 'deliver' }), [/units return packets/]);
  t.match(errorsOf({ unit: [] }), [/unknown key; did you mean "units"\?/]);
  t.match(errorsOf({ layout: { ...GOOD.layout, thresholds: { metric: 'cpus', add_above: 2, remove_below: 1 } } }), [/one of cpu, packets_per_second, streams/]);
  t.match(errorsOf({ function: 'pass' }), [/the function pass takes no settings/]);
});

t.test('layouts that can not be', async (t) => {
  const layout = (change: Json): string[] => errorsOf({ layout: { ...GOOD.layout, ...change } });
  t.strictSame(layout({ max: 5 }), ['appliance.layout.max: expected at most 4, found 5: there are 4 units']);
  t.strictSame(layout({ per_host: 1 }), ['appliance.layout.max: expected at most 2, found 4: 4 units on 2 hosts with at most 1 each are 2']);
  t.match(layout({ min: 3, max: 2 }), [/min: expected at most max \(2\), found 3/]);
  t.match(layout({ min: 2, start: 1 }), [/start: expected a number from min \(2\) to max \(4\), found 1/]);
  t.match(layout({ thresholds: { metric: 'cpu', add_above: 30, remove_below: 70 } }), [/units would come and go at once/]);
  t.match(layout({ min: 4, thresholds: { metric: 'cpu', add_above: 70, remove_below: 30 } }), [/thresholds can change nothing/]);
  t.match(layout({ add: { exec: '/bin/true' } }), [/add and remove belong together/]);
  t.match(layout({ add: { exec: './x' }, remove: { exec: '/bin/true' } }), [/expected an absolute path/]);
  t.match(layout({ lease: '10ms' }), [/expected a duration from 200ms to 1m/]);
  t.match(errorsOf({ units: GOOD.units.map(({ host: _, ...unit }) => unit), layout: { min: 1, max: 4, per_host: 1 } }), [/no unit says its host/]);
});

t.test('places are told, and every error at once', async (t) => {
  const parsed = parseAppliance('appliance:\n  name: edge\n  service: inspect\n  managers: []\n  dispatchers: [{name: d-1, address: 10.0.0.1}]\n  units: [{name: u-1, address: 10.0.0.1}]\n  layout: {min: 2, max: 1}\n', 'a.yaml');
  t.notOk(parsed.ok);
  if (!parsed.ok) t.strictSame(parsed.errors.map(({ line, path }) => [line, path]), [[4, 'appliance.managers'], [6, 'appliance.units[0].address'], [7, 'appliance.layout.min']]);
  t.notOk(checkApplianceDocument(null).ok);
  t.notOk(checkApplianceDocument({}).ok);
  t.notOk(loadAppliance('/no/such/file').ok);
  t.notOk(parseAppliance('appliance: [', 'a.yaml').ok);
});
