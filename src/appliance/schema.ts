/** JSON Schema of an `appliance:` document. docs/weir-appliance.schema.json is this object, written by `npm run schema`. */
import { hook } from '../config/scale-schema.js';
import { duration, name } from '../config/schema-parts.js';

const address = { type: 'string', description: 'An IPv4 or IPv6 address of one host.' } as const;
const port = { type: 'integer', minimum: 1, maximum: 65535 } as const;
const settings = { type: 'object', description: "Settings of the units' function, as `weir node --settings` takes them from a file." } as const;

export const MOST_UNITS = 256;
export const MOST_MANAGERS = 8;
export const METRICS = ['cpu', 'packets_per_second', 'streams'] as const;

const members = (most: number, description: string, properties: object = {}): object => ({
  description,
  type: 'array',
  minItems: 1,
  maxItems: most,
  items: { type: 'object', additionalProperties: false, required: ['name', 'address'], properties: { name, address, ...properties } },
});

export const applianceSchema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'weir appliance',
  description: 'One service that several hosts perform together: dispatchers capture and stamp, data-plane units serve, managers say who does what.',
  type: 'object',
  additionalProperties: false,
  required: ['appliance'],
  properties: {
    appliance: {
      type: 'object',
      additionalProperties: false,
      required: ['name', 'service', 'managers', 'dispatchers', 'units', 'layout'],
      description: 'The appliance.',
      properties: {
        name,
        service: { ...name, description: "The service that it performs, as the dispatchers' configurations call it." },
        function: { type: 'string', minLength: 1, maxLength: 4096, description: 'pass, meter, firewall, ids, mark, or the path of a module, there on every unit. Default pass.' },
        settings,
        managers: members(MOST_MANAGERS, 'The first one that lives leads, the others keep its state.', { port: { ...port, description: 'TCP port. Default 4795.' } }),
        dispatchers: members(64, '`weir run`: by their addresses on the underlay, which stamped packets come from.'),
        units: members(MOST_UNITS, '`weir node`: those that may be used; layout says how many are.', {
          host: { ...name, description: 'What fails together, for spread and per_host. Default: a host for each unit.' },
          weight: { type: 'integer', minimum: 1, maximum: 65535, description: 'Share of new streams. Default 1.' },
          settings: { ...settings, description: 'Merged into the settings of all (RFC 7396).' },
        }),
        layout: {
          type: 'object',
          additionalProperties: false,
          required: ['min', 'max'],
          description: 'How many units there are, which, and when that changes.',
          properties: {
            min: { type: 'integer', minimum: 1, maximum: MOST_UNITS, description: 'At least.' },
            max: { type: 'integer', minimum: 1, maximum: MOST_UNITS, description: 'At most.' },
            start: { type: 'integer', minimum: 1, maximum: MOST_UNITS, description: 'At first. Default min.' },
            per_host: { type: 'integer', minimum: 1, maximum: MOST_UNITS, description: 'Units of one host at most. Default: no limit.' },
            spread: { enum: ['hosts', 'order'], description: 'hosts: as evenly over hosts as can be; order: in the order of the document. Default hosts.' },
            thresholds: {
              type: 'object',
              additionalProperties: false,
              required: ['metric', 'add_above', 'remove_below'],
              description: 'One unit more or less, by the mean of all. Default: only `weir appliance scale` changes their number.',
              properties: {
                metric: { enum: METRICS, description: 'As units report it; cpu in percent of one core.' },
                add_above: { type: 'number', exclusiveMinimum: 0, description: 'A unit comes when the mean has been above this.' },
                remove_below: { type: 'number', minimum: 0, description: 'A unit goes when the mean has been below this, and would not come to add_above by it.' },
                for: { ...duration, description: 'How long it must have been so. Default 30s.' },
              },
            },
            drain: { ...duration, description: 'How long a unit that goes may keep its streams. Default: until the last one ends.' },
            lease: { ...duration, description: 'A unit that has not been heard of for so long is given up, 200ms to 1m. Default 1s.' },
            add: hook('Starts a unit.'),
            remove: hook('Ends a unit.'),
          },
        },
      },
    },
  },
} as const;
