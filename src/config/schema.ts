/**
 * JSON Schema (2020-12) of the configuration: what `weir check` enforces and what editors load. docs/weir.schema.json is this
 * object, written by `npm run schema`.
 */

const name = { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' } as const;
const interfaceName = { type: 'string', pattern: '^[^\\s/]{1,15}$' } as const;
const duration = { type: 'string', pattern: '^[0-9]+(ms|s|m|h)$', description: 'A duration with its unit: 500ms, 350s, 5m, 2h.' } as const;
const port = { type: 'integer', minimum: 0, maximum: 65535 } as const;
const address = { type: 'string', description: 'An IPv4 or IPv6 address.' } as const;

const oneOrMany = (item: object): object => ({ anyOf: [item, { type: 'array', items: item, minItems: 1 }] });
const portOrRange = { anyOf: [port, { type: 'string', pattern: '^[0-9]{1,5}(-[0-9]{1,5})?$' }] };
const prefix = { type: 'string', description: 'An address or a prefix: 10.0.0.0/24, fd01::/64.' };
const protocol = { anyOf: [{ enum: ['tcp', 'udp', 'icmp', 'icmpv6'] }, { type: 'integer', minimum: 0, maximum: 255 }] };

export const schema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'weir configuration',
  type: 'object',
  additionalProperties: false,
  required: ['captures'],
  properties: {
    underlay: {
      type: 'object',
      additionalProperties: false,
      required: ['interface'],
      description: 'Where instances are reached.',
      properties: {
        interface: interfaceName,
        address: { ...address, description: "Tunnel source. Default: the interface's first address." },
        mtu: { type: 'integer', minimum: 576, maximum: 65535, description: "Default: the interface's MTU." },
      },
    },
    captures: {
      type: 'array',
      minItems: 1,
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['name', 'in', 'out'],
        properties: {
          name,
          in: { ...interfaceName, description: "The workload's side." },
          out: { ...interfaceName, description: "The network's side." },
          tenant: { type: 'integer', minimum: 0, maximum: 16777215, description: 'VNI of its packets; distinct among captures. Default: the lowest free number.' },
        },
      },
    },
    services: {
      type: 'object',
      propertyNames: name,
      additionalProperties: {
        type: 'object',
        additionalProperties: false,
        required: ['instances'],
        properties: {
          instances: {
            type: 'array',
            items: {
              type: 'object',
              additionalProperties: false,
              required: ['name', 'address'],
              properties: { name, address, weight: { type: 'integer', minimum: 1, maximum: 65535, description: 'Share of new streams. Default 1.' } },
            },
          },
          affinity: { enum: ['5-tuple', '3-tuple', '2-tuple'], description: 'What of a stream decides its instance. Default 5-tuple.' },
          on_failure: { enum: ['rebalance', 'hold'], description: 'Streams of an instance that is down. Default rebalance.' },
          fail: { enum: ['open', 'closed'], description: 'When no instance is left: skip the hop, or drop. Default closed.' },
          health: {
            type: 'object',
            additionalProperties: false,
            required: ['tcp'],
            properties: { tcp: { ...port, minimum: 1 }, interval: duration, timeout: duration, rise: { type: 'integer', minimum: 1, maximum: 100 }, fall: { type: 'integer', minimum: 1, maximum: 100 } },
          },
        },
      },
    },
    chains: {
      type: 'object',
      propertyNames: name,
      additionalProperties: {
        anyOf: [
          { type: 'array', items: name },
          {
            type: 'object',
            additionalProperties: false,
            required: ['services'],
            properties: {
              services: { type: 'array', items: name },
              return: { enum: ['hub'] },
              encapsulation: { enum: ['nsh', 'geneve'] },
              answers: { enum: ['backwards', 'forwards'], description: 'Order in which answers visit the services. Default backwards.' },
            },
          },
        ],
      },
    },
    policies: {
      type: 'array',
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['name', 'match'],
        properties: {
          name,
          priority: { type: 'integer', minimum: -1000000, maximum: 1000000, description: 'Higher wins. Default 0.' },
          match: {
            type: 'object',
            additionalProperties: false,
            description: 'Every key that is given must match; a list matches if one of its values does.',
            properties: {
              capture: oneOrMany(name),
              vlan: oneOrMany({ type: 'integer', minimum: 0, maximum: 4094 }),
              direction: { enum: ['out', 'in'], description: 'out: opened by the workload. Default: both.' },
              protocol: oneOrMany(protocol),
              source: oneOrMany(prefix),
              destination: oneOrMany(prefix),
              source_port: oneOrMany(portOrRange),
              destination_port: oneOrMany(portOrRange),
            },
          },
          chain: name,
          action: { enum: ['pass', 'drop'] },
        },
      },
    },
    default: { enum: ['pass', 'drop'], description: 'For streams that no policy matches. Default pass.' },
    encapsulation: { enum: ['nsh', 'geneve'], description: 'For chains that say none. Default nsh.' },
    port: { enum: ['ring', 'pcap'], description: 'How frames are captured and sent. Default ring.' },
    workers: { anyOf: [{ const: 'auto' }, { type: 'integer', minimum: 1, maximum: 8 }] },
    flows: {
      type: 'object',
      additionalProperties: false,
      properties: {
        max: { type: 'integer', minimum: 1, maximum: 16777216, description: 'Streams the flow table holds. Default 1000000.' },
        idle: { type: 'object', additionalProperties: false, properties: { tcp: duration, other: duration, closed: duration } },
      },
    },
    mss_clamp: { enum: ['auto', 'off'] },
    control: {
      type: 'object',
      additionalProperties: false,
      properties: { socket: { type: 'string', minLength: 1, maxLength: 107 }, mode: { type: 'string', pattern: '^0?[0-7]{3}$', description: 'Octal, quoted. Default "0660".' } },
    },
    state_dir: { type: 'string', minLength: 1 },
    affinity_key: { type: 'object', additionalProperties: false, required: ['file'], properties: { file: { type: 'string', minLength: 1 } } },
    log: { type: 'object', additionalProperties: false, properties: { level: { enum: ['trace', 'debug', 'info', 'warn', 'error'] } } },
  },
} as const;
