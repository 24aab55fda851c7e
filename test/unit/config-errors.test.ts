import fc from 'fast-check';
import t from 'tap';
import { formatErrors } from '../../src/config/errors.js';
import { AT_LEAST_ONE_SERVICE } from '../../src/config/limits.js';
import { parseConfiguration } from '../../src/config/load.js';
import { nearest } from '../../src/config/nearest.js';
import { EXAMPLE, valid } from '../support/configuration.js';

function errorsOf(text: string): string[] {
  const loaded = parseConfiguration(text, 'weir.yaml');
  return loaded.ok ? [] : formatErrors(loaded.errors).split('\n');
}

const CAPTURE = 'captures: [{name: web, in: a, out: b}]\n';
const match = (text: string): string => `${CAPTURE}policies: [{name: p, action: drop, match: {${text}}}]`;
const instance = (text: string): string => `${CAPTURE}services: {s: {instances: [{name: i, address: ${text}}]}}`;
const DIRECT = `underlay: {interface: u}\n${CAPTURE}services: {s: {instances: []}}\nmesh: {key: {file: k}}\nchains: {c: {services: [s], return: mesh, exit: direct}}\n`;
const PORTS = 'a whole number from 0 to 65535 or a range such as "8000-8100", or a list of such';

// One error each: claim, document with ^ before the place that is wrong, path and message.
const WRONG: readonly (readonly [claim: string, marked: string, error: string])[] = [
  ['a misspelt protocol', match('protocol: ^tpc'), 'policies[0].match.protocol: expected one of tcp, udp, icmp, icmpv6 or a whole number from 0 to 254, or a list of such, found "tpc"'],
  ['a misspelt protocol in a list', match('protocol: [tcp, ^dup]'), 'policies[0].match.protocol[1]: expected one of tcp, udp, icmp, icmpv6, or a whole number from 0 to 254, found "dup"'],
  ['a protocol number that stands for any in a rule', match('protocol: ^255'), 'policies[0].match.protocol: expected one of tcp, udp, icmp, icmpv6 or a whole number from 0 to 254, or a list of such, found 255'],
  ['a port that is a name', match('destination_port: ^http'), `policies[0].match.destination_port: expected ${PORTS}, found "http"`],
  ['a port below 0', match('destination_port: ^-1'), `policies[0].match.destination_port: expected ${PORTS}, found -1`],
  ['half a range', match('source_port: [^80-]'), 'policies[0].match.source_port[0]: expected a whole number from 0 to 65535, or a range such as "8000-8100", found "80-"'],
  ['a range beyond the last port', match('source_port: ^1-70000'), 'policies[0].match.source_port: expected ports from 0 to 65535, found "1-70000"'],
  ['an empty list, which would match nothing', match('source: ^[]'), 'policies[0].match.source: expected at least one entry, found an empty list'],
  ['a prefix that is a number', match('source: ^10'), 'policies[0].match.source: expected an address or a prefix: 10.0.0.0/24, fd01::/64, or a list of such, found 10'],
  ['a VLAN beyond the last', match('vlan: [7, ^4095]'), 'policies[0].match.vlan[1]: expected a whole number from 0 to 4094, found 4095'],
  ['a direction of neither kind', match('direction: ^up'), 'policies[0].match.direction: expected out or in, or a list of such, found "up"'],
  ['a capture that is not there', match('capture: ^wbe'), 'policies[0].match.capture: there is no capture "wbe"; did you mean "web"?'],
  ['IPv6 host bits', match('source: ^"fd01::1/64"'), 'policies[0].match.source: "fd01::1/64" has bits set behind its length; did you mean fd01::/64?'],
  ['host bits of a mapped prefix, corrected as IPv4', match('source: ^"::ffff:10.0.0.1/104"'), 'policies[0].match.source: "::ffff:10.0.0.1/104" has bits set behind its length; did you mean 10.0.0.0/8?'],
  ['a short IPv4 form', match('source: ^10.1/16'), 'policies[0].match.source: expected an address or a prefix such as 10.0.0.0/24 or fd01::/64, found "10.1/16"'],
  ['an octal IPv4 form', match('source: ^010.0.0.0/8'), 'policies[0].match.source: expected an address or a prefix such as 10.0.0.0/24 or fd01::/64, found "010.0.0.0/8"'],
  ['neither chain nor action', `${CAPTURE}policies: [^{name: p, match: {}}]`, 'policies[0]: expected either "chain" or "action: pass | drop"'],
  ['a policy of a taken name', `${CAPTURE}policies: [{name: p, action: drop, match: {}}, {name: ^p, action: pass, match: {}}]`, 'policies[1].name: name "p" is already used by another policy'],
  ['an unspecified address', instance('^0.0.0.0'), 'services.s.instances[0].address: expected the address of one host, found "0.0.0.0", which is the unspecified address'],
  ['a multicast address', instance('^"ff02::1"'), 'services.s.instances[0].address: expected the address of one host, found "ff02::1", which is a multicast address'],
  ['an address with a zone', instance('^fe80::1%eth0'), 'services.s.instances[0].address: expected an IP address, found "fe80::1%eth0"'],
  ['an instance of a taken name', `${CAPTURE}services: {s: {instances: [{name: i, address: 10.0.0.1}, {name: ^i, address: 10.0.0.2}]}}`, 'services.s.instances[1].name: name "i" is already used by another instance of s'],
  ['an instance at the address of the tunnel itself', `underlay: {interface: u, address: 10.0.0.1}\n${CAPTURE}services: {s: {instances: [{name: i, address: ^10.0.0.1}]}}`, 'services.s.instances[0].address: address "10.0.0.1" is already used by the underlay'],
  ['a service that is on the chain', `underlay: {interface: u}\n${CAPTURE}services: {s: {instances: []}}\nchains: {c: {services: [s, ^s]}}`, 'chains.c.services[1]: service "s" is on this chain already; a chain visits each service once'],
  ['a service that is not there', `underlay: {interface: u}\n${CAPTURE}services: {firewall: {instances: []}}\nchains: {c: [^fierwall]}`, 'chains.c[0]: there is no service "fierwall"; did you mean "firewall"?'],
  ['a chain that is a number', `${CAPTURE}chains: {c: ^3}`, 'chains.c: expected a list, or a mapping, found 3'],
  ['a key that a chain does not have', `underlay: {interface: u}\n${CAPTURE}services: {s: {instances: []}}\nchains: {c: {services: [s], ^retrun: hub}}`, 'chains.c.retrun: unknown key; did you mean "return"?'],
  ['a chain of no service', `${CAPTURE}chains: {c: ^[]}`, `chains.c: expected ${AT_LEAST_ONE_SERVICE}, found an empty list`],
  ['a chain of no service, with options', `${CAPTURE}chains: {c: {services: ^[], answers: forwards}}`, `chains.c.services: expected ${AT_LEAST_ONE_SERVICE}, found an empty list`],
  ['a chain without services', `${CAPTURE}chains: {c: ^{encapsulation: nsh}}`, 'chains.c: the key "services" is missing'],
  ['an unusable name', `underlay: {interface: u}\n${CAPTURE}services: {s: {instances: []}}\nchains: {^"a b": [s]}`, 'chains.a b: expected a name of at most 63 letters, digits, ".", "_" and "-", found "a b"'],
  ['a tenant of two captures', 'captures: [{name: a, in: b, out: c, tenant: 7}, {name: d, in: e, out: f, tenant: ^7}]', 'captures[1].tenant: tenant 7 is already used by capture a'],
  ['two underlays on one interface', `underlay: [{name: a, interface: u}, {name: b, interface: ^u}]\n${CAPTURE}`, 'underlay[1].interface: interface "u" is already used by underlay a'],
  ['two underlays of one name', `underlay: [{name: a, interface: u}, {name: ^a, interface: v}]\n${CAPTURE}`, 'underlay[1].name: name "a" is already used by another underlay'],
  ['two underlays with one address', `underlay: [{name: a, interface: u, address: 10.0.0.1}, {name: b, interface: v, address: ^10.0.0.1}]\n${CAPTURE}`, 'underlay[1].address: address "10.0.0.1" is already used by underlay a'],
  ['one of several underlays without a name', `underlay: [^{interface: u}]\n${CAPTURE}`, 'underlay[0]: the key "name" is missing'],
  ['one of several underlays that is captured', 'underlay: [{name: x, interface: a}]\ncaptures: [{name: web, in: ^a, out: b}]', 'captures[0].in: interface "a" is already used by underlay x'],
  ['an underlay that is an interface of an attached instance', `underlay: [{name: x, interface: u}]\n${CAPTURE}services: {s: {instances: [{name: i, attach: {in: ^u, out: v}}]}}`, 'services.s.instances[0].attach.in: interface u is already used by underlay x'],
  ['an underlay that is a text', `underlay: ^eth0\n${CAPTURE}`, 'underlay: expected a mapping, or a list of such, found "eth0"'],
  ['no underlay in the list', `underlay: ^[]\n${CAPTURE}`, 'underlay: expected at least one entry, found an empty list'],
  ['an MTU that no IPv4 host has to take, of the second underlay', `underlay: [{name: a, interface: u}, {name: b, interface: v, mtu: ^500}]\n${CAPTURE}`, 'underlay[1].mtu: expected a whole number from 576 to 65535, found 500'],
  ['fragments where nothing is too long, of the second underlay', `underlay: [{name: a, interface: u, mtu: 9319, fragment: true}, {name: b, interface: v, mtu: 9320, fragment: ^true}]\n${CAPTURE}`, 'underlay[1].fragment: packets of up to 9216 bytes are fragmented, and with an MTU of 9320 all of these fit: take it out, or write the MTU that the underlay has'],
  ['fragments as a number', `underlay: {interface: u, fragment: ^1500}\n${CAPTURE}`, 'underlay.fragment: expected true or false, found 1500'],
  ['an instance on an underlay that is not there', `underlay: [{name: lan, interface: u}, {name: dmz, interface: v}]\n${CAPTURE}services: {s: {instances: [{name: i, address: 10.0.0.1, underlay: ^dzm}]}}`, 'services.s.instances[0].underlay: there is no underlay "dzm"; did you mean "dmz"?'],
  ['an instance that names the only underlay, which has no name', `underlay: {interface: u}\n${CAPTURE}services: {s: {instances: [{name: i, address: 10.0.0.1, underlay: ^u}]}}`, 'services.s.instances[0].underlay: there is one underlay, and it has no name: take this out, or make "underlay" a list with names'],
  ['an attached instance that names an underlay', `underlay: [{name: lan, interface: u}]\n${CAPTURE}services: {s: {instances: [{name: i, attach: {in: p, out: q}, underlay: ^lan}]}}`, 'services.s.instances[0].underlay: it is attached and gets no stamped packets, so no underlay leads to it: take "underlay" out'],
  ['an instance at the address of the second underlay', `underlay: [{name: a, interface: u}, {name: b, interface: v, address: 10.0.0.1}]\n${CAPTURE}services: {s: {instances: [{name: i, address: ^10.0.0.1}]}}`, 'services.s.instances[0].address: address "10.0.0.1" is already used by underlay b'],
  ['an underlay that is captured', 'underlay: {interface: a}\ncaptures: [{name: web, in: ^a, out: b}]', 'captures[0].in: interface "a" is already used by the underlay'],
  ['an interface name too long', 'captures: [{name: a, in: ^sixteen-letters-, out: c}]', 'captures[0].in: expected an interface name of at most 15 characters, found "sixteen-letters-"'],
  ['a duration of nothing', `${CAPTURE}flows: {idle: {tcp: ^0s}}`, 'flows.idle.tcp: expected a duration longer than 0, found "0s"'],
  ['a duration of ages', `${CAPTURE}flows: {idle: {tcp: ^9000h}}`, 'flows.idle.tcp: expected a duration of at most a year, found "9000h"'],
  ['a mode that YAML read as a number', `${CAPTURE}control: {mode: ^0660}`, 'control.mode: expected an octal mode in quotes, such as "0660", found 660'],
  ['a log level', `${CAPTURE}log: {level: ^loud}`, 'log.level: expected one of trace, debug, info, warn, error, found "loud"'],
  ['an alias of nothing', `${CAPTURE}default: ^*nope`, 'the alias *nope has no anchor &nope before it'],
  ['a tag that means nothing here', `${CAPTURE}default: ^!maybe pass`, 'Unresolved tag: !maybe'],
  ['a tab', 'captures:\n^\t- {name: a, in: b, out: c}', 'Tabs are not allowed as indentation'],
  ['nothing at all', '^', 'expected a mapping of keys such as captures, services, chains, policies; found null'],
  // What later versions bring.
  ['return: mesh', `underlay: {interface: u}\n${CAPTURE}services: {s: {instances: []}}\nchains: {c: {services: [s], return: ^mesh}}`, 'chains.c.return: a mesh chain needs service nodes that are known by a key: add `mesh: {key: {file: FILE}}`, and give it to them with --mesh-key'],
  ['exit: direct on a hub chain', `underlay: {interface: u}\n${CAPTURE}services: {s: {instances: []}}\nchains: {c: {services: [s], exit: ^direct}}`, 'chains.c.exit: only on a mesh chain does an instance know that it is the last one: add "return: mesh", or make it "exit: weir"'],
  ['an exit that is neither', `${DIRECT.replace('direct', '^out')}`, 'chains.c.exit: expected weir or direct, found "out"'],
  ['exit: direct for streams that anybody opens', `${DIRECT}policies: [{name: p, chain: c, match: ^{}}]`, 'policies[0].match: chain "c" has "exit: direct", which is for streams that the workload opens: add "direction: out", and give the others a chain without it'],
  ['exit: direct for streams that the network opens, in a named configuration', `${DIRECT}configurations: {night: {when: {time: {days: mon}}, policies: [{name: p, chain: c, match: {direction: ^[in, out]}}]}}`, 'configurations.night.policies[0].match.direction: chain "c" has "exit: direct", which is for streams that the workload opens: give the others a chain without it'],
  ['colour', `${CAPTURE}services: {s: {instances: [], ^colour: red}}`, 'services.s.colour: unknown key; known keys: instances, affinity, on_failure, fail, health, balancer, placement, scale, sync'],
];

