/** `weir top` beside a real weir: printed once, and drawn on a terminal that somebody presses q on. */
import t from 'tap';
import { Lab, ROOT, until } from '../support/lab.js';

const lab = await Lab.up();
t.teardown(() => lab.down());
const TOP = [process.execPath, `${ROOT}/dist/cli/main.js`, 'top', '--socket', lab.socket];

await t.test('a real weir, once and live', async (t) => {
  const nodes = await lab.nodes('pass', ['fw1', 'fw2']);
  const weir = await lab.weir({ chain: ['firewall'] });
  const receiver = await lab.start('net', ['python3', `${ROOT}/test/support/numbered.py`, 'receive', '10.2.0.2', '9999'], /ready/);
  const sender = await lab.start('wl', ['python3', `${ROOT}/test/support/numbered.py`, 'many', '10.2.0.2', '9999', '42000', '50', '20'], /ready/);
  await until('streams', async () => (await lab.ask<{ streams: { active: number } }>('status')).streams.active >= 50);

  const { stdout, code } = await lab.ctl('top', '--once', '--interval', '500ms');
  t.equal(code, 0);
  t.match(stdout, /^weir \d+ {2}up \d+ s/);
  t.match(stdout, /^inspect +firewall +5\d +[1-9]/m, 'streams and a rate');
  t.match(stdout, /^firewall\/fw-1 +up +[#.]{10}/m);
  t.notMatch(stdout, /\x1b/, 'plain where it is no terminal');
  t.match(JSON.parse((await lab.ctl('top', '--json', '--interval', '100ms')).stdout), { before: { status: { pid: weir.child.pid } }, now: { services: Array } });

  // A pseudo terminal of 100 x 30; what is typed comes from a pipe that stays open until it is to be pressed.
  const press = `${lab.directory}/press`;
  const live = await lab.start('fwd', ['sh', '-c', `mkfifo ${press} && exec 3<>${press} && exec script -qec "stty rows 30 cols 100; exec ${TOP.join(' ')} --interval 200ms" /dev/null <&3`], /firewall\/fw-2/);
  t.match(live.output(), /\x1b\[\?1049h/, 'on a screen of its own');
  const drawn = live.output().length;
  await until('it to be drawn again', () => /streams 5\d of/.test(live.output().slice(drawn)));

  await weir.stop();
  await until('it to say that weir is gone', () => /trying again; q ends this/.test(live.output()));
  const again = await lab.weir({ chain: ['firewall'] });
  const back = live.output().length;
  await until('it to be back', () => live.output().slice(back).includes(`weir ${again.child.pid}`));

  await lab.must('fwd', 'sh', '-c', `printf q > ${press}`);
  const { code: ended } = await live.ended;
  t.equal(ended, 0);
  t.match(live.output(), /\x1b\[\?25h\x1b\[\?1049l/, 'the screen is given back');
  await Promise.all([sender.stop(), receiver.stop()]);
  await again.stop();
  await Promise.all(nodes.map((node) => node.stop()));
  const nobody = await lab.ctl('top');
  t.equal(nobody.code, 1);
  t.match(nobody.stderr, /is weir running\?/);
});
