/** The version in package.json, two directories above the compiled file and one above the source. */
import { createRequire } from 'node:module';

export const VERSION = (createRequire(import.meta.url)('../package.json') as { version: string }).version;
