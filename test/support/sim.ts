/** A whole dataplane — desired state, paths, changes — on the sim port. */
import { pino } from 'pino';
import { Dataplane } from '../../src/dataplane/dataplane.js';
import { SimNetwork } from '../../src/dataplane/ports/sim-port.js';
import { replayFacts } from '../../src/program/compile.js';
import { valid } from './configuration.js';

export interface Simulation {
  readonly dataplane: Dataplane;
  readonly network: SimNetwork;
}

export async function simulate(yaml: string, flowsMax = 1000): Promise<Simulation> {
  const configuration = valid(yaml);
  const facts = replayFacts(configuration);
  let network: SimNetwork | undefined;
  const dataplane = await Dataplane.start(configuration, pino({ level: 'silent' }), {
    host: { underlay: null, program: facts.underlay, captureMtus: facts.captureMtus, interfaces: [] },
    neighbours: { macOf: facts.macOf, refresh: () => false },
    startRunner: (program) => Promise.resolve((network = new SimNetwork(program, flowsMax))),
  });
  if (network === undefined) throw new Error('the dataplane started no runner');
  for (const service of configuration.services) for (const instance of service.instances) network.instance(instance.address);
  return { dataplane, network };
}