for (const [claim, marked, error] of WRONG) {
  t.test(`refused: ${claim}`, async (t) => {
    const before = marked.slice(0, marked.indexOf('^')).split('\n');
    t.strictSame(errorsOf(marked.replace('^', '')), [`weir.yaml:${before.length}:${(before.at(-1)?.length ?? 0) + 1}: ${error}`]);
  });
}

t.test('two errors of one list are both told', async (t) => {
  t.match(errorsOf(match('destination_port: [http, 80, 9-8]')), [/destination_port\[0\]: expected a whole number/, /destination_port\[2\]: the range runs backwards/]);
});

t.test('aliases that would expand without end are refused, not expanded', async (t) => {
  const level = (name: string, of: string): string => `${name}: &${name} [${Array.from({ length: 9 }, () => of).join(', ')}]\n`;
  const bomb = level('a', 'x') + level('b', '*a') + level('c', '*b') + level('d', '*c') + level('e', '*d') + CAPTURE;
  t.match(errorsOf(bomb), ['weir.yaml:1:1: Excessive alias count indicates a resource exhaustion attack']);
});

t.test('an alias of something is what it stands for', async (t) => {
  t.strictSame(valid('captures: [{name: web, in: &x a, out: b}]\npolicies: [{name: p, action: drop, match: {source: &net [10.0.0.0/8], destination: *net}}]').policies[0]?.match.destinations, ['10.0.0.0/8']);
});

