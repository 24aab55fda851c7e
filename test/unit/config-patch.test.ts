import t from 'tap';
import { mergePatch } from '../../src/config/patch.js';
import { same, sharePolicies } from '../../src/config/share.js';

// RFC 7396, appendix A: original, patch, result.
const CASES: readonly (readonly [original: unknown, patch: unknown, result: unknown])[] = [
  [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
  [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
  [{ a: 'b' }, { a: null }, {}],
  [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
  [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
  [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
  [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
  [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
  [['a', 'b'], ['c', 'd'], ['c', 'd']],
  [{ a: 'b' }, ['c'], ['c']],
  [{ a: 'foo' }, null, null],
  [{ a: 'foo' }, 'bar', 'bar'],
  [{ e: null }, { a: 1 }, { e: null, a: 1 }],
  [[1, 2], { a: 'b', c: null }, { a: 'b' }],
  [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
];

t.test('merge patches do what RFC 7396 says', async (t) => {
  for (const [original, patch, result] of CASES) {
    const before = JSON.stringify(original);
    t.strictSame(mergePatch(original, patch), result, JSON.stringify(patch));
    t.equal(JSON.stringify(original), before, 'the original is as it was');
  }
  const hostile = mergePatch({}, JSON.parse('{"__proto__": {"polluted": true}}')) as Record<string, unknown>;
  t.notOk('polluted' in hostile, 'a member called __proto__ is a member');
  t.ok(Object.hasOwn(hostile, '__proto__'));
});

t.test('equal policies of a new document become the old objects, wherever they stand', async (t) => {
  const policy = (name: string, port = 1): object => ({ name, match: { destination_port: port }, action: 'drop' });
  const before = { policies: ['a', 'b', 'c', 'd'].map((name) => policy(name)) };
  const shared = (names: readonly string[]): unknown[] => sharePolicies(before, { policies: names.map((name) => policy(name)) })['policies'] as unknown[];
  t.equal(shared(['a', 'b', 'c', 'd']), before.policies, 'the whole list, if nothing changed');
  for (const names of [['x', 'a', 'b', 'c', 'd'], ['a', 'c', 'd'], ['d', 'c', 'b', 'a'], ['a', 'x', 'b', 'y', 'd'], [], ['a', 'b', 'c', 'd', 'e']]) {
    const after = shared(names);
    t.strictSame(after.map((one) => (one as { name: string }).name), names);
    for (const one of after) {
      const old = before.policies.find((candidate) => (candidate as { name: string }).name === (one as { name: string }).name);
      if (old !== undefined) t.equal(one, old);
    }
  }
  const changed = sharePolicies(before, { policies: [policy('a'), policy('b', 2), policy('c'), policy('d')] })['policies'] as unknown[];
  t.strictSame(changed.map((one, i) => one === before.policies[i]), [true, false, true, true]);
  t.strictSame(sharePolicies(before, { policies: 5 }), { policies: 5 });
  t.strictSame(sharePolicies(before, { policies: [null, 5, policy('a')] })['policies'], [null, 5, policy('a')]);
});

t.test('same() is equality of JSON', async (t) => {
  t.ok(same({ a: [1, { b: null }], c: 'x' }, { c: 'x', a: [1, { b: null }] }));
  for (const [a, b] of [[{ a: 1 }, { b: 1 }], [{ a: undefined }, {}], [[1], [1, 2]], [[], {}], [null, {}], [1, '1'], [{ a: 1 }, { a: 1, b: 2 }]]) t.notOk(same(a, b), JSON.stringify([a, b]));
});
