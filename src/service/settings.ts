/** A function's settings: read, held against its schema, and read again when the file changes. */
import { readFileSync, statSync, unwatchFile, watchFile } from 'node:fs';
import type { Options, ValidateFunction } from 'ajv';
import { ConfigDocument } from '../config/document.js';
import { formatErrors, type ConfigError } from '../config/errors.js';
import { shapeErrors } from '../config/shape.js';
import { Failure } from '../failure.js';
import { validatorOf } from '../validator.js';

const MOST_BYTES = 64 * 2 ** 20;
const LOOK_EVERY_MS = 500;
export const SETTINGS: Options = { allErrors: true, verbose: true, strict: false, allowUnionTypes: true };

export class SettingsFile {
  readonly #validate: ValidateFunction | null;

  /** Null: no file; settings are `{}` then. Throws a Failure if the schema is none. */
  constructor(
    readonly path: string | null,
    schema: object | undefined,
    functionName: string,
  ) {
    if (schema === undefined && path !== null) throw new Failure(`--settings: the function ${functionName} takes no settings.`, 2);
    try {
      this.#validate = schema === undefined ? null : validatorOf(schema, SETTINGS);
    } catch (error) {
      throw new Failure(`function ${functionName}: its schema is no JSON Schema: ${(error as Error).message}`, 2);
    }
  }

  /** Throws a Failure that says everything that is wrong, with line and column. */
  read(): unknown {
    const { path } = this;
    const validate = this.#validate;
    if (path === null && validate?.({}) !== false) return {};
    const document = new ConfigDocument(path === null ? '{}' : this.#text(path), path ?? 'settings');
    const syntax = document.syntaxErrors();
    if (syntax.length > 0) throw refused(syntax);
    const value = document.value() ?? {};
    if (validate !== null && !validate(value)) throw refused(shapeErrors(document, value, validate.errors ?? [], []));
    return value;
  }

  /** Calls back after the file has changed, until the function given back is called. */
  watch(changed: () => void): () => void {
    const { path } = this;
    if (path === null) return () => undefined;
    // By looking: editors and configuration management put another file in its place, which inotify loses.
    const look = (now: { mtimeMs: number; ino: number | bigint; size: number }, before: { mtimeMs: number; ino: number | bigint; size: number }): void => {
      if (now.mtimeMs !== before.mtimeMs || now.ino !== before.ino || now.size !== before.size) changed();
    };
    watchFile(path, { interval: LOOK_EVERY_MS, persistent: false }, look);
    return () => unwatchFile(path, look);
  }

  #text(path: string): string {
    try {
      const { size } = statSync(path);
      if (size > MOST_BYTES) throw new Failure(`${path}: ${size} bytes of settings; at most ${MOST_BYTES} are read.`, 2);
      return readFileSync(path, 'utf8');
    } catch (error) {
      if (error instanceof Failure) throw error;
      const { code, message } = error as NodeJS.ErrnoException;
      const why = code === 'ENOENT' ? 'there is no such file' : code === 'EACCES' ? 'it may not be read' : message;
      throw new Failure(`can't read the settings ${path}: ${why}`, 2);
    }
  }
}

const refused = (errors: readonly ConfigError[]): Failure => new Failure(formatErrors([...errors].sort((a, b) => a.line - b.line || a.column - b.column)), 2);
