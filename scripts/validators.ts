/** Writes the validators of weir's own schemas to dist/validators (src/validator.ts). */
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Options } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import standalone from 'ajv/dist/standalone/index.js';
import { stateSchema } from '../src/appliance/messages.js';
import { applianceSchema } from '../src/appliance/schema.js';
import { SHAPE_VALIDATORS } from '../src/config/shape.js';
import { ALL_ERRORS, OWN_SCHEMA } from '../src/config/own-schema.js';
import { APPLIANCE_METHODS } from '../src/control/appliance-methods.js';
import { PARAMS } from '../src/control/call.js';
import { METHODS } from '../src/control/methods.js';
import { expectSchema } from '../src/replay/expect-schema.js';
import { schema as firewall } from '../src/service/functions/firewall-settings.js';
import { schema as ids } from '../src/service/functions/ids-settings.js';
import { schema as meter } from '../src/service/functions/meter-settings.js';
import { SETTINGS } from '../src/service/settings.js';
import { WRITTEN, writtenName } from '../src/validator.js';

export const VALIDATORS: readonly (readonly [schema: object, options: Options])[] = [
  ...SHAPE_VALIDATORS,
  [expectSchema, ALL_ERRORS],
  [applianceSchema, ALL_ERRORS],
  [stateSchema, OWN_SCHEMA],
  ...[...Object.values(METHODS), ...Object.values(APPLIANCE_METHODS)].map(({ params }) => [params, PARAMS] as const),
  ...[firewall, ids, meter].map((schema) => [schema, SETTINGS] as const),
];
if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  mkdirSync(WRITTEN, { recursive: true });
  const names = new Set<string>();
  for (const [schema, options] of VALIDATORS) {
    const ajv = new Ajv2020({ ...options, code: { source: true } });
    const name = writtenName(schema, options);
    names.add(name);
    // Whole or not at all: others may run from this checkout now.
    const draft = join(WRITTEN, `.${process.pid}`);
    writeFileSync(draft, standalone.default(ajv, ajv.compile(schema)));
    renameSync(draft, join(WRITTEN, name));
  }
  for (const name of readdirSync(WRITTEN)) if (!names.has(name)) rmSync(join(WRITTEN, name), { force: true });
}
