import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { formatErrors } from '../../src/config/errors.js';
import { parseConfiguration } from '../../src/config/load.js';
import { BASE } from '../support/conditions.js';

function errorsOf(text: string): string[] {
  const loaded = parseConfiguration(text, 'weir.yaml');
  return loaded.ok ? [] : formatErrors(loaded.errors).split('\n');
}

const TESTS = 'time, load, healthy, streams, rate, switch, all, any, not';
const when = (text: string): string => `configurations: {x: {when: {${text}}, policies: []}}`;
const whole = (text: string): string => `configurations: {x: {${text}}}`;

// One error each: claim, what follows the base with ^ before the place that is wrong, path below `configurations.x.when` and message.
const WRONG: readonly (readonly [claim: string, marked: string, error: string])[] = [
  ['no test', `configurations: {x: {when: ^{}, policies: []}}`, `: expected one of ${TESTS}`],
  ['two tests', `configurations: {x: {when: ^{switch: manual, streams: {above: 1}}, policies: []}}`, ': expected exactly one test, found streams and switch; join several by all or any'],
  ['only for', `configurations: {x: {when: ^{for: 3s}, policies: []}}`, `: expected one of ${TESTS}`],
  ['a test that is not there', when('^tmie: {days: mon}, switch: manual'), '.tmie: unknown key; did you mean "time"?'],
  ['a condition that is a text', `configurations: {x: {when: ^always, policies: []}}`, ': expected a mapping, found "always"'],
  ['a zone that is not there', when('time: {days: mon, zone: ^Europe/Berln}'), '.time.zone: there is no time zone "Europe/Berln"; did you mean "Europe/Berlin"?'],
  ['an offset for a zone', when('time: {days: mon, zone: ^"+01:00"}'), '.time.zone: there is no time zone "+01:00"; a zone is named as IANA does: Europe/Berlin, America/New_York, UTC'],
  ['a window of nothing', when('time: ^{zone: UTC}'), '.time: expected days, hours or both'],
  ['a day that is not there', when('time: {days: ^monday}'), '.time.days: expected a day (mon, tue, wed, thu, fri, sat, sun) or a range such as mon-fri, found "monday"; did you mean "mon"?'],
  ['a range of days into nothing', when('time: {days: [tue, ^mon-]}'), '.time.days[1]: expected a day (mon, tue, wed, thu, fri, sat, sun) or a range such as mon-fri, found "mon-"'],
  ['a range of three days', when('time: {days: ^mon-wed-fri}'), '.time.days: expected a day or a range such as mon-fri, found "mon-wed-fri"'],
  ['no days', when('time: {days: ^[]}'), '.time.days: expected at least one entry, found an empty list'],
  ['hours of another form', when('time: {hours: ^8-18}'), '.time.hours: expected hours such as 08:00-18:00, found "8-18"'],
  ['an hour that is not there', when('time: {hours: [08:00-12:00, ^23:00-25:00]}'), '.time.hours[1]: there is no such time of day in "23:00-25:00": a window begins between 00:00 and 23:59 and ends between 00:00 and 24:00'],
  ['a minute that is not there', when('time: {hours: ^08:60-12:00}'), '.time.hours: there is no such time of day in "08:60-12:00": a window begins between 00:00 and 23:59 and ends between 00:00 and 24:00'],
  ['a begin at the end of the day', when('time: {hours: ^24:00-06:00}'), '.time.hours: there is no such time of day in "24:00-06:00": a window begins between 00:00 and 23:59 and ends between 00:00 and 24:00'],
  ['a window without length', when('time: {hours: ^08:00-08:00}'), '.time.hours: "08:00-08:00" ends when it begins; for a whole day write 00:00-24:00'],
  ['a load of nothing', when('load: ^{service: ids}'), '.load: expected exactly one of packets_per_second, streams, cpu'],
  ['two loads', when('load: ^{service: ids, streams: {above: 1}, cpu: {above: 1}}'), '.load: expected exactly one of packets_per_second, streams, cpu, found streams and cpu'],
  ['a load without a service', when('load: ^{streams: {above: 1}}'), '.load: the key "service" is missing'],
  ['a service that is not there', when('load: {service: ^isd, streams: {above: 1}}'), '.load.service: there is no service "isd"; did you mean "ids"?'],
  ['healthy instances of one', when('healthy: {service: ^nope, above: 1}'), '.healthy.service: there is no service "nope"; there are: firewall, ids'],
  ['a capture that is not there', when('rate: {capture: ^wbe, bits_per_second: {above: 1}}'), '.rate.capture: there is no capture "wbe"; did you mean "web"?'],
  ['a switch that is not there', when('switch: ^manuel'), '.switch: there is no switch "manuel"; did you mean "manual"?'],
  ['a threshold of nothing', when('streams: ^{}'), '.streams: expected above: N or below: N'],
  ['a threshold of both', when('streams: ^{above: 1, below: 5}'), '.streams: expected either above or below; for a range, join two conditions by all'],
  ['below nothing', when('healthy: {service: ids, below: ^0}'), '.healthy.below: nothing is ever below 0'],
  ['a limit below nothing', when('streams: {above: ^-1}'), '.streams.above: expected a whole number from 0 to 1000000000000000, found -1'],
  ['a limit that is a text', when('streams: {above: ^many}'), '.streams.above: expected a whole number from 0 to 1000000000000000, found "many"'],
  ['an empty all', when('all: ^[]'), '.all: expected at least one entry, found an empty list'],
  ['a test in an any', when('any: [{switch: manual}, {not: {switch: ^nope}}]'), '.any[1].not.switch: there is no switch "nope"; there are: manual, armed'],
  ['for of no unit', when('switch: manual, for: ^30'), '.for: expected a duration with its unit, such as 500ms, 350s, 5m or 2h, found 30'],
  ['for of nothing', when('switch: manual, for: ^0s'), '.for: expected a duration longer than 0, found "0s"'],
  ['for of ages', when('not: {switch: manual, for: ^9000h}'), '.not.for: expected a duration of at most a year, found "9000h"'],
  ['until of nothing', when('switch: manual, until: ^{}'), `.until: expected above, below, or one of ${TESTS}`],
  ['until of both', when('streams: {above: 5}, until: ^{below: 3, switch: manual}'), '.until: expected exactly one test, found switch and a threshold; join several by all or any'],
  ['until on the same side', when('streams: {above: 5}, until: ^{above: 3}'), '.until: a condition that begins above a limit ends below one'],
  ['until that holds when it begins', when('streams: {above: 5}, until: {below: ^7}'), '.until.below: between 5 and 7 it would begin and end at once; expected at most 6'],
  ['the same the other way round', when('rate: {capture: web, bits_per_second: {below: 5}}, until: {above: ^4}'), '.until.above: between 4 and 5 it would begin and end at once; expected at least 5'],
  ['a threshold for what has none', when('switch: manual, until: ^{below: 5}'), '.until: a bare threshold goes with a condition that has one itself; name what is measured'],
  ['above 10 and below 5', when('all: [{streams: {above: 10}}, ^{streams: {below: 5}}]'), '.all[1]: below 5 contradicts above 10 before it, so this "all" never holds'],
  ['nothing between two whole numbers', when('all: [{healthy: {service: ids, above: 1}}, ^{healthy: {service: ids, below: 2}}]'), '.all[1]: below 2 contradicts above 1 before it, so this "all" never holds'],
  ['above and not above', when('all: [{streams: {above: 5}}, {not: ^{streams: {above: 5}}}]'), '.all[1].not: not above 5 contradicts above 5 before it, so this "all" never holds'],
  ['over a nested all', when('all: [{load: {service: ids, streams: {below: 5}}}, {all: [{switch: manual}, ^{load: {service: ids, streams: {above: 9}}}]}]'), '.all[1].all[1]: above 9 contradicts below 5 before it, so this "all" never holds'],
  ['in an all of an any', when('any: [{switch: manual}, {all: [{streams: {above: 10}}, ^{streams: {below: 5}}]}]'), '.any[1].all[1]: below 5 contradicts above 10 before it, so this "all" never holds'],
  ['in what ends it', when('switch: manual, until: {all: [{streams: {above: 10}}, ^{streams: {below: 5}}]}'), '.until.all[1]: below 5 contradicts above 10 before it, so this "all" never holds'],
  ['a switch that is on and off', when('all: [{switch: manual}, {not: ^{switch: manual}}]'), '.all[1].not: switch manual can\'t be on and off at one time, so this "all" never holds'],
  ['windows that never meet', when('all: [{time: {days: mon-fri}}, {time: ^{days: [sat, sun]}}]'), '.all[1].time: two windows that never meet, so this "all" never holds'],
  ['hours that never meet', when('all: [{time: {hours: 22:00-06:00}}, {time: ^{hours: 06:00-22:00}}]'), '.all[1].time: two windows that never meet, so this "all" never holds'],
];

