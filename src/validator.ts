/**
 * Validators of JSON Schemas. To write one takes Ajv longer than all else that a short command does: those of weir's own schemas are
 * written when weir is built (scripts/validators.ts). A file's name is made of its schema, so that what is found is what Ajv would write now.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Options, ValidateFunction } from 'ajv';
import { lazily } from './lazily.js';

const require = createRequire(import.meta.url);
const ajv = lazily<typeof import('ajv/dist/2020.js')>('ajv/dist/2020.js');

/** Of the checkout or package, whether this runs from src/ or from dist/. */
export const WRITTEN = fileURLToPath(new URL('../dist/validators', import.meta.url));

export function writtenName(schema: object, options: Options): string {
  return `${createHash('sha256').update(JSON.stringify([schema, options])).digest('hex').slice(0, 32)}.cjs`;
}

/** `options`: plain values. Throws Ajv's error if the schema is none. */
export function validatorOf(schema: object, options: Options): ValidateFunction {
  const written = join(WRITTEN, writtenName(schema, options));
  if (existsSync(written)) return require(written) as ValidateFunction;
  const { Ajv2020 } = ajv();
  return new Ajv2020(options).compile(schema);
}
