/** A YAML document with the line and column of everything in it. */
import type { Document, LineCounter, Node } from 'yaml';
import { yaml } from '../lazily.js';
import type { ConfigError } from './errors.js';

export type PathStep = string | number;

export function formatPath(path: readonly PathStep[]): string {
  return path.reduce<string>((text, step) => (typeof step === 'number' ? `${text}[${step}]` : text === '' ? step : `${text}.${step}`), '');
}

/** Says where in a document an error is. */
export interface Places {
  /** An error at the value that the path names, or at the nearest thing around it. `atKey`: at the key instead. */
  error(path: readonly PathStep[], message: string, expected: string, found: unknown, atKey?: boolean): ConfigError;
}

/** Of a value that was never a file (a request, an edit): paths without lines. */
export class PathsOnly implements Places {
  constructor(readonly file: string) {}

  error(path: readonly PathStep[], message: string, expected: string, found: unknown): ConfigError {
    return { file: this.file, line: 0, column: 0, path: formatPath(path), message, expected, found: describe(found) };
  }
}

export class ConfigDocument implements Places {
  readonly #document: Document.Parsed;
  readonly #lines: LineCounter;

  constructor(
    text: string,
    readonly file: string,
  ) {
    const { LineCounter, parseDocument } = yaml();
    this.#lines = new LineCounter();
    this.#document = parseDocument(text, { lineCounter: this.#lines, uniqueKeys: true, prettyErrors: false });
  }

  /** What YAML itself is not content with. A warning of its parser (an unknown tag) would change what a value means: an error. */
  syntaxErrors(): ConfigError[] {
    const errors = [...this.#document.errors, ...this.#document.warnings].map(({ pos, code, message }) => this.#syntaxError(pos[0], code, message));
    yaml().visit(this.#document, {
      Alias: (_, alias) => {
        if (alias.resolve(this.#document) === undefined) errors.push(this.#syntaxError(alias.range?.[0] ?? 0, 'ALIAS', `the alias *${alias.source} has no anchor &${alias.source} before it`));
      },
    });
    if (errors.length === 0) {
      try {
        this.value();
      } catch (error) {
        errors.push(this.#syntaxError(0, 'ALIAS', (error as Error).message));
      }
    }
    return errors.sort((a, b) => a.line - b.line || a.column - b.column);
  }

  #syntaxError(offset: number, code: string, message: string): ConfigError {
    const { line, col } = this.#lines.linePos(offset);
    return { file: this.file, line, column: col, path: '', message, expected: 'YAML', found: code };
  }

  value(): unknown {
    return this.#document.toJS({ maxAliasCount: 100 });
  }

  error(path: readonly PathStep[], message: string, expected: string, found: unknown, atKey = false): ConfigError {
    const { line, column } = this.#position(path, atKey);
    return { file: this.file, line, column, path: formatPath(path), message, expected, found: describe(found) };
  }

  #position(path: readonly PathStep[], atKey: boolean): { line: number; column: number } {
    const { isMap, isPair, isScalar, isSeq } = yaml();
    let node: unknown = this.#document.contents;
    let best = (node as Node | null)?.range?.[0] ?? 0;
    path.forEach((step, i) => {
      const last = i === path.length - 1;
      if (isMap(node)) {
        const pair = node.items.find((item) => isPair(item) && isScalar(item.key) && String(item.key.value) === String(step));
        const target = last && atKey ? pair?.key : (pair?.value ?? pair?.key);
        node = pair?.value;
        best = (target as Node | undefined)?.range?.[0] ?? best;
      } else if (isSeq(node)) {
        node = node.items[Number(step)];
        best = (node as Node | undefined)?.range?.[0] ?? best;
      } else {
        node = undefined;
      }
    });
    const at = this.#lines.linePos(best);
    return { line: at.line, column: at.col };
  }
}

/** A value as an error message shows it. */
export function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : `a list of ${value.length}`;
  if (value !== null && typeof value === 'object') return 'a mapping';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
