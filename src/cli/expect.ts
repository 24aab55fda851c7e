/** `weir replay --expect`: expectations checked, and their verdicts where they are wanted. */
import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { Configuration } from '../config/configuration.js';
import { formatErrors } from '../config/errors.js';
import { Failure } from '../failure.js';
import { loadExpectations, type Expectation } from '../replay/expect-load.js';
import { failed, formatExpectations, type ExpectFormat } from '../replay/expect-report.js';
import { checkExpectations, type ExpectResult } from '../replay/expect.js';

export interface ExpectOptions {
  readonly config: string;
  readonly expect: string;
  readonly expectFormat: ExpectFormat;
  readonly expectOut?: string;
  readonly read?: string;
  readonly workload: readonly string[];
}

/** Before anything is replayed: a wrong file costs no time. Throws a Failure that names every error. */
export function expectationsFrom(file: string, configuration: Configuration, read: boolean): readonly Expectation[] {
  const loaded = loadExpectations(file, configuration, read);
  if (!loaded.ok) throw new Failure(formatErrors(loaded.errors), 2);
  return loaded.expectations;
}

/** The verdicts as text for standard output, null when they went to a file instead. Sets the exit code. */
export async function expect(options: ExpectOptions, configuration: Configuration, expectations: readonly Expectation[]): Promise<{ result: ExpectResult; text: string | null }> {
  const result = await checkExpectations(configuration, expectations, options.read ?? null, options.workload);
  if (failed(result)) process.exitCode = 1;
  const suite = [basename(options.config), ...(options.read === undefined ? [] : [basename(options.read)])].join(' ');
  const text = formatExpectations(options.expectFormat, options.expect, suite, result);
  if (options.expectOut === undefined) return { result, text };
  try {
    writeFileSync(options.expectOut, text);
  } catch (error) {
    throw new Failure(`--expect-out: can't write ${options.expectOut}: ${(error as Error).message}.`, 2);
  }
  return { result, text: null };
}
