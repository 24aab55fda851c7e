/** A group with a primary node: it directs new streams to the others, each stays where it is, also when members and the primary itself die. By captures at all of them. */
import t from 'tap';
import { Group, NAMES, servers, type MemberName } from '../support/group.js';
import { Lab, ROOT, until, type Running } from '../support/lab.js';

const lab = await Lab.up();
t.teardown(() => lab.down());
const NUMBERED = `${ROOT}/test/support/numbered.py`;
const STREAMS = 90;
const PER_SECOND = 5;

class Traffic {
  readonly #senders: Running[] = [];
  constructor(private readonly inLab: Lab) {}

  async streams(first: number): Promise<void> {
    this.#senders.push(await this.inLab.start('wl', ['python3', NUMBERED, 'many', '10.2.0.2', '9999', String(first), String(STREAMS), String(PER_SECOND)], /ready/));
  }

  /** Until each of so many sets of streams has been seen some times. */
  async rounds(what: string, sets: number): Promise<void> {
    const delivered = async (): Promise<number> => (await this.inLab.ask<{ delivered: { packets: number } }>('stats')).delivered.packets;
    const before = await delivered();
    await until(what, async () => (await delivered()) > before + 3 * STREAMS * sets);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#senders.map((sender) => sender.stop()));
  }
}

/** A node that gets no core for 300 ms, on a busy machine, is not dead. */
const PATIENT = '{probe: true, interval: 100ms, fall: 10}';

const shareOf = (of: ReadonlyMap<string, MemberName>, name: MemberName): number => [...of.values()].filter((one) => one === name).length / of.size;

for (const encapsulation of ['nsh', 'geneve'] as const) {
  await t.test(`${encapsulation}: new streams go to the primary, which serves a share and directs the others, and nothing moves that need not`, async (t) => {
    const group = await Group.up(lab, { encapsulation, health: PATIENT });
    const receiver = await lab.start('net', ['python3', NUMBERED, 'receive', '10.2.0.2', '9999'], /ready/);
    const traffic = new Traffic(lab);

    const first = await group.watch();
    await traffic.streams(20_000);
    await traffic.rounds('the first streams', 1);
    const seen = await first();
    const { of, several } = servers(seen, 20_000, STREAMS);
    t.strictSame(several, [], 'each stream has one server');
    t.equal(of.size, STREAMS);
    for (const name of NAMES) t.ok(shareOf(of, name) > 0.1 && shareOf(of, name) < 0.6, `${name} serves ${(shareOf(of, name) * 100).toFixed(0)} %`);
    const opened = new Map<string, string>();
    for (const { stream, host } of seen.came) if (of.has(stream) && !opened.has(stream)) opened.set(stream, host);
    t.ok([...opened.values()].every((host) => host === 'fw-1'), 'the first packet of each went to the primary');
    const later = seen.came.filter(({ stream, host }) => of.get(stream) === 'fw-2' && host === 'fw-1').length;
    t.ok(later < 3 * [...of.values()].filter((one) => one === 'fw-2').length, `${later} packets of streams of fw-2 came to the primary: the forwarder has learned where they are`);
    await until('the primary to have said so', async () => ((await group.service()).group?.chosen ?? 0) >= STREAMS);
    t.match((await lab.ctl('services')).stdout, /group firewall: primary fw-1, \d+ streams directed, shares fw-1 \d+%, fw-2 \d+%, fw-3 \d+%/);

    await group.kill('fw-3');
    await until('the primary to know', async () => {
      const is = (await group.service()).group;
      return is?.told === true && !('fw-3' in (is.shares ?? {}));
    });
    const second = await group.watch();
    await traffic.rounds('the streams without fw-3', 1);
    const afterLoss = servers(await second(), 20_000, STREAMS);
    t.strictSame([...of].filter(([stream, name]) => name !== 'fw-3' && afterLoss.of.get(stream) !== name).slice(0, 3), [], 'streams of the others stayed');
    t.equal(afterLoss.of.size, STREAMS, 'those of fw-3 go on elsewhere');

    await group.kill('fw-1');
    await until('fw-2 to be the primary', async () => {
      const is = (await group.service()).group;
      return is?.primary === 'fw-2' && is.told;
    });
    const third = await group.watch();
    await traffic.streams(21_000);
    await traffic.rounds('streams of before and new ones', 2);
    const alone = await third();
    for (const from of [20_000, 21_000]) {
      const now = servers(alone, from, STREAMS);
      t.equal(now.of.size, STREAMS, `all ${STREAMS} from ${from} on go on`);
      t.ok([...now.of.values()].every((name) => name === 'fw-2'));
    }

    await group.start('fw-3');
    await group.start('fw-1');
    await until('the first in rank to direct again', async () => {
      const is = (await group.service()).group;
      return is?.primary === 'fw-1' && is.told && Object.keys(is.shares ?? {}).length === NAMES.length;
    });
    const fourth = await group.watch();
    await traffic.streams(22_000);
    await traffic.rounds('all streams', 3);
    const back = await fourth();
    for (const from of [20_000, 21_000]) t.ok([...servers(back, from, STREAMS).of.values()].every((name) => name === 'fw-2'), `streams from ${from} on stay with fw-2`);
    const fresh = servers(back, 22_000, STREAMS);
    t.strictSame(fresh.several, []);
    for (const name of NAMES) t.ok(shareOf(fresh.of, name) > 0.1 && shareOf(fresh.of, name) < 0.6, `${name} serves ${(shareOf(fresh.of, name) * 100).toFixed(0)} % of the new ones`);

    await traffic.stop();
    await receiver.stop();
    await group.down();
  });
}

await t.test('where weir balances, it does so by what the primary publishes; the next in rank publishes when that one dies', async (t) => {
  const group = await Group.up(lab, { balancer: 'primary_shares', health: PATIENT });
  const receiver = await lab.start('net', ['python3', NUMBERED, 'receive', '10.2.0.2', '9999'], /ready/);
  const traffic = new Traffic(lab);
  // On a busy host one of them may be without a share for a moment.
  await until('all to have a share', async () => Object.values((await group.service()).group?.shares ?? {}).every((share) => share > 0.2));
  const first = await group.watch();
  await traffic.streams(20_000);
  await traffic.rounds('the first streams', 1);
  const { of, several } = servers(await first(), 20_000, STREAMS);
  t.strictSame(several, []);
  t.equal(of.size, STREAMS);
  for (const name of NAMES) t.ok(shareOf(of, name) > 0.1 && shareOf(of, name) < 0.6, `${name} serves ${(shareOf(of, name) * 100).toFixed(0)} %`);
  t.equal((await group.service()).group?.chosen, 0, 'the primary directs nothing');

  await group.kill('fw-1');
  await until('fw-2 to publish', async () => {
    const is = (await group.service()).group;
    return is?.primary === 'fw-2' && is.told && Object.keys(is.shares ?? {}).join() === 'fw-2,fw-3';
  });
  const second = await group.watch();
  await traffic.streams(21_000);
  await traffic.rounds('streams of before and new ones', 2);
  const seen = await second();
  const still = servers(seen, 20_000, STREAMS);
  t.strictSame([...of].filter(([stream, name]) => name !== 'fw-1' && still.of.get(stream) !== name).slice(0, 3), [], 'streams of the others stayed');
  const fresh = servers(seen, 21_000, STREAMS);
  for (const name of ['fw-2', 'fw-3'] as const) t.ok(shareOf(fresh.of, name) > 0.2, `${name} serves ${(shareOf(fresh.of, name) * 100).toFixed(0)} % of the new ones`);
  await traffic.stop();
  await receiver.stop();
  await group.down();
});
