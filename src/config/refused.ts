/** Why a change was not made. Whatever is thrown, the state in force is as before. */
import { formatErrors, type ConfigError } from './errors.js';

/** Refused by the state in force: `path` is where in the request. */
export class ChangeRefused extends Error {
  constructor(
    message: string,
    readonly path: string,
  ) {
    super(message);
  }
}

/** The document that it would have made is wrong: each error with its path in that document. */
export class DocumentRefused extends ChangeRefused {
  constructor(readonly errors: readonly ConfigError[]) {
    super(formatErrors(errors), errors[0]?.path ?? '');
  }
}

/** Somebody else was faster. */
export class GenerationMismatch extends Error {
  constructor(
    wanted: number,
    readonly generation: number,
  ) {
    super(`the change was meant for generation ${wanted}, but generation ${generation} is in force: read the configuration again (config.get), make the change on it, and give its generation`);
  }
}
