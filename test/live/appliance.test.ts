/**
 * An appliance of three dispatchers: units come and go while TCP streams run whose every packet takes any of the dispatchers, and a dispatcher
 * starts anew that knows no stream. 200 streams, four units and two more; with WEIR_APPLIANCE_STREAMS=1000 so many streams, eight units and four more.
 */
import t from 'tap';
import { ACROSS, ApplianceLab } from '../support/appliance-lab.js';
import { Lab, until } from '../support/lab.js';
import { Talkers, type TalkState } from '../support/mesh-lab.js';

const LARGE = process.env['WEIR_APPLIANCE_STREAMS'];
const STREAMS = Number(LARGE ?? 200);
const [UNITS, MORE] = LARGE === undefined ? [4, 2] : [8, 4];
const ALL = UNITS + MORE;
/** Of the streams: opened while all units serve. */
const LATER = Math.floor(STREAMS / 4);
const LINES_PER_SECOND = STREAMS > 400 ? 1 : 4;

const lab = await Lab.up();
t.teardown(() => lab.down());

t.test('units come and go under streams that take all dispatchers at random, and no stream sees a unit without its state', async (t) => {
  const appliance = new ApplianceLab(lab, { units: ALL, function: 'meter', layout: { min: UNITS / 2, max: ALL, start: UNITS, lease: '20s' }, probeMs: 100 });
  const sum = async (key: 'opened' | 'opened_midstream' | 'passed_on' | 'taken_up'): Promise<number> => (await appliance.status()).units.reduce((all, unit) => all + unit[key], 0);
  await appliance.start(UNITS);
  const first = await Talkers.start(lab, STREAMS - LATER, LINES_PER_SECOND, 9000, ACROSS);
  await first.advance(await first.state(), 2);

  await appliance.startUnits(UNITS + 1, ALL);
  t.match((await appliance.tool('scale', String(ALL))).stdout, new RegExp(`${ALL} units instead of ${UNITS}`));
  await appliance.settled(ALL);
  const later = await Talkers.start(lab, LATER, LINES_PER_SECOND, 9001, ACROSS);
  const bothAdvance = async (): Promise<TalkState[]> => Promise.all([first, later].map(async (talkers) => talkers.advance(await talkers.state(), 2)));
  await bothAdvance();

  const passedOn = await sum('passed_on');
  await appliance.kill('dispatchers', 3);
  await appliance.startDispatcher(3, '--fresh-flows');
  await bothAdvance();
  await until('units to say what they passed on', async () => (await sum('passed_on')) > passedOn);
  t.pass('a dispatcher that knows no stream chooses units by the list of now, and these pass on what others have');

  t.match((await appliance.tool('scale', String(UNITS))).stdout, new RegExp(`${UNITS} units instead of ${ALL}`));
  const shrunk = await appliance.settled(UNITS);
  const leaving = shrunk.units.filter(({ state }) => state === 'leaving');
  t.equal(leaving.length, MORE, 'those that go keep the streams they have');
  t.ok(leaving.some(({ streams }) => streams > 0), 'and have some');
  for (const { reset, wrong } of await bothAdvance()) {
    t.strictSame(reset, [], 'no stream was reset');
    t.equal(wrong, 0, 'every line came back as it was sent');
  }
  const text = await appliance.tool('status');
  t.match(text.stdout, new RegExp(`appliance edge: ${UNITS} units perform inspect \\(meter\\); layout ${UNITS / 2} to ${ALL}`));
  t.match(text.stdout, /map\s+units\s+streams found by it alone/);

  t.equal(await sum('opened'), STREAMS, 'each stream became the stream of one unit, once');
  t.equal(await sum('opened_midstream'), 0, 'and of each that unit has seen how it began');
  t.ok((await sum('taken_up')) > 0, `${await sum('passed_on')} packets came to a unit without their state and were passed on`);
  const { dispatchers, units } = await appliance.status();
  t.ok(dispatchers.every(({ streams }) => streams > STREAMS / 2), `streams took several dispatchers: ${dispatchers.map(({ streams }) => streams).join(', ')}`);
  t.ok(units.slice(UNITS).some(({ opened }) => opened > 0), 'the new units opened streams');

  // What the functions themselves have seen, whatever native code counts.
  const served = new Map<string, number[]>();
  for (const i of appliance.units.keys()) for (const stream of await appliance.metered(i)) served.set(stream, [...(served.get(stream) ?? []), i]);
  t.equal(served.size, STREAMS, 'the meters know each stream');
  t.strictSame([...served].filter(([, units]) => units.length !== 1), [], 'each at one unit');

  await first.stop();
  await later.stop();
  await until('those that go to have left', async () => {
    const { units: now, phase, maps, count } = await appliance.status();
    return now.filter(({ state }) => state === 'standby').length === MORE && phase === 'steady' && maps.length === 1 && count.serving === UNITS;
  });
  t.pass('they have left when their streams had ended');
  await appliance.down();
});