t.test('policies that would make too many rules are refused where they stand, at once', async (t) => {
  const prefixes = (first: number): string => `[${Array.from({ length: 1001 }, (_, i) => `${first}.${i >> 8}.${i & 255}.0/24`).join(', ')}]`;
  const begun = Date.now();
  t.match(errorsOf(match(`source: ${prefixes(10)}, destination: ${prefixes(11)}`)), [/^weir.yaml:2:43: policies\[0\].match: its alternatives, .* over 1000000 rules/]);
  t.ok(Date.now() - begun < 60_000, 'a million rules take minutes');
});

t.test('one underlay as a mapping, or several in a list with names', async (t) => {
  t.strictSame(valid(`underlay: {interface: u, mtu: 9000}\n${CAPTURE}`).underlays, [{ name: null, interface: 'u', address: null, mtu: 9000, fragment: false }]);
  const several = valid(`underlay: [{name: lan, interface: u}, {name: dmz, interface: v, address: "FD20::1", fragment: true}]\n${CAPTURE}services: {s: {instances: [{name: i, address: 10.0.0.1, underlay: dmz}, {name: j, address: 10.0.0.2}]}}`);
  t.strictSame(several.underlays, [{ name: 'lan', interface: 'u', address: null, mtu: null, fragment: false }, { name: 'dmz', interface: 'v', address: 'fd20::1', mtu: null, fragment: true }]);
  t.strictSame(several.services[0]?.instances.map(({ underlay }) => underlay), ['dmz', null]);
});

