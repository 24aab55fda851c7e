/** When a node puts a service map in force, and what it asks the kernel for before. */
import t from 'tap';
import type { NativeMeshMap } from '../../src/dataplane/native-node.js';
import { Neighbours } from '../../src/dataplane/neighbours.js';
import { InstalledMap } from '../../src/service/installed-map.js';
import { until } from '../support/lab.js';
import { content, session } from '../support/mesh-wire.js';

const RUNS = ['a/a1', 'a/a2', 'b/b1'].map((key, i) => ({ key, address: `10.20.0.${10 + i}`, session: session(i + 1) }));

function installed(known: readonly string[]): { readonly map: InstalledMap; readonly done: string[]; readonly maps: NativeMeshMap[]; readonly macs: Map<string, string> } {
  const done: string[] = [];
  const maps: NativeMeshMap[] = [];
  const macs = new Map(known.map((address, i) => [address, `02:00:00:00:00:0${i}`]));
  let found = new Map<string, string>();
  const map = new InstalledMap({
    service: 'a',
    address: '10.20.0.10',
    controller: { address: '10.20.0.1' },
    ownMac: () => '02:00:00:00:00:aa',
    neighbours: {
      refresh: (destinations) => {
        done.push(`looked for ${destinations.length}`);
        found = new Map(macs);
        return true;
      },
      macOf: (address) => found.get(address) ?? null,
    },
    node: {
      installMap: (made) => {
        if (made === null) return;
        maps.push(made);
        done.push(`version ${made.version}`);
      },
      unreachable: () => [],
    },
  });
  return { map, done, maps, macs };
}

t.test('a map that came is in force before anything is looked for', async (t) => {
  const { map, done, maps, macs } = installed(['10.20.0.1', ...RUNS.map(({ address }) => address)]);
  t.teardown(() => map.close());
  map.install({ ...content(RUNS), version: 1 });
  await until('the link addresses to be known', () => maps.at(-1)?.instances.every(({ mac }) => mac !== null) === true);
  done.length = 0;
  map.install({ ...content(RUNS.slice(0, 2)), version: 2 });
  t.strictSame(done, ['version 2'], 'an instance has failed: nobody is asked for anything');
  t.ok(maps.at(-1)?.instances.every(({ mac }) => mac !== null), 'and those that are left can be reached');

  macs.set('10.20.0.13', '02:00:00:00:00:0f');
  map.install({ ...content([...RUNS, { key: 'b/b2', address: '10.20.0.13', session: session(9) }]), version: 3 });
  t.strictSame(done, ['version 2', 'version 3']);
  t.equal(maps.at(-1)?.instances.at(-1)?.mac, null, 'one that is new');
  await until('it to be found', () => maps.at(-1)?.instances.at(-1)?.mac === '02:00:00:00:00:0f');
});

t.test('the kernel is asked for the links once a look, not for each link address', (t) => {
  let asked = 0;
  const neighbours = new Neighbours(() => {
    asked++;
    return [{ index: 1, name: 'lo', loopback: true }];
  });
  for (let i = 0; i < 50; i++) t.equal(neighbours.macOf(`10.20.0.${i}`), '00:00:00:00:00:00');
  t.equal(asked, 1);
  neighbours.refresh([{ address: '10.20.0.1' }]);
  t.ok(asked <= 2);
  t.end();
});
