/**
 * A file of one record: a line that says what follows, and the record as JSON. It is written beside the old one and renamed over
 * it, each synchronised, so that whoever reads finds the old one or the new one whole, whenever the power went.
 */
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Prepared } from './state.js';

const digest = (body: string): string => createHash('sha256').update(body).digest('hex');

export class RecordFile<T> {
  readonly #draft: string;

  constructor(
    readonly file: string,
    /** Key of the first line that has the format's number. */
    private readonly kind: string,
    private readonly format: number,
    /** Makes an error of what is wrong. */
    private readonly unusable: (why: string) => Error,
  ) {
    this.#draft = `${file}.new`;
  }

  /** `body`: the record as JSON. */
  async prepare(body: string): Promise<Prepared> {
    const draft = await open(this.#draft, 'w', 0o600);
    try {
      await draft.writeFile(`${JSON.stringify({ [this.kind]: this.format, sha256: digest(body) })}\n${body}\n`);
      await draft.sync();
    } finally {
      await draft.close();
    }
    return {
      commit: async () => {
        await rename(this.#draft, this.file);
        await synchronise(dirname(this.file));
      },
      discard: () => rm(this.#draft, { force: true }),
    };
  }

  /** When it was written, in milliseconds of the epoch; null where there is none. */
  writtenAtMs(): number | null {
    try {
      return statSync(this.file).mtimeMs;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw this.unusable(`it can't be read (${(error as NodeJS.ErrnoException).code ?? String(error)})`);
    }
  }

  /** Throws what `unusable` makes if the file is not what prepare() wrote. */
  load(): T {
    let text: string;
    try {
      text = readFileSync(this.file, 'utf8');
    } catch (error) {
      throw this.unusable(`it can't be read (${(error as NodeJS.ErrnoException).code ?? String(error)})`);
    }
    const end = text.indexOf('\n');
    let head: Readonly<Record<string, unknown>> | null = null;
    try {
      head = JSON.parse(text.slice(0, Math.max(end, 0))) as typeof head;
    } catch {
      // Said below.
    }
    const format = head === null || typeof head !== 'object' ? undefined : head[this.kind];
    if (typeof format !== 'number') throw this.unusable('its first line is not that of a state file');
    if (format !== this.format) throw this.unusable(`it has format ${format}, and this weir reads format ${this.format}`);
    if (!text.endsWith('\n') || text.length < end + 2) throw this.unusable('it is cut short');
    const body = text.slice(end + 1, -1);
    if (digest(body) !== head?.['sha256']) throw this.unusable('its checksum is wrong: it was cut short, damaged or edited');
    return JSON.parse(body) as T;
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