for (const [claim, marked, error] of WRONG) {
  t.test(`refused: ${claim}`, async (t) => {
    const text = BASE + marked;
    const before = text.slice(0, text.indexOf('^')).split('\n');
    t.strictSame(errorsOf(text.replace('^', '')), [`weir.yaml:${before.length}:${(before.at(-1)?.length ?? 0) + 1}: configurations.x.when${error}`]);
  });
}

const AROUND: readonly (readonly [claim: string, marked: string, error: string])[] = [
  ['no condition', 'configurations: {x: ^{policies: []}}', 'configurations.x: the key "when" is missing'],
  ['no policies', 'configurations: {x: ^{when: {switch: manual}}}', 'configurations.x: the key "policies" is missing'],
  ['a priority of half', whole('priority: ^0.5, when: {switch: manual}, policies: []'), 'configurations.x.priority: expected a whole number from -1000000 to 1000000, found 0.5'],
  ['a name of another form', 'configurations: {^"a b": {when: {switch: manual}, policies: []}}', 'configurations.a b: expected a name of at most 63 letters, digits, ".", "_" and "-", found "a b"'],
  ['a name twice', 'configurations: [{name: x, when: {switch: manual}, policies: []}, {name: ^x, when: {switch: armed}, policies: []}]', 'configurations[1].name: name "x" is already used by another configuration'],
  ['no name in a list', 'configurations: [^{when: {switch: manual}, policies: []}]', 'configurations[0]: the key "name" is missing'],
  ['neither a list nor a mapping', 'configurations: ^5', 'configurations: expected a list, or a mapping, found 5'],
  ['a chain that is not there', whole('when: {switch: manual}, policies: [{name: p, match: {}, chain: ^inspcet}]'), 'configurations.x.policies[0].chain: there is no chain "inspcet"; did you mean "inspect"?'],
  ['a policy without an action', whole('when: {switch: manual}, policies: [^{name: p, match: {}}]'), 'configurations.x.policies[0]: expected either "chain" or "action: pass | drop"'],
  ['a protocol that is not there', whole('when: {switch: manual}, policies: [{name: p, match: {protocol: [^tpc]}, action: drop}]'), 'configurations.x.policies[0].match.protocol[0]: expected one of tcp, udp, icmp, icmpv6, or a whole number from 0 to 254, found "tpc"'],
  ['two policies of a name', whole('when: {switch: manual}, policies: [{name: p, match: {}, action: drop}, {name: ^p, match: {}, action: pass}]'), 'configurations.x.policies[1].name: name "p" is already used by another policy'],
  ['damping of some kind', whole('when: {switch: manual}, damping: ^much, policies: []'), 'configurations.x.damping: expected on or off, found "much"'],
];

