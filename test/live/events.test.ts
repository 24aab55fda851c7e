/** `weir events` beside a real dataplane: links, changes and the process that asked for them. */
import { join } from 'node:path';
import t from 'tap';
import { Lab, ROOT, until } from '../support/lab.js';

const lab = await Lab.up();
t.teardown(() => lab.down());

await t.test('a link that goes and comes, a change with its author, a capture that fails', async (t) => {
  const weir = await lab.weir();
  const events = await lab.start('fwd', [process.execPath, join(ROOT, 'dist/cli/main.js'), 'events', '--socket', lab.socket, '--kinds', 'capture,instance,config'], /started/);
  const heard = (pattern: RegExp): Promise<void> => until(`an event ${pattern}`, () => pattern.test(events.output()));
  await lab.must('wl', 'ip', 'link', 'set', 'eth0', 'down');
  await heard(/capture {3}web \(in0\) is down: no carrier {2}\(weir\)$/m);
  await lab.must('wl', 'ip', 'link', 'set', 'eth0', 'up');
  await heard(/capture {3}web \(in0\) is up: carrier found/m);
  const drain = await lab.ctl('instance', 'down', 'firewall/fw-1');
  t.match(drain.stdout, /^generation \d+: instance firewall\/fw-1 is now down \(root, uid 0, pid \d+\)$/m);
  await heard(/instance {2}firewall\/fw-1 is now down {2}\(root, uid 0, pid \d+\)$/m);
  t.match(weir.output(), /"who":\{"name":"root","uid":0,"gid":0,"pid":\d+\}/);

  await lab.must('fwd', 'ip', 'link', 'delete', 'in0');
  await heard(/capture {3}web \(in0\) is down: the interface is gone {2}\(weir\)$/m);
  const [gone, follower] = await Promise.all([weir.stop(), events.ended]);
  t.equal(gone.code, 0, 'weir goes on without the interface, until it is told to end');
  t.match(follower, { code: 1, stderr: /the connection is lost: weir ended/ });
});