t.test('what is written in another way is the same', async (t) => {
  const both = valid(`${CAPTURE}policies: [{name: p, action: drop, match: {direction: [out, in]}}, {name: q, action: drop, match: {direction: [in]}}]`);
  t.strictSame(both.policies.map((policy) => policy.match.direction), [null, 'in']);
  t.equal(valid(instance('"FD01:0::0:1"')).services[0]?.instances[0]?.address, 'fd01::1');
  t.equal(valid(instance('"::ffff:10.0.0.1"')).services[0]?.instances[0]?.address, '10.0.0.1');
  const key = parseConfiguration(`${CAPTURE}affinity_key: {file: key}`, '/etc/weir/weir.yaml');
  t.equal(key.ok && key.configuration.affinityKeyFile, '/etc/weir/key', 'a path is relative to the document');
  t.strictSame(valid(`underlay: {interface: u}\nservices: {s: {instances: []}}\n${CAPTURE}encapsulation: geneve\nchains: {a: [s], b: {services: [s], encapsulation: nsh}}`).chains.map((chain) => chain.encapsulation), ['geneve', 'nsh']);
});

t.test('whatever stands in the document, there is an answer: valid, or at least one error with a place', async (t) => {
  // The example with one value replaced by another, of any shape.
  const spots = [...EXAMPLE.matchAll(/[a-z0-9./-]+(?=[,}\]\n])|\[[^\]]*\]|\{[^}]*\}/g)].map((found) => [found.index, found[0].length] as const);
  const values = ['null', '5', '-1', '1.5', 'text', '""', '[]', '{}', '[[]]', '[null]', '{a: {}}', '"a: b"', '*x', '&x 5', '!!int "5"', '!t 5', 'true', '2001-01-01', '? a', '- b', '<<: 5', '__proto__', '{__proto__: 5}', '{constructor: []}', 'y'.repeat(200)];
  fc.assert(
    fc.property(fc.constantFrom(...spots), fc.constantFrom(...values), fc.constantFrom(...spots), fc.constantFrom(...values), (one, oneValue, other, otherValue) => {
      let text = EXAMPLE;
      for (const [[at, length], value] of ([[one, oneValue], [other, otherValue]] as const).toSorted((a, b) => b[0][0] - a[0][0])) text = text.slice(0, at) + value + text.slice(at + length);
      const loaded = parseConfiguration(text, 'weir.yaml');
      return loaded.ok || (loaded.errors.length > 0 && loaded.errors.every((error) => error.line >= 1 && error.column >= 1 && error.message !== ''));
    }),
    { numRuns: 1500, seed: 2 },
  );
  t.pass('1500 documents');
});

t.test('a misspelt name is guessed where a guess is likely', async (t) => {
  const known = ['policies', 'captures', 'port', 'on_failure', 'destination_port'];
  const guesses = { polcies: 'policies', Policies: 'policies', prot: 'port', 'on-failure': 'on_failure', onFailure: 'on_failure', dest: 'destination_port', xyz: null, p: null };
  for (const [written, meant] of Object.entries(guesses)) t.equal(nearest(written, known), meant, written);
});
