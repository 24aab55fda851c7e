/** Who may do what on the control socket, and how much of it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { accessOf, groupId, mayCall, socketMode, type Access, type Admission } from '../../src/control/access.js';
import { METHODS } from '../../src/control/methods.js';
import { Pace } from '../../src/control/pace.js';
import { MOST_CONNECTIONS_OF_USER, Users } from '../../src/control/users.js';
import { Who } from '../../src/observe/who.js';

const WEIR_USER = 990;
const WEIR_GROUP = 990;
const READERS = 1500;
const admission: Admission = { readOnlyGroup: READERS, mode: 0o660, user: WEIR_USER, group: WEIR_GROUP };

t.test('user, groups and mode decide', async (t) => {
  const rows: readonly (readonly [claim: string, uid: number | null, groups: readonly number[], more: Partial<Admission>, expected: Access])[] = [
    ['root may do all', 0, [0], {}, 'all'],
    ['so may the user that weir runs as', WEIR_USER, [1], {}, 'all'],
    ["so may who is in weir's group", 1000, [1000, WEIR_GROUP], {}, 'all'],
    ['unless the mode keeps the group out', 1000, [1000, WEIR_GROUP], { mode: 0o600 }, 'none'],
    ['readers may read', 1000, [1000, READERS], {}, 'read'],
    ['also by their first group', 1000, [READERS], {}, 'read'],
    ['who is in both may do all', 1000, [1000, READERS, WEIR_GROUP], {}, 'all'],
    ['anybody else may nothing', 1000, [1000, 4, 27], {}, 'none'],
    ['unless the mode lets everybody in', 1000, [1000], { mode: 0o666 }, 'all'],
    ['whom the kernel does not name may nothing', null, [], {}, 'none'],
    ['without a read-only group whoever got in may do all', 1000, [1000], { readOnlyGroup: null }, 'all'],
  ];
  for (const [claim, uid, groups, more, expected] of rows) t.equal(accessOf({ who: new Who('x', uid), groups }, { ...admission, ...more }), expected, claim);
  t.equal(socketMode({ mode: 0o660, readOnlyGroup: null }), 0o660);
  t.equal(socketMode({ mode: 0o660, readOnlyGroup: READERS }), 0o666);
});

t.test('who may read may call nothing that changes or that tells the key', async (t) => {
  const readable = Object.keys(METHODS).filter((method) => mayCall('read', method)).sort();
  t.strictSame(readable, ['chains', 'conditions', 'config.get', 'events', 'flows', 'load', 'metrics', 'services', 'stats', 'status', 'steer.list', 'subscribe', 'trace', 'unsubscribe']);
  t.ok(Object.keys(METHODS).every((method) => mayCall('all', method) && !mayCall('none', method)));
  t.notOk(mayCall('read', 'a method of tomorrow'));
});

t.test('groups by name and number', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weir-groups-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'group');
  writeFileSync(file, 'root:x:0:\nweir-read:x:1500:alice,bob\nweir:x:990:\n');
  t.equal(groupId('weir-read', file), 1500);
  t.equal(groupId('weir', file), 990);
  t.equal(groupId('1234', file), 1234);
  t.equal(groupId('nobody-has-this', file), null);
  t.equal(groupId('weir', join(directory, 'none')), null);
});

t.test('requests beyond the pace wait, in proportion to what is owed, and a pause pays it back', async (t) => {
  let now = 0;
  const pace = new Pace(100, 10, () => now);
  for (let i = 0; i < 10; i++) t.equal(pace.take(), 0);
  t.equal(pace.take(), 10);
  t.equal(pace.take(), 20);
  t.notOk(pace.rested);
  now = 20;
  t.equal(pace.take(), 10);
  pace.owe(5);
  t.equal(pace.take(), 70, 'a long answer counts as several');
  now = 10_000;
  t.ok(pace.rested);
  for (let i = 0; i < 10; i++) t.equal(pace.take(), 0, 'never more than the burst');
  t.not(pace.take(), 0);
});

t.test('a user has a number of connections, and one pace for all of them', async (t) => {
  const users = new Users();
  const entered = Array.from({ length: MOST_CONNECTIONS_OF_USER }, () => users.enter(1000, 'read', false));
  t.ok(entered.every((user) => user !== null && user.pace === entered[0]?.pace));
  t.equal(users.enter(1000, 'read', false), null, 'one too many');
  t.ok(users.enter(1001, 'read', false), 'another user is not concerned');
  t.ok(users.enter(1000, 'read', true), 'nor is who may have all');
  const spent = entered[0]?.pace;
  while (spent?.take() === 0);
  for (const user of entered) user?.leave();
  t.equal(users.enter(1000, 'read', false)?.pace, spent, 'who has spent all does not get it anew by connecting again');
});
