/** What a failure waits for before nodes have a map without the instance: for nothing that something else began. */
import t from 'tap';
import { MeshController } from '../../src/mesh/controller.js';
import { MeshMember } from '../../src/mesh/member.js';
import type { Dataplane } from '../../src/dataplane/dataplane.js';
import { FRESH, type Origin } from '../../src/state/state.js';
import { KEY, session } from '../support/mesh-wire.js';
import { simulate, type Simulation } from '../support/sim.js';

const MS = 1_000_000n;
const INSTANCES = ['a/a1', 'a/a2', 'b/b1', 'b/b2', 'b/b3'].map((key, i) => ({ key, address: `10.20.0.${10 + i}` }));
const list = (service: string): string => INSTANCES.filter(({ key }) => key.startsWith(service)).map(({ key, address }) => `{name: ${key.slice(2)}, address: ${address}}`).join(', ');
const DOCUMENT = `
underlay: {interface: u}
captures: [{name: web, in: i, out: o}]
services:
  a: {sync: strict, health: {probe: true, interval: 10ms}, instances: [${list('a')}]}
  b: {sync: strict, health: {probe: true, interval: 10ms}, instances: [${list('b')}]}
chains: {line: {services: [a, b], return: mesh}}
mesh: {key: {file: k}, lease: 60s}
policies: [{name: all, match: {}, chain: line}]`;

interface Mesh extends Simulation {
  readonly controller: MeshController;
  /** Nodes that get no map. */
  readonly deaf: Set<string>;
  /** The instance's process begins anew. */
  readonly restart: (key: string, run: number) => void;
  /** Until it is so; false where that takes too long. */
  readonly comes: (so: () => boolean) => Promise<boolean>;
}

/** Runs of the members of the newest path, by service. */
const runsOf = ({ map }: MeshController): readonly string[] => map?.paths.flatMap(({ hops }) => hops.flatMap(({ members }) => members.map(([instance]) => `${map.instances[instance]?.key} ${map.instances[instance]?.session}`))) ?? [];

async function begin(t: { teardown: (end: () => unknown) => void }, origin: Origin = FRESH): Promise<Mesh> {
  const nodes = new Map<string, MeshMember>();
  const deaf = new Set<string>();
  let dataplane: Dataplane | null = null;
  let ms = 1000;
  const controller: MeshController = new MeshController({
    now: () => ms,
    send: ({ address }, datagram) => setImmediate(() => !deaf.has(address) && nodes.get(address)?.receive(datagram)),
    key: KEY,
    session: session(0xc0),
    leaseMs: 60_000,
    changed: (what) => void dataplane?.followMesh(what),
    tell: () => undefined,
  });
  const simulation = await simulate(DOCUMENT, 1000, undefined, origin, undefined, { mesh: controller });
  dataplane = simulation.dataplane;
  const restart = (key: string, run: number): void => {
    const { address } = INSTANCES.find((one) => one.key === key) ?? { address: '' };
    const [service = '', name = ''] = key.split('/');
    const node = new MeshMember({ now: () => ms, send: (datagram) => setImmediate(() => controller.receive(datagram, { address, port: 7000 })), key: KEY, service, name, unreachable: () => [], mapped: () => undefined, newSession: () => session(0xffff), tell: () => undefined });
    nodes.set(address, node);
    node.begin(session(run), 5000);
  };
  const comes = async (so: () => boolean): Promise<boolean> => {
    for (let n = 0; n < 1000 && !so(); n++) {
      simulation.network.advance(MS);
      ms++;
      await new Promise((wake) => setTimeout(wake, 1));
    }
    return so();
  };
  INSTANCES.forEach(({ key }, i) => restart(key, i + 1));
  t.teardown(() => simulation.dataplane.stop());
  const mesh = { ...simulation, controller, deaf, restart, comes };
  if (!(await comes(() => new Set(runsOf(controller)).size === INSTANCES.length && controller.everybodyHasIt))) throw new Error('not every node became a member');
  return mesh;
}

t.test('while nodes are waited for that are to know a new path', async (t) => {
  const { now } = performance;
  const it = await begin(t);
  // The wait has an end, which is not to be what the failure waits for: time stands still.
  const stands = performance.now();
  performance.now = () => stands;
  t.teardown(() => (performance.now = now));
  it.deaf.add('10.20.0.14');
  it.restart('a/a2', 0x20);
  t.ok(await it.comes(() => runsOf(it.controller).includes(`a/a2 ${session(0x20)}`)), 'the path that came with a restart is on the map');
  t.notOk(it.controller.everybodyHasIt, 'and one node does not know it');
  it.network.instance('10.20.0.12', () => []);
  t.ok(await it.comes(() => !runsOf(it.controller).some((run) => run.startsWith('b/b1'))), 'the instance that failed is not on the map any more');
  t.equal(it.dataplane.stateOf('b/b1'), 'down');
});

t.test('while a disk is at work', async (t) => {
  let [kept, works] = [0, Promise.resolve()];
  let done: () => void = () => undefined;
  const keep = (): Promise<void> => {
    kept++;
    return works;
  };
  const it = await begin(t, { ...FRESH, continuity: { identity: '0123456789abcdef', affinityKey: Buffer.alloc(16, 7), before: null, keep } });
  t.ok(kept > 0);
  works = new Promise((resolve) => (done = resolve));
  const before = kept;
  // Both in one change: what is new has to be written before packets go there, what failed has not.
  it.restart('a/a2', 0x20);
  t.ok(await it.comes(() => kept > before), 'the disk has been asked');
  t.ok(await it.comes(() => runsOf(it.controller).includes(`a/a2 ${session(0x20)}`)), 'nodes have the map');
  const paths = it.dataplane.program.paths.length;
  done();
  t.ok(await it.comes(() => it.dataplane.program.paths.length > paths), 'packets take the path when it has been written');
});
