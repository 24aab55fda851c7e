/** `weir run --takeover` under traffic: what it must not lose, and that a takeover which fails is none. */
import t from 'tap';
import { Lab, ROOT, until, type Running } from '../support/lab.js';
import { prove } from '../support/proof.js';
import { Streams, seconds, serviceOf } from '../support/streams.js';

const lab = await Lab.up();
t.teardown(() => lab.down());
await Streams.first(await lab.nodes('pass'));
const streams = new Streams(lab);

await t.test('a takeover under traffic: nothing is lost, doubled or reordered, no connection reset, and every stream stays', async (t) => {
  const { weir, again } = await streams.beginWithOne();
  const [begin, taken] = [await streams.arrived(), await streams.taken()];
  const old = await streams.datagrams(7003, 32_000);
  const tcp = await streams.bulk();
  await streams.changeUnderneath();
  const whole = await streams.captureAll();
  let now = weir;
  const gone: Running[] = [];
  for (const turn of ['first', 'second']) {
    await streams.more(1000);
    const next = await again('--takeover');
    t.match(next.output(), /took over from process \d+: packets waited [\d.]+ ms/);
    t.comment(/took over from process[^"]*/.exec(next.output())?.[0]);
    t.equal(Number(/took over from process (\d+)/.exec(next.output())?.[1]), now.child.pid);
    t.equal((await now.ended).code, 0, `the ${turn} one ends well: ${now.output().slice(-300)}`);
    t.match(now.output(), /handed over to process/);
    gone.push(now);
    now = next;
  }
  const at = seconds(tcp.running);
  await until('TCP to go on', () => seconds(tcp.running) > at + 2, 30_000);
  const { sent, received, twice, disorder, holes } = await old.stop();
  t.strictSame({ twice, disorder }, { twice: 0, disorder: 0 });
  await tcp.stop();
  t.comment(`${sent - received} of ${sent} datagrams did not arrive; holes begin at ${holes.join(', ')}`);
  // Instances, too, lose some on a machine that has no time for them. What the three weirs had in their hands together is exact.
  await until('each frame to be in just one weir\'s hands', async () => {
    const [arrived, had] = [await streams.arrived(), await streams.taken(gone)];
    return arrived.every((frames, side) => frames - (begin[side] ?? 0) === (had[side] ?? 0) - (taken[side] ?? 0));
  });
  const known = await streams.paths();
  const proof = prove(await whole.stop(), known, serviceOf);
  // Packets that were between two hops when the captures began have no first one.
  t.strictSame(proof.violations.filter((violation) => !violation.includes('without hop')).slice(0, 3), []);
  t.ok(proof.packets > 2000);
  t.match(await lab.ask('status'), { pid: now.child.pid });
  t.match((await lab.ctl('chain', 'set', 'inspect', 'firewall', '--existing', 'move')).code, 0, 'it can be changed');
  t.match(await lab.ping('wl', '10.2.0.2'), / 0% packet loss/);
  t.equal((await now.stop()).code, 0);
  const { code } = await lab.exec('fwd', 'test', '-e', lab.socket);
  t.equal(code, 1, 'the control socket is gone with the last one');
});

await t.test('a takeover that can not be: the running one goes on as if nothing had been', async (t) => {
  const { weir, again } = await streams.beginWithOne();
  const [begin, taken] = [await streams.arrived(), await streams.taken()];
  const old = await streams.datagrams(7004, 33_000);
  // Dies at the worst moment: it has everything, packets have stopped, and it has not yet said that it goes on.
  const script = `
    import { ControlClient } from '${ROOT}/dist/control/client.js';
    import { native } from '${ROOT}/dist/dataplane/native.js';
    const client = await ControlClient.connect('${lab.socket}');
    const { generation } = await client.call('status');
    const name = 'weir-takeover-' + 'ab'.repeat(16);
    const listening = native.Channel.listen(name);
    client.call('takeover', { channel: name, generation }).catch((error) => console.log('refused: ' + error.message));
    const channel = await listening.accept(5000);
    await channel.receive(5000);
    if (process.argv[1] !== 'early') { channel.send('ready'); console.log('paused ' + (await channel.receive(5000)).text.length); }
    process.kill(process.pid, 'SIGKILL');
  `;
  for (const when of ['early', 'late']) {
    const { stdout } = await lab.exec('fwd', process.execPath, '--input-type=module', '-e', script, when);
    t.equal(/paused/.test(stdout), when === 'late', when);
  }
  await until('the running one to say that it goes on', () => /the takeover by .* failed, this weir goes on/.test(weir.output()));
  await streams.more(1000);
  const wrong = await lab.ctl('ctl', 'takeover', JSON.stringify({ channel: `weir-takeover-${'cd'.repeat(16)}`, generation: 1 }));
  t.match(wrong, { code: 1, stderr: /generation/ });
  const { generation } = await lab.ask<{ generation: number }>('status');
  t.match(await lab.ctl('ctl', 'takeover', JSON.stringify({ channel: `weir-takeover-${'cd'.repeat(16)}`, generation })), { code: 1, stderr: /nobody waits/ });
  t.match(await lab.ctl('instance', 'add', 'ids/ids-2', '10.21.0.22'), { code: 0 });
  const { sent, received, twice, disorder, holes } = await old.stop();
  t.comment(`${sent - received} of ${sent} datagrams did not arrive; holes begin at ${holes.join(', ')}`);
  t.strictSame({ twice, disorder }, { twice: 0, disorder: 0 });
  await until('each frame to be in its hands', async () => {
    const [arrived, had] = [await streams.arrived(), await streams.taken()];
    return arrived.every((frames, side) => frames - (begin[side] ?? 0) === (had[side] ?? 0) - (taken[side] ?? 0));
  });
  // A plain start beside it is refused as ever, and does no harm to the table.
  const beside = await lab.exec('fwd', process.execPath, `${ROOT}/dist/cli/main.js`, 'run', '--config', lab.config());
  t.match(beside, { code: 1, stderr: /in use/ });
  const next = await again('--takeover');
  t.match(next.output(), /took over from process/);
  t.equal((await weir.ended).code, 0);
  await next.stop();
});

