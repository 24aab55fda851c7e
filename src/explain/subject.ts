/** What explanations are about: a configuration in force with its program, here or in a weir that runs elsewhere. */
import type { Configuration } from '../config/configuration.js';
import type { Dataplane } from '../dataplane/dataplane.js';
import { native, type InstanceState, type NativeDecision, type NativeProgram, type Tuple } from '../dataplane/native.js';
import { Paths, type PathView } from '../dataplane/paths.js';
import { compile, replayFacts, type Facts } from '../program/compile.js';
import { newIds, type Ids } from '../program/ids.js';

export interface Subject {
  readonly configuration: Configuration;
  readonly ids: Ids;
  readonly paths: { readonly get: (id: number) => PathView | undefined };
  readonly program: NativeProgram;
  /** Of `service/instance`. */
  readonly stateOf: (key: string) => InstanceState;
  readonly describe: (tuple: Tuple) => NativeDecision | Promise<NativeDecision>;
}

export function subjectOf(dataplane: Dataplane): Subject {
  const { inForce: configuration, ids, paths, program } = dataplane;
  return { configuration, ids, paths, program, stateOf: (key) => dataplane.stateOf(key), describe: (tuple) => dataplane.runner.describe(tuple) };
}

/** A subject whose decisions are made here and now: native code without a port, and no stream in it. */
export interface StillSubject extends Subject {
  readonly describe: (tuple: Tuple) => NativeDecision;
}

/** `known`: what a running weir adds to its configuration; without it the facts are replay's, the same on every machine. Throws a RangeError when there are too many rules. */
export function stillSubject(configuration: Configuration, known: Partial<Omit<Facts, 'paths' | 'moves' | 'currentPath'>> = {}): StillSubject {
  const ids = newIds();
  const paths = new Paths();
  for (const chain of configuration.chains) paths.add(chain, 'keep');
  // A key that is known already need not be read again: its file may be on another machine.
  const keyed = known.affinityKey === undefined ? configuration : { ...configuration, affinityKeyFile: null };
  const made = replayFacts(keyed);
  // Of a document with other underlays than the weir that runs has, nobody knows what they will be.
  const underlays = known.underlays?.length === made.underlays.length ? known.underlays : made.underlays;
  const underlayOf = (address: string): number | null => {
    const number = known.underlayOf?.(address) ?? null;
    return number !== null && number < underlays.length ? number : null;
  };
  const facts: Facts = { ...made, ...known, underlays, underlayOf, paths: paths.all(), currentPath: (chain) => paths.currentId(chain) };
  const program = compile(configuration, ids, facts);
  const engine = new native.Engine({ flowsMax: 1 });
  engine.install(program);
  return { configuration, ids, paths, program, stateOf: facts.stateOf, describe: (tuple) => engine.describe(tuple) };
}
