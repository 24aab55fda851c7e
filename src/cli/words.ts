/**
 * Which words weir has, and where each is. A word's file is read when the word is used: half of the time that a short command takes
 * would go into reading all the others.
 */
import type { Command } from 'commander';

export type Register = (program: Command) => void;

interface Words {
  readonly words: readonly string[];
  readonly load: () => Promise<readonly Register[]>;
}

/** In the order of `weir --help`. */
export const WORDS: readonly Words[] = [
  { words: ['run'], load: async () => import('./run.js').then((m) => [m.registerRun]) },
  { words: ['check'], load: async () => import('./check.js').then((m) => [m.registerCheck]) },
  { words: ['node'], load: async () => import('./node.js').then((m) => [m.registerNode]) },
  { words: ['manager'], load: async () => import('./manager.js').then((m) => [m.registerManager]) },
  { words: ['appliance'], load: async () => import('./appliance.js').then((m) => [m.registerAppliance]) },
  { words: ['replay'], load: async () => import('./replay.js').then((m) => [m.registerReplay]) },
  { words: ['status', 'stats', 'metrics', 'chains', 'services', 'mesh', 'flows'], load: async () => import('./control.js').then((m) => [m.registerQueries]) },
  { words: ['trace'], load: async () => import('./trace.js').then((m) => [m.registerTrace]) },
  { words: ['diff'], load: async () => import('./diff.js').then((m) => [m.registerDiff]) },
  { words: ['events'], load: async () => import('./events.js').then((m) => [m.registerEvents]) },
  { words: ['top'], load: async () => import('./top.js').then((m) => [m.registerTop]) },
  { words: ['conditions', 'condition'], load: async () => import('./conditions.js').then((m) => [m.registerConditions]) },
  { words: ['apply', 'config'], load: async () => import('./apply.js').then((m) => [m.registerApply]) },
  { words: ['chain', 'policy', 'service', 'instance'], load: async () => import('./edits.js').then((m) => [m.registerEdits]) },
  { words: ['steer'], load: async () => import('./steer.js').then((m) => [m.registerSteer]) },
  { words: ['capture'], load: async () => import('./capture.js').then((m) => [m.registerCapture]) },
  { words: ['doctor'], load: async () => import('./doctor.js').then((m) => [m.registerDoctor]) },
  { words: ['ctl', 'shutdown'], load: async () => import('./control.js').then((m) => [m.registerAny]) },
];

/** The word among the arguments; only `--socket` may stand before it with a value of its own. */
export function wordOf([first, ...others]: readonly string[]): string | undefined {
  if (first === '--socket') return wordOf(others.slice(1));
  return first?.startsWith('-') === true ? wordOf(others) : first;
}

/** What one word needs; of a word that is not known, and for those that tell of all of them (help, completion, man): everything. */
export async function registersFor(word: string | undefined): Promise<readonly Register[]> {
  const files = WORDS.filter(({ words }) => word !== undefined && words.includes(word));
  if (files.length > 0) return (await Promise.all(files.map(({ load }) => load()))).flat();
  const [all, { registerCompletion }, { registerMan }] = await Promise.all([Promise.all(WORDS.map(({ load }) => load())), import('./completion.js'), import('./man.js')]);
  return [...all.flat(), registerCompletion, registerMan];
}
