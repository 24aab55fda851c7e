/** Writes docs/weir.schema.json, the configuration's JSON Schema for editors: `npm run schema`. */
import { writeFileSync } from 'node:fs';
import { schema } from '../src/config/schema.js';

writeFileSync(new URL('../docs/weir.schema.json', import.meta.url), `${JSON.stringify(schema, null, 2)}\n`);
