/** A whole dataplane — desired state, paths, changes — on the sim port. */
import { pino } from 'pino';
import type { Clock } from '../../src/conditions/clock.js';
import type { Configuration } from '../../src/config/configuration.js';
import { Dataplane } from '../../src/dataplane/dataplane.js';
import { SimNetwork } from '../../src/dataplane/ports/sim-port.js';
import type { Surroundings } from '../../src/dataplane/surroundings.js';
import { replayFacts } from '../../src/program/compile.js';
import { FRESH, type Origin } from '../../src/state/state.js';
import { valid } from './configuration.js';

export interface Simulation {
  readonly dataplane: Dataplane;
  readonly network: SimNetwork;
}

export async function simulate(from: string | Configuration, flowsMax = 1000, log = pino({ level: 'silent' }), origin: Origin = FRESH, clock?: Clock, more: Partial<Surroundings> = {}): Promise<Simulation> {
  const configuration = typeof from === 'string' ? valid(from) : from;
  const facts = replayFacts(configuration);
  let network: SimNetwork | undefined;
  const dataplane = await Dataplane.start(configuration, log, {
    host: { underlays: facts.underlays, captureMtus: facts.captureMtus, interfaces: [] },
    // Instances that come later have neighbours too.
    neighbours: { macOf: (address) => facts.macOf(address) ?? '02:00:00:00:02:01', refresh: () => false },
    attachments: { proxyPorts: facts.proxyPorts, attachmentOf: facts.attachmentOf, interfaces: [], refresh: () => false, release: () => undefined, require: () => undefined, resolve: () => Promise.resolve([]) },
    startRunner: (program, _, __, onProbeNews) => Promise.resolve((network = new SimNetwork(program, flowsMax, undefined, onProbeNews))),
    ...(clock === undefined ? {} : { clock }),
    ...more,
  }, origin);
  if (network === undefined) throw new Error('the dataplane started no runner');
  for (const service of configuration.services) for (const { address } of service.instances) if (address !== null) network.instance(address);
  return { dataplane, network };
}
