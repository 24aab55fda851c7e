/** JSON Schema (2020-12) of an expectations file: matches are written as in policies. docs/replay.md says what each key means. */
import { schema } from '../config/schema.js';

const name = { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$', description: 'A name of at most 63 letters, digits, ".", "_" and "-".' } as const;
const number = { type: 'integer', minimum: 0, maximum: 1_000_000_000_000 } as const;
const count = (description: string): object => ({
  description,
  anyOf: [number, { type: 'object', additionalProperties: false, minProperties: 1, properties: { min: number, max: number } }],
});

export const expectSchema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'weir expectations',
  description: 'What a configuration should do with streams: each entry names streams and what is expected of every one of them.',
  type: 'array',
  minItems: 1,
  items: {
    type: 'object',
    additionalProperties: false,
    required: ['match'],
    properties: {
      name: { type: 'string', minLength: 1, maxLength: 200, description: 'What is claimed, in words.' },
      match: schema.$defs.policies.items.properties.match,
      policy: { description: 'The policy that decides; null for the default.', anyOf: [name, { type: 'null' }] },
      action: { enum: ['pass', 'drop', 'chain'], description: 'What is done.' },
      chain: { ...name, description: 'The chain that is taken.' },
      hops: { type: 'array', items: name, description: 'Services in order; an empty list for none.' },
      instances: {
        type: 'array',
        minItems: 1,
        items: { type: 'string', minLength: 3, description: 'An instance as SERVICE/NAME.' },
        description: 'Of each service that is named here, the instances that may be chosen.',
      },
      streams: count('How many streams match.'),
      packets: count('How many packets those streams have, in both directions.'),
    },
  },
} as const;

/** Keys of which an entry needs at least one, in the order in which they are looked at. */
export const EXPECTED_KEYS = ['action', 'chain', 'hops', 'policy', 'instances', 'streams', 'packets'] as const;
export type ExpectedKey = (typeof EXPECTED_KEYS)[number];
