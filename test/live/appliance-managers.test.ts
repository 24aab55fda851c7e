/** An appliance whose managers die: what it does without them, and how they go on when they are back. */
import t from 'tap';
import { ACROSS, ApplianceLab } from '../support/appliance-lab.js';
import { Lab, until } from '../support/lab.js';
import { Talkers } from '../support/mesh-lab.js';

const lab = await Lab.up();
t.teardown(() => lab.down());

t.test('managers die one after the other, a dispatcher starts anew without any: streams go on, and managers that are back go on from there', async (t) => {
  const rules = [{ name: 'talk', action: 'accept', direction: 'out', protocol: 'tcp', destination_port: [9000] }];
  const appliance = new ApplianceLab(lab, {
    units: 4,
    managers: 2,
    function: 'firewall',
    settings: { default: 'drop', inside: ['10.9.0.2/32'], rules },
    layout: { min: 2, max: 4, start: 3, lease: '20s' },
    // A dispatcher that is gone is left out, as a router would.
    probeMs: 100,
    encapsulation: 'geneve',
  });
  await appliance.start(3);
  // A firewall that has not seen how a stream began drops it.
  const talkers = await Talkers.start(lab, 24, 5, 9000, ACROSS);
  await talkers.advance(await talkers.state(), 3);
  // As many as there are: on a busy machine the second one may lead for a moment, and take it.
  await until('the manager that follows to say who leads', async () => /manager "m-1" leads: ask there/.test((await appliance.toolAt(2, 'scale', '3')).stderr));

  const { term } = await appliance.status(2);
  await appliance.kill('managers', 1);
  await until('the other manager to lead', async () => (await appliance.status(2)).term > term);
  await appliance.startUnit(4);
  t.equal((await appliance.toolAt(2, 'scale', '4')).code, 0);
  await appliance.settled(4, 2);
  await talkers.advance(await talkers.state(), 3);

  await appliance.kill('managers', 2);
  await appliance.kill('dispatchers', 1);
  await appliance.startDispatcher(1);
  const { instances } = (await appliance.ask<{ name: string; instances: { name: string }[] }[]>(appliance.dispatcherSocket(1), 'services')).find(({ name }) => name === 'inspect') ?? { instances: [] };
  t.strictSame(instances.map(({ name }) => name), ['u-1', 'u-2', 'u-3', 'u-4'], 'what it was told last is what it has');
  await talkers.advance(await talkers.state(), 3);

  // The one whose state is older first: it learns from the other what was done without it.
  await appliance.startManager(1);
  await appliance.startManager(2);
  const status = await appliance.settled(4);
  t.equal(status.leader, 'm-1');
  t.equal((await appliance.tool('scale', '3')).code, 0);
  await appliance.settled(3);
  const { reset, wrong } = await talkers.advance(await talkers.state(), 3);
  t.strictSame(reset, [], 'no stream was reset');
  t.equal(wrong, 0);
  const { units } = await appliance.status();
  t.equal(units.reduce((sum, { opened_midstream: midstream }) => sum + midstream, 0), 0, 'each unit has seen how its streams began');
  await talkers.stop();
  await appliance.down();
});
