/** Synced state on a hub chain: weir itself sends a stream to its second, which goes on counting. */
import t from 'tap';
import { Lab } from '../support/lab.js';
import { MeshLab, Talkers } from '../support/mesh-lab.js';

/** So many that either instance has some. */
const STREAMS = 32;

const lab = await Lab.up();
t.teardown(() => lab.down());

t.test('a hub chain with sync: strict: the second goes on with the counts of the first', async (t) => {
  const mesh = new MeshLab(lab, { functions: { a: 'pass', b: 'meter', c: 'pass' }, sync: { a: 'off', b: 'strict', c: 'off' }, health: '{probe: true, interval: 200ms}', chain: ['b'], return: 'hub', instances: 2 });
  await mesh.start();
  const talkers = await Talkers.start(lab, STREAMS, 10);
  await talkers.advance(await talkers.state(), 5);
  const before = new Map([...(await mesh.metered('b1')), ...(await mesh.metered('b2'))]);
  const served = [...(await mesh.pins())].filter(([, keys]) => keys[0] === 'b/b1').map(([port]) => port);
  t.ok(served.length > 0 && served.length < STREAMS, `${served.length} of ${STREAMS} streams are with the first`);
  mesh.nodes.get('b1')?.child.kill('SIGKILL');
  const state = await talkers.advance(await talkers.state(), 5);
  t.strictSame(state.reset, []);
  const after = await mesh.metered('b2');
  for (const port of served) t.ok((after.get(port) ?? 0) > (before.get(port) ?? Infinity), `stream ${port}: ${before.get(port)} packets at the first, ${after.get(port)} by now`);
  await talkers.stop();
  await mesh.stop();
});