for (const [claim, marked, error] of AROUND) {
  t.test(`refused: ${claim}`, async (t) => {
    const text = BASE + marked;
    const before = text.slice(0, text.indexOf('^')).split('\n');
    t.strictSame(errorsOf(text.replace('^', '')), [`weir.yaml:${before.length}:${(before.at(-1)?.length ?? 0) + 1}: ${error}`]);
  });
}

t.test('refused: a switch in a position that is none', async (t) => {
  t.strictSame(errorsOf(BASE.replace('manual: off', 'manual: 5')), ['weir.yaml:9:20: switches.manual: expected on or off, found 5']);
});

t.test('refused: conditions that lie too deep', async (t) => {
  const deep = `${'{not: '.repeat(17)}{switch: manual}${'}'.repeat(17)}`;
  t.match(errorsOf(`${BASE}configurations: {x: {when: ${deep}, policies: []}}`), [/^weir.yaml:10:[0-9]+: configurations\.x\.when(\.not){16}: conditions lie at most 16 deep/]);
});

t.test('all errors are told at once', async (t) => {
  const text = `${BASE}configurations: {x: {when: {all: [{time: {days: mno, zone: Mars/Base}}, {load: {service: nope, cpu: {above: 5}}, for: 1d}]}, policies: [{name: p, match: {source: 10.1/8}, chain: nope}]}}`;
  t.equal(errorsOf(text).length, 6);
});

