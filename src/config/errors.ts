/** What is wrong with a configuration, and where. */

export interface ConfigError {
  readonly file: string;
  /** 1-based; 0 when the file could not be read at all. */
  readonly line: number;
  readonly column: number;
  /** `policies[0].match.destination_port`; empty for the document itself. */
  readonly path: string;
  readonly message: string;
  readonly expected: string;
  readonly found: string;
}

export function formatError(error: ConfigError): string {
  const place = error.line > 0 ? `${error.file}:${error.line}:${error.column}` : error.file;
  return `${place}: ${error.path === '' ? '' : `${error.path}: `}${error.message}`;
}

/** Shown at once; a list of a hundred thousand helps nobody. */
export const MOST_ERRORS = 100;

export function formatErrors(errors: readonly ConfigError[]): string {
  const more = errors.length - MOST_ERRORS;
  return [...errors.slice(0, MOST_ERRORS).map(formatError), ...(more > 0 ? [`and ${more} errors more`] : [])].join('\n');
}
