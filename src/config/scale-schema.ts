/** The part of the schema for `scale:` of a service. */
import { METRICS } from './placement.js';
import { duration } from './schema-parts.js';

const count = { type: 'integer', minimum: 1, maximum: 1000 } as const;
const word = { type: 'string', minLength: 1, maxLength: 4096 } as const;

export const hook = (what: string): object => ({
  description: `${what} exec: a program that is started without a shell, with WEIR_ACTION, WEIR_SERVICE, WEIR_INSTANCE and WEIR_ADDRESS in its environment; http: a URL that gets the same as JSON by POST.`,
  type: 'object',
  additionalProperties: false,
  minProperties: 1,
  maxProperties: 1,
  properties: {
    exec: { description: 'A program, or a list of it and its arguments.', anyOf: [word, { type: 'array', items: word, minItems: 1, maxItems: 64 }] },
    http: {
      description: 'Answered by any status from 200 to 299.',
      anyOf: [
        word,
        {
          type: 'object',
          additionalProperties: false,
          required: ['url'],
          properties: { url: { ...word, description: 'http or https.' }, token: { type: 'object', additionalProperties: false, required: ['file'], description: 'Sent as a bearer token.', properties: { file: { ...word, description: 'An absolute path.' } } } },
        },
      ],
    },
  },
});

const bothWays = (item: object, description: string): object => ({
  description,
  anyOf: [item, { type: 'object', additionalProperties: false, properties: { up: { ...item, description: 'When instances come.' }, down: { ...item, description: 'When instances go.' } } }],
});

export const scaleSchema = {
  description: 'How many instances there are follows the load: hooks start and end them beside those in the document. Needs a check under `health`.',
  type: 'object',
  additionalProperties: false,
  required: ['max', 'target', 'add', 'remove'],
  properties: {
    min: { ...count, description: 'Instances there are at least, those of the document included. Default 1.' },
    max: { ...count, description: 'And at most.' },
    metric: { enum: METRICS, description: 'cpu and queue as instances report them, the others also as weir measures them. Default cpu.' },
    target: { type: 'number', exclusiveMinimum: 0, description: 'Of the metric, for each instance.' },
    step: bothWays(count, 'Instances that come or go at one time. Default 1.'),
    cooldown: bothWays(duration, 'From one change to the next; for as long, fewer must have been enough before one goes. Default 5s up, 60s down.'),
    drain: { ...duration, description: 'How long an instance that goes may keep its streams. Default: until the last one ends.' },
    ready: { ...duration, description: 'How long a new instance may take to be healthy, and one that was healthy to be so again, before it is removed. Default 60s.' },
    timeout: { ...duration, description: 'Of a hook. Default 30s.' },
    addresses: { description: 'Where new instances are put, the first free one: addresses, ranges (10.20.0.40-10.20.0.49), prefixes (10.20.0.64/28). Default: the hook says it.', anyOf: [word, { type: 'array', items: word, minItems: 1, maxItems: 256 }] },
    add: hook('Starts an instance.'),
    remove: hook('Ends an instance.'),
  },
} as const;
