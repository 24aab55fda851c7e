/** JSON Schema of named configurations and their conditions. */

const name = { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' } as const;
const text = { type: 'string', minLength: 1, maxLength: 255 } as const;
const limit = { type: 'integer', minimum: 0, maximum: 1_000_000_000_000_000 } as const;
const sides = { above: { ...limit, description: 'Holds while the value is greater.' }, below: { ...limit, description: 'Holds while the value is less.' } };
const threshold = (description: string): object => ({ type: 'object', additionalProperties: false, description, properties: sides });
const condition = (description: string): object => ({ description, $ref: '#/$defs/condition' });
const oneOrMany = (description: string): object => ({ description, anyOf: [text, { type: 'array', items: text, minItems: 1 }] });

const tests = {
  time: {
    type: 'object',
    additionalProperties: false,
    description: 'A window of the week by the clock of a zone, daylight saving included.',
    properties: {
      days: oneOrMany('Days on which it begins: mon … sun, or ranges such as mon-fri. Default: all.'),
      hours: oneOrMany('Such as 08:00-18:00; 22:00-06:00 ends on the day after. Default: the whole day.'),
      zone: { ...text, description: 'IANA time zone, such as Europe/Berlin. Default UTC.' },
    },
  },
  load: {
    type: 'object',
    additionalProperties: false,
    required: ['service'],
    description: 'What a service has to do: one of the three, over all its instances.',
    properties: {
      service: { ...name, description: 'Its name.' },
      packets_per_second: threshold('Packets sent to its instances in a second.'),
      streams: threshold('Live streams at its instances.'),
      cpu: threshold('Percent, where a service reports it; unknown otherwise.'),
    },
  },
  healthy: {
    type: 'object',
    additionalProperties: false,
    required: ['service'],
    description: 'How many instances of a service are up and have a neighbour entry.',
    properties: { service: { ...name, description: 'Its name.' }, ...sides },
  },
  streams: threshold('Live streams of the flow table.'),
  rate: {
    type: 'object',
    additionalProperties: false,
    required: ['capture'],
    description: 'What enters a capture by both sides.',
    properties: { capture: { ...name, description: 'Its name.' }, bits_per_second: threshold('Bits of frames.'), packets_per_second: threshold('Frames, super-frames counted once.') },
  },
  switch: { ...name, description: 'Holds while this switch is on: `weir condition switch NAME on`.' },
  all: { type: 'array', minItems: 1, items: { $ref: '#/$defs/condition' }, description: 'Each must hold.' },
  any: { type: 'array', minItems: 1, items: { $ref: '#/$defs/condition' }, description: 'One must hold.' },
  not: condition('Holds while this one does not; not while it is unknown.'),
  for: { type: 'string', pattern: '^[0-9]+(ms|s|m|h)$', description: 'How long it must hold without a break to count.' },
} as const;

export const conditionDefs = {
  condition: {
    description: 'Exactly one test, perhaps with for and until.',
    type: 'object',
    additionalProperties: false,
    properties: {
      ...tests,
      until: {
        description: 'Once the condition holds, it does until this one holds: a threshold of the same value, or another condition.',
        type: 'object',
        additionalProperties: false,
        properties: { ...tests, until: condition('As in any condition.'), ...sides },
      },
    },
  },
} as const;

const variant = {
  priority: { type: 'integer', minimum: -1_000_000, maximum: 1_000_000, description: 'The highest that holds is in force; among equals, the first written. Default 0.' },
  when: condition('When its policies replace those at the top level.'),
  damping: { enum: ['on', 'off'], description: 'Take measured conditions that flap as unknown until they are calm. Default on.' },
  policies: { description: 'As at the top level.', $ref: '#/$defs/policies' },
} as const;
const variantOf = (properties: object, required: readonly string[]): object => ({ type: 'object', additionalProperties: false, required, properties });

export const variantProperties = {
  switches: {
    description: 'Switches that people turn, by name: on or off at start.',
    type: 'object',
    propertyNames: name,
    additionalProperties: { enum: ['on', 'off'] },
  },
  configurations: {
    description: 'Policies that replace those at the top level while a condition holds; by name, or as a list.',
    anyOf: [
      { type: 'array', items: variantOf({ name: { ...name, description: 'Unique.' }, ...variant }, ['name', 'when', 'policies']) },
      { type: 'object', propertyNames: name, additionalProperties: variantOf(variant, ['when', 'policies']) },
    ],
  },
} as const;
