/** Writes the JSON Schemas that editors load: docs/weir.schema.json of configurations, docs/weir-expect.schema.json of expectations: `npm run schema`. */
import { writeFileSync } from 'node:fs';
import { schema } from '../src/config/schema.js';
import { expectSchema } from '../src/replay/expect-schema.js';

for (const [file, value] of [['weir', schema], ['weir-expect', expectSchema]] as const) {
  writeFileSync(new URL(`../docs/${file}.schema.json`, import.meta.url), `${JSON.stringify(value, null, 2)}\n`);
}
