/**
 * The state directory. A state is one file: a line that says what follows, and the state as JSON. It is written beside the old one
 * and renamed over it, each synchronised, so that whoever reads finds the old one or the new one whole, whenever the power went.
 */
import { createHash } from 'node:crypto';
import { accessSync, constants, mkdirSync, readFileSync, statSync } from 'node:fs';
import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../failure.js';
import type { Prepared, SavedState, StateKeeper } from './state.js';

const FORMAT = 1;

interface Head {
  readonly weir_state: number;
  readonly sha256: string;
}

const digest = (body: string): string => createHash('sha256').update(body).digest('hex');

export class StateStore implements StateKeeper {
  readonly file: string;
  readonly #draft: string;

  constructor(readonly directory: string) {
    this.file = join(directory, 'state.json');
    this.#draft = join(directory, 'state.json.new');
  }

  /** Makes the directory if need be. Throws a Failure that says what keeps it from being written. */
  open(): void {
    try {
      mkdirSync(this.directory, { recursive: true, mode: 0o700 });
      accessSync(this.directory, constants.W_OK | constants.X_OK);
    } catch (error) {
      throw new Failure(`state_dir: can't write to ${this.directory} (${(error as NodeJS.ErrnoException).code ?? String(error)}): make it writable for this user, or name another directory.`);
    }
  }

  async prepare(state: SavedState): Promise<Prepared> {
    const body = JSON.stringify(state);
    const head: Head = { weir_state: FORMAT, sha256: digest(body) };
    const draft = await open(this.#draft, 'w', 0o600);
    try {
      await draft.writeFile(`${JSON.stringify(head)}\n${body}\n`);
      await draft.sync();
    } finally {
      await draft.close();
    }
    return {
      commit: async () => {
        await rename(this.#draft, this.file);
        await synchronise(this.directory);
      },
      discard: () => rm(this.#draft, { force: true }),
    };
  }

  /** When the state was written, in milliseconds of the epoch; null where there is none. */
  writtenAtMs(): number | null {
    try {
      return statSync(this.file).mtimeMs;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw this.#unusable(`it can't be read (${(error as NodeJS.ErrnoException).code ?? String(error)})`);
    }
  }

  /** Throws a Failure if the file is not what prepare() wrote. */
  load(): SavedState {
    let text: string;
    try {
      text = readFileSync(this.file, 'utf8');
    } catch (error) {
      throw this.#unusable(`it can't be read (${(error as NodeJS.ErrnoException).code ?? String(error)})`);
    }
    const end = text.indexOf('\n');
    let head: Partial<Head> | null = null;
    try {
      head = JSON.parse(text.slice(0, Math.max(end, 0))) as Partial<Head> | null;
    } catch {
      // Said below.
    }
    if (head === null || typeof head !== 'object' || typeof head.weir_state !== 'number') throw this.#unusable('its first line is not that of a state file');
    if (head.weir_state !== FORMAT) throw this.#unusable(`it has format ${head.weir_state}, and this weir reads format ${FORMAT}`);
    if (!text.endsWith('\n') || text.length < end + 2) throw this.#unusable('it is cut short');
    const body = text.slice(end + 1, -1);
    if (digest(body) !== head.sha256) throw this.#unusable('its checksum is wrong: it was cut short, damaged or edited');
    return JSON.parse(body) as SavedState;
  }

  #unusable(why: string): Failure {
    return new Failure(`the state file ${this.file} can't be used: ${why}. Start with --force-config to begin with the file given by --config, or delete it.`);
  }
}

/** Makes a rename last: the directory's own entry. */
async function synchronise(directory: string): Promise<void> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(directory, 'r');
    await handle.sync();
  } finally {
    await handle?.close();
  }
}
