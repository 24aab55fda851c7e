/** Lists that differ in little from the one before: the same results as made anew, and few of them made. */
import t from 'tap';
import { KeptEnds } from '../../src/config/kept-ends.js';

interface Item {
  readonly n: number;
}
const items = (...numbers: number[]): Item[] => numbers.map((n) => ({ n }));

t.test('one in the middle is replaced, put in, taken out: one is made', async (t) => {
  let made = 0;
  const kept = new KeptEnds(({ n }: Item) => {
    made++;
    return { twice: 2 * n };
  });
  const ten = items(0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
  const first = kept.map(ten);
  t.equal(made, 10);
  const [five] = items(50);
  const second = kept.map(ten.with(5, five as Item));
  t.equal(made, 11);
  t.strictSame(second.map(({ twice }) => twice), [0, 2, 4, 6, 8, 100, 12, 14, 16, 18]);
  t.equal(second[9], first[9]);
  t.equal(first[5]?.twice, 10, 'what was given out stays as it was');
  t.strictSame(kept.map(ten.toSpliced(5, 1)).map(({ twice }) => twice), [0, 2, 4, 6, 8, 12, 14, 16, 18]);
  t.equal(made, 11);
  t.equal(kept.map(ten).length, 10);
  t.equal(made, 12);
  t.strictSame(kept.map([]), []);
});

t.test('any list after any other', async (t) => {
  const pool = items(...Array.from({ length: 6 }, (_, i) => i));
  const kept = new KeptEnds(({ n }: Item) => n);
  let seed = 1;
  const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
  for (let round = 0; round < 2000; round++) {
    const list = Array.from({ length: random(8) }, () => pool[random(pool.length)] as Item);
    const [found, wanted] = [kept.map(list), list.map(({ n }) => n)];
    if (found.length !== wanted.length || found.some((n, i) => n !== wanted[i])) return t.strictSame(found, wanted, `round ${round}`);
  }
  t.pass('2,000 lists');
});
