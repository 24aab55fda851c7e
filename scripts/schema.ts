/** Writes the JSON Schemas that editors load: docs/weir.schema.json of configurations, docs/weir-expect.schema.json of expectations, docs/weir-appliance.schema.json of appliances: `npm run schema`. */
import { writeFileSync } from 'node:fs';
import { applianceSchema } from '../src/appliance/schema.js';
import { schema } from '../src/config/schema.js';
import { expectSchema } from '../src/replay/expect-schema.js';

for (const [file, value] of [['weir', schema], ['weir-expect', expectSchema], ['weir-appliance', applianceSchema]] as const) {
  writeFileSync(new URL(`../docs/${file}.schema.json`, import.meta.url), `${JSON.stringify(value, null, 2)}\n`);
}
