/** The state directory: the state in a file of its own, whole or not at all. */
import { join } from 'node:path';
import { KeptEnds } from '../config/kept-ends.js';
import { Failure } from '../failure.js';
import { ownDirectory } from '../directory.js';
import { RecordFile } from './record-file.js';
import type { Prepared, SavedState, StateKeeper } from './state.js';

/** As JSON.stringify(), but that each policy is made into text once: an edit of one of a hundred thousand leaves the other objects what they are. */
function textOf({ document, ...rest }: SavedState, policyTexts: KeptEnds<object, string>): string {
  const parts = Object.entries(document).map(([key, value]) => `${JSON.stringify(key)}:${key === 'policies' && Array.isArray(value) ? `[${policyTexts.map(value as object[]).join(',')}]` : JSON.stringify(value)}`);
  return `${JSON.stringify(rest).slice(0, -1)},"document":{${parts.join(',')}}}`;
}

export class StateStore implements StateKeeper {
  readonly file: string;
  readonly #record: RecordFile<SavedState>;
  readonly #policyTexts = new KeptEnds<object, string>((policy) => JSON.stringify(policy));

  constructor(readonly directory: string) {
    this.file = join(directory, 'state.json');
    this.#record = new RecordFile(
      this.file,
      'weir_state',
      1,
      (why) => new Failure(`the state file ${this.file} can't be used: ${why}. Start with --force-config to begin with the file given by --config, or delete it.`),
    );
  }

  /** Makes the directory if need be. Throws a Failure that says what keeps it from being written. */
  open(): void {
    try {
      ownDirectory(this.directory, 0o700);
    } catch (error) {
      throw new Failure(`state_dir: can't write to ${this.directory} (${(error as NodeJS.ErrnoException).code ?? String(error)}): make it writable for this user, or name another directory.`);
    }
  }

  prepare(state: SavedState): Promise<Prepared> {
    return this.#record.prepare(textOf(state, this.#policyTexts));
  }

  /** When the state was written, in milliseconds of the epoch; null where there is none. */
  writtenAtMs(): number | null {
    return this.#record.writtenAtMs();
  }

  /** Throws a Failure if the file is not what prepare() wrote. */
  load(): SavedState {
    return this.#record.load();
  }
}
