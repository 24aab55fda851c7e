/** The validators that were written when weir was built: all of them are there, and each says what one says that Ajv makes now. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ErrorObject } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import t from 'tap';
import { parse } from 'yaml';
import { VALIDATORS } from '../../scripts/validators.js';
import { WRITTEN, validatorOf, writtenName } from '../../src/validator.js';
import { ROOT } from '../support/lab.js';

const read = (file: string): Record<string, unknown> => parse(readFileSync(join(ROOT, 'examples', file), 'utf8')) as Record<string, unknown>;
const whole = read('weir.yaml');
/** Documents, policies, parameters and settings; most of them are wrong somewhere for each schema. */
const VALUES: readonly unknown[] = [
  null, 5, '', [], {}, { nope: 1 }, [{ match: 5 }], { service: '', instance: 7, state: 'gone' }, { limit: 0.5, cursor: -1 },
  whole, read('conditions.yaml'), read('appliances.yaml'), { ...whole, captures: 5, chains: { a: [] }, health: { every: '5' } },
  { ...whole, configurations: { x: { when: { all: [{ not: {} }] }, policies: 'none' } } },
  ...(whole['policies'] as unknown[]), { name: 'ä', match: { protocol: 'tpc', source_port: 70_000 }, action: 'allow' },
  { default: 'nothing', rules: [{ protocol: 5 }] }, { patterns: [{ name: '', text: 5 }] },
];

t.test('each is there, by the schema that it is of', async (t) => {
  t.ok(VALIDATORS.length > 30);
  for (const [schema, options] of VALIDATORS) t.ok(existsSync(join(WRITTEN, writtenName(schema, options))), `${writtenName(schema, options)}: npm run build:ts writes it`);
});

t.test('the same verdicts, the same errors', async (t) => {
  type Validate = ReturnType<typeof validatorOf>;
  const said = (validate: Validate): unknown => VALUES.map((value) => [validate(value), validate.errors?.map((error: ErrorObject) => JSON.stringify(error))]);
  let wrong = 0;
  for (const [schema, options] of VALIDATORS) {
    const written = validatorOf(schema, options);
    t.strictSame(said(written), said(new Ajv2020(options).compile(schema)), writtenName(schema, options));
    wrong += VALUES.filter((value) => !written(value)).length;
  }
  t.ok(wrong > VALIDATORS.length * 10, `${wrong} values were refused`);
});

t.test('a schema that nothing was written for has a validator too', async (t) => {
  const validate = validatorOf({ type: 'object', properties: { a: { const: 5 } } }, { allErrors: true });
  t.ok(validate({ a: 5 }));
  t.notOk(validate({ a: 6 }));
  t.throws(() => validatorOf({ type: 'nothing that there is' }, {}), /type must be/);
});
