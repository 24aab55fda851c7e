import { readFileSync, readdirSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import t from 'tap';
import { formatErrors } from '../../src/config/errors.js';
import { loadConfiguration } from '../../src/config/load.js';
import { schema } from '../../src/config/schema.js';

const top = new URL('../../', import.meta.url);

t.test('the published schema is the one in force: run `npm run schema` if it is not', async (t) => {
  t.strictSame(JSON.parse(readFileSync(new URL('docs/weir.schema.json', top), 'utf8')), JSON.parse(JSON.stringify(schema)));
});

t.test('the schema is valid itself', async (t) => {
  t.ok(new Ajv2020({ strict: false }).validateSchema(schema));
});

t.test('an editor can say of every key what it is for', async (t) => {
  const undescribed: string[] = [];
  const walk = (node: unknown, path: string): void => {
    if (node === null || typeof node !== 'object') return;
    const { properties, items, additionalProperties, anyOf } = node as Record<string, unknown>;
    for (const [key, value] of Object.entries((properties ?? {}) as Record<string, Record<string, unknown>>)) {
      if (value['description'] === undefined) undescribed.push(`${path}.${key}`);
      walk(value, `${path}.${key}`);
    }
    walk(items, `${path}[]`);
    walk(additionalProperties, `${path}.*`);
    if (Array.isArray(anyOf)) anyOf.forEach((branch) => walk(branch, path));
  };
  walk(schema, '');
  t.strictSame(undescribed, []);
});

for (const file of readdirSync(new URL('examples/', top)).filter((name) => name.endsWith('.yaml') && !name.startsWith('expect') && name !== 'appliance.yaml')) {
  t.test(`examples/${file} is valid and names its schema`, async (t) => {
    const loaded = loadConfiguration(new URL(`examples/${file}`, top).pathname);
    t.ok(loaded.ok, loaded.ok ? file : formatErrors(loaded.errors));
    t.match(readFileSync(new URL(`examples/${file}`, top), 'utf8'), /^# yaml-language-server: \$schema=\.\.\/docs\/weir\.schema\.json\n/);
  });
}
