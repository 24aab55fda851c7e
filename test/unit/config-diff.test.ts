import t from 'tap';
import { describeChanges } from '../../src/config/diff.js';
import type { Configuration, PolicyConfig } from '../../src/config/configuration.js';
import { EXAMPLE, valid } from '../support/configuration.js';

t.test('what changed in a list of policies is told alike, whether the others are the same objects or equal ones', async (t) => {
  const base = valid(EXAMPLE);
  const [model] = base.policies;
  if (model === undefined) throw new Error('the example has policies');
  const made = (n: number, priority = 0): PolicyConfig => ({ ...model, name: `p${n}`, priority });
  const policies = Array.from({ length: 12 }, (_, i) => made(i));
  const of = (list: readonly PolicyConfig[]): Configuration => ({ ...base, policies: list });
  const edits: Record<string, readonly PolicyConfig[]> = {
    nothing: [...policies],
    'one changed': policies.with(5, made(5, 7)),
    'the first changed': policies.with(0, made(0, 7)),
    'the last changed': policies.with(11, made(11, 7)),
    'one added at the front': [made(99), ...policies],
    'one added in the middle': policies.toSpliced(6, 0, made(99)),
    'one added at the end': [...policies, made(99)],
    'the first removed': policies.slice(1),
    'one removed': policies.toSpliced(6, 1),
    'the last removed': policies.slice(0, -1),
    'all removed': [],
    'one replaced': policies.with(6, made(99)),
    'two exchanged': policies.with(3, policies[8] ?? model).with(8, policies[3] ?? model),
    'one moved to the end': [...policies.toSpliced(4, 1), policies[4] ?? model],
    'one moved and changed': [...policies.toSpliced(4, 1), made(4, 7)],
    'the front doubled in length': [...policies.slice(0, 6), made(50), made(51), ...policies.slice(6)],
  };
  for (const [what, list] of Object.entries(edits)) {
    const told = describeChanges(of(policies), of(list), 'keep');
    t.strictSame(told, describeChanges(of(policies), of(structuredClone(list) as PolicyConfig[]), 'keep'), `${what}: ${told.join('; ')}`);
    t.equal(told.length === 0, what === 'nothing', what);
  }
});
