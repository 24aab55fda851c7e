/** Applies one configuration after another and keeps each in the state directory, until it is killed: `node state-writer.js DIRECTORY SOURCES`. */
import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [directory = '', sources = ''] = process.argv.slice(2);
const part = async <T>(name: string): Promise<T> => (await import(pathToFileURL(join(sources, name)).href)) as T;
const { pino } = await import('pino');
const { Dataplane } = await part<typeof import('../../src/dataplane/dataplane.js')>('dataplane/dataplane.js');
const { SimNetwork } = await part<typeof import('../../src/dataplane/ports/sim-port.js')>('dataplane/ports/sim-port.js');
const { checkDocument } = await part<typeof import('../../src/config/load.js')>('config/load.js');
const { chooseStart } = await part<typeof import('../../src/state/start.js')>('state/start.js');
const { replayFacts } = await part<typeof import('../../src/program/compile.js')>('program/compile.js');

const POLICIES = 300;

/** What generation `n` looks like: a mix of two would be seen. */
const documentOf = (n: number): object => ({
  captures: [{ name: 'web', in: 'a', out: 'b' }],
  state_dir: directory,
  policies: Array.from({ length: POLICIES }, (_, i) => ({ name: `g${n}-${i}`, match: { source: `10.${n & 255}.${i & 255}.0/24` }, action: 'drop' })),
});

const file = join(directory, 'weir.json');
const given = checkDocument(documentOf(1), file);
if (!given.ok) throw new Error('the first document is wrong');
const log = pino({ level: 'silent' });
const { configuration, origin } = chooseStart(given.configuration, file, { forceConfig: false }, log);
const facts = replayFacts(configuration);
const dataplane = await Dataplane.start(
  configuration,
  log,
  {
    host: { underlays: facts.underlays, captureMtus: facts.captureMtus, interfaces: [] },
    neighbours: { macOf: facts.macOf, refresh: () => false },
    startRunner: (program) => Promise.resolve(new SimNetwork(program, 16)),
  },
  origin,
);
writeSync(1, `started ${dataplane.generation}\n`);
for (;;) {
  const { generation } = await dataplane.apply(documentOf(dataplane.generation + 1), {}, 'the writer');
  writeSync(1, `${generation}\n`);
}