t.test('whatever stands in the document, there is an answer: valid, or at least one error with a place', async (t) => {
  const example = readFileSync(new URL('../../examples/conditions.yaml', import.meta.url), 'utf8').replace(/#.*/g, '');
  // The example with one or two values replaced by others, of any shape.
  const spots = [...example.matchAll(/"[^"]*"|[a-zA-Z0-9./-]+(?=[,}\]\n])|\[[^\]]*\]|\{[^{}]*\}/g)].map((found) => [found.index, found[0].length] as const);
  const values = ['null', '5', '-1', '1.5', 'text', '""', '[]', '{}', '[[]]', '[null]', '{a: {}}', 'true', 'off', '08:00-18:00', 'mon-fri', '{above: 5}', '{below: null}', '[{switch: 5}]', '{__proto__: 5}', '{constructor: []}', '{switch: incident}', '{all: [{all: null}, {not: 5}]}', '{time: {days: [5], zone: 7}}'];
  fc.assert(
    fc.property(fc.constantFrom(...spots), fc.constantFrom(...values), fc.constantFrom(...spots), fc.constantFrom(...values), (one, oneValue, other, otherValue) => {
      let text = example;
      for (const [[at, length], value] of ([[one, oneValue], [other, otherValue]] as const).toSorted((a, b) => b[0][0] - a[0][0])) text = text.slice(0, at) + value + text.slice(at + length);
      const loaded = parseConfiguration(text, 'weir.yaml');
      return loaded.ok || (loaded.errors.length > 0 && loaded.errors.every((error) => error.line >= 1 && error.column >= 1 && error.message !== ''));
    }),
    { numRuns: 1500, seed: 5 },
  );
  t.pass('1500 documents');
});

t.test('what can hold is not refused', async (t) => {
  const possible = [
    'all: [{streams: {above: 5}}, {streams: {below: 7}}]',
    'all: [{rate: {capture: web, bits_per_second: {above: 5}}}, {rate: {capture: web, bits_per_second: {below: 6}}}]',
    'all: [{load: {service: ids, streams: {above: 9}}}, {load: {service: firewall, streams: {below: 5}}}]',
    'all: [{load: {service: ids, streams: {above: 9}}}, {load: {service: ids, packets_per_second: {below: 5}}}]',
    'all: [{streams: {above: 10}, until: {below: 2}}, {streams: {below: 5}}]',
    'any: [{streams: {above: 10}}, {streams: {below: 5}}]',
    'all: [{time: {days: fri, hours: 22:00-06:00}}, {time: {days: sat}}]',
    'all: [{time: {days: mon, zone: UTC}}, {time: {days: tue, zone: Asia/Tokyo}}]',
    'all: [{switch: manual}, {not: {switch: armed}}]',
    'all: [{streams: {above: 10}}, {not: {streams: {above: 5}, for: 1m}}]',
    'streams: {above: 5}, until: {below: 6}',
    'healthy: {service: ids, below: 2}, until: {above: 1}',
    'not: {all: [{switch: manual}, {switch: armed}]}',
  ];
  for (const text of possible) t.strictSame(errorsOf(BASE + when(text)), [], text);
});
