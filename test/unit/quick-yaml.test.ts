/** Whatever the quick reader reads, the whole parser reads the same; what large documents consist of, it does read. */
import { readFileSync, readdirSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { parseDocument, stringify } from 'yaml';
import { readQuickly } from '../../src/config/quick-yaml.js';
import { EXAMPLE, steerAll } from '../support/configuration.js';

/** What the whole parser makes of it; undefined if it complains. */
function wholly(text: string): unknown {
  const document = parseDocument(text, { uniqueKeys: true, prettyErrors: false });
  return document.errors.length + document.warnings.length > 0 ? undefined : document.toJS({ maxAliasCount: 100 });
}

const agrees = (text: string): boolean => {
  const quick = readQuickly(text);
  return quick === undefined || JSON.stringify(quick) === JSON.stringify(wholly(text));
};

t.test('documents as people write them are read quickly, and alike', async (t) => {
  const top = new URL('../../examples/', import.meta.url);
  const files = readdirSync(top).filter((name) => name.endsWith('.yaml')).map((name) => readFileSync(new URL(name, top), 'utf8'));
  const written = [
    EXAMPLE,
    steerAll(),
    'captures:\n  - name: web\n    in: a\n    out: b # a comment\nflows:\n    max: 5\n    idle: {tcp: 350s, other: 2m}\nchains:\n  a:\n  - x\n  - y\n  b: []\n',
    'policies:\n- {name: p, match: {source: ["fd01::/64", 10.0.0.0/8, 10.0.0.1], destination_port: [80, 8000-8100]}, action: drop}\n- name: q\n  priority: -5\n  match: {}\n  chain: a\n',
  ];
  for (const text of written) t.ok(readQuickly(text) !== undefined, text.slice(0, 60));
  for (const text of [...files, ...written]) t.ok(agrees(text));
});

t.test('what is not plain is left to the whole parser, or read as it reads it', async (t) => {
  const odd = [
    '', '#', 'a', '- a', 'a:', 'a: b: c', 'a:b', 'a: &x 1', 'a: *x', 'a: !!str 1', 'a: |\n  x', 'a: >\n x', 'a: "x\\n"', "a: 'it''s'", 'a: b\n c', 'a: b\n  c: d', 'a: 1\na: 2', '{a: 1, a: 2}', 'a: [1, 2', 'a: [1,, 2]', 'a: [1, 2,]', 'a: {b}', 'a: {b: }', 'a: {b:1}',
    '? a\n: b', 'a: 0x1f', 'a: 0o17', 'a: 017', 'a: 0660', 'a: 1e3', 'a: 1.5', 'a: .5', 'a: 5.', 'a: +5', 'a: -0', 'a: -', 'a: ~', 'a: .inf', 'a: .NaN', 'a: 1_000', 'a: 2001-01-01', 'a: 12:30:45', 'a: 1.2.3', 'a: 1e', 'a: 0e0', 'a: 00', 'a: 1.e5', 'a: 99999999999999999999', 'a: True', 'a: NULL', 'a: Yes', 'a: no',
    '--- \na: 1', 'a: 1\n---\nb: 2', '%YAML 1.2\n---\na: 1', 'a:\tb', '\ta: b', 'a: b\r\nc: d', '\ufeffa: 1', 'a: é', 'a: b#c', 'a: b #c', 'a: #c', 'a: "b"#c', 'a: "b" c', 'a: [1] 2', 'a: {}x', 'a: @b', 'a: `b', 'a: b]', 'a: -b', 'a: - b', '- - a', '- a: 1\n  b: 2\n- c: 3', '- a: 1\n b: 2', 'a:\n  b: 1\n c: 2', 'a:\n- 1\n- 2\nb: 3', 'a:\n  - 1\n - 2', '-  a: 1\n   b: 2', '- a:\n  - 1\n  b: 2', '- a:\n  b: 1', '<<: {a: 1}', '__proto__: 1', 'constructor: 1', 'a b: 1', '"a": 1', '1: 2', 'a: <<', 'a: ? b', 'a : 1', 'a: b :c', 'a: b: ', 'a: "x" : y', '[a: 1]', '{"a":1}', 'a: [[1, [2]], {b: [c]}]', 'a: x  ', 'a: x y  # z', "a: ''", 'a: ""', '- \n  a', '-\n- b', 'a: 1\n  # c\nb: 2', 'a: 10.0.0.0/8', 'a: 10.0.0.1', 'a: 1-2', 'a: 1-', 'a: 1/2', 'a: 1ff.', 'a: 12e3.4', 'a: 5m', 'a: 500ms',
  ];
  for (const text of odd) t.ok(agrees(text), JSON.stringify(text));
});

t.test('whatever stands in a document, both agree', async (t) => {
  const scalars = fc.oneof(
    fc.constantFrom('5', '-1', '0', '1.5', 'x', 'true', 'null', '10.0.0.0/8', '80-90', '"a b"', "'c'", 'fd01::/64', '"fd01::/64"', '5m', '0660', '- a', ': b', '# c', '*d', '1e5', 'a: b', '{', ']', '', ' ', '~', '-', '0x10', 'no', '.', '1.', '7.7.7', '1e5.0', '12-', '1.1e1'),
    fc.string({ maxLength: 6 }),
  );
  const lines = fc.array(fc.tuple(fc.nat(4), fc.constantFrom('', '- ', 'a: ', 'b: ', '- a: ', 'c:', '- b: ', '{a: ', '[', 'x: {y: ', 'x: ['), scalars, fc.constantFrom('', '', '', ']', '}', ', 2]', ', z: 1}', ' # c')), { minLength: 1, maxLength: 6 });
  fc.assert(fc.property(lines, (parts) => agrees(parts.map(([indent, head, scalar, tail]) => ' '.repeat(indent) + head + scalar + tail).join('\n'))), { numRuns: 20_000, seed: 4 });
  const json = fc.jsonValue({ maxDepth: 4 });
  for (const options of [{}, { flowCollectionPadding: false }, { indentSeq: false }, { collectionStyle: 'flow' as const, lineWidth: 0 }]) {
    fc.assert(fc.property(json, (value) => agrees(stringify({ a: value }, options))), { numRuns: 1500, seed: 5 });
  }
  t.pass('26,000 documents');
});
