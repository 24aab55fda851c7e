/**
 * JSON Schema (2020-12) of the configuration: what `weir check` enforces and what editors load. docs/weir.schema.json is this
 * object, written by `npm run schema`.
 */
import { conditionDefs, variantProperties } from './condition-schema.js';

const name = { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$', description: 'A name of at most 63 letters, digits, ".", "_" and "-".' } as const;
const interfaceName = { type: 'string', pattern: '^(?!\\.{1,2}$)[^\\s/:]{1,15}$' } as const;
const duration = { type: 'string', pattern: '^[0-9]+(ms|s|m|h)$', description: 'A duration with its unit: 500ms, 350s, 5m, 2h.' } as const;
const port = { type: 'integer', minimum: 0, maximum: 65535 } as const;
const address = { type: 'string', description: 'An IPv4 or IPv6 address of one host.' } as const;

const oneOrMany = (item: object, description: string): object => ({ description, anyOf: [item, { type: 'array', items: item, minItems: 1 }] });
const portOrRange = { anyOf: [port, { type: 'string', pattern: '^[0-9]{1,5}(-[0-9]{1,5})?$' }] };
const prefix = { type: 'string', description: 'An address or a prefix: 10.0.0.0/24, fd01::/64.' };
// 255 is reserved (IANA), and stands for any protocol in a compiled rule.
const protocol = { anyOf: [{ enum: ['tcp', 'udp', 'icmp', 'icmpv6'] }, { type: 'integer', minimum: 0, maximum: 254 }] };

const policies = {
  description: 'Matched against the packet that opens a stream: the highest priority first, then the most specific, then the first written. Each has either a chain or an action.',
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
          capture: oneOrMany(name, 'Names of captures.'),
          vlan: oneOrMany({ type: 'integer', minimum: 0, maximum: 4094 }, 'Outermost VLAN ids; 0 is untagged.'),
          direction: oneOrMany({ enum: ['out', 'in'] }, 'out: opened by the workload. Default: both.'),
          protocol: oneOrMany(protocol, 'Names, or numbers of IANA.'),
          source: oneOrMany(prefix, 'Addresses or prefixes of who opens the stream.'),
          destination: oneOrMany(prefix, 'Addresses or prefixes that it is opened to.'),
          source_port: oneOrMany(portOrRange, 'Ports or ranges, for tcp and udp.'),
          destination_port: oneOrMany(portOrRange, 'Ports or ranges, for tcp and udp.'),
        },
      },
      chain: { ...name, description: 'The chain that its streams take.' },
      action: { enum: ['pass', 'drop'], description: 'pass: across unchanged.' },
    },
  },
} as const;

export const schema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'weir configuration',
  description: 'What is captured, which services there are, which chains of them, and which streams take which chain.',
  type: 'object',
  additionalProperties: false,
  required: ['captures'],
  $defs: { ...conditionDefs, policies },
  properties: {
    underlay: {
      type: 'object',
      additionalProperties: false,
      required: ['interface'],
      description: 'Where instances are reached.',
      properties: {
        interface: { ...interfaceName, description: 'Its name, as `ip link` shows it; `lo` for instances on this host.' },
        address: { ...address, description: "The tunnel's source, an IPv4 or IPv6 address. Default: the interface's first address." },
        mtu: { type: 'integer', minimum: 576, maximum: 65535, description: "Default: the interface's MTU." },
      },
    },
    captures: {
      description: 'Pairs of interfaces that weir is the only way between.',
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
      description: 'Services by name.',
      type: 'object',
      propertyNames: name,
      additionalProperties: {
        type: 'object',
        additionalProperties: false,
        required: ['instances'],
        properties: {
          instances: {
            description: 'The places that perform this service. Names are unique within it, addresses among all.',
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
            description: 'A TCP connection that an instance must accept: rise times in a row to be up, fall times missed to be down.',
            type: 'object',
            additionalProperties: false,
            required: ['tcp'],
            properties: {
              tcp: { ...port, minimum: 1, description: 'Port on the instance.' },
              interval: { ...duration, description: 'Default 1s.' },
              timeout: { ...duration, description: 'Default 500ms.' },
              rise: { type: 'integer', minimum: 1, maximum: 100, description: 'Default 2.' },
              fall: { type: 'integer', minimum: 1, maximum: 100, description: 'Default 3.' },
            },
          },
        },
      },
    },
    chains: {
      description: 'Chains by name: a list of services in order, each once, at most 32; or the same with options. An empty one passes streams on, counted.',
      type: 'object',
      propertyNames: name,
      additionalProperties: {
        anyOf: [
          { type: 'array', items: name, description: 'Services in the order in which a stream visits them.' },
          {
            type: 'object',
            additionalProperties: false,
            required: ['services'],
            properties: {
              services: { type: 'array', items: name, description: 'In the order in which a stream visits them.' },
              return: { enum: ['hub'], description: 'hub: each instance returns the packet to weir. Default hub.' },
              encapsulation: { enum: ['nsh', 'geneve'], description: 'Default: the one at the top level of the document.' },
              answers: { enum: ['backwards', 'forwards'], description: 'Order in which answers visit the services. Default backwards.' },
            },
          },
        ],
      },
    },
    policies,
    ...variantProperties,
    default: { enum: ['pass', 'drop'], description: 'For streams that no policy matches. Default pass.' },
    encapsulation: { enum: ['nsh', 'geneve'], description: 'For chains that say none. Default nsh.' },
    port: { enum: ['ring', 'pcap'], description: 'How frames are captured and sent. Default ring.' },
    workers: { description: 'Threads that move packets. Default auto.', anyOf: [{ const: 'auto' }, { type: 'integer', minimum: 1, maximum: 8 }] },
    flows: {
      description: 'The table of live streams.',
      type: 'object',
      additionalProperties: false,
      properties: {
        max: { type: 'integer', minimum: 1, maximum: 16777216, description: 'Streams the flow table holds. Default 1000000.' },
        idle: {
          type: 'object',
          additionalProperties: false,
          description: 'How long a stream may be silent before it is forgotten.',
          properties: {
            tcp: { ...duration, description: 'TCP. Default 350s.' },
            other: { ...duration, description: 'Everything else. Default 120s.' },
            closed: { ...duration, description: 'TCP after FIN or RST. Default 5s.' },
          },
        },
      },
    },
    mss_clamp: { enum: ['auto', 'off'], description: 'Lower the MSS of TCP so that stamped segments fit the underlay. Default auto.' },
    control: {
      description: 'The socket that `weir status` and the other commands talk to.',
      type: 'object',
      additionalProperties: false,
      properties: { socket: { type: 'string', minLength: 1, maxLength: 107, description: 'Path of the Unix socket. Default /run/weir/weir.sock.' }, mode: { type: 'string', pattern: '^0?[0-7]{3}$', description: 'Octal, quoted. Default "0660".' } },
    },
    state_dir: { type: 'string', minLength: 1, description: 'Default /var/lib/weir.' },
    affinity_key: { type: 'object', additionalProperties: false, required: ['file'], description: 'Key of the affinity codes, the same for all members of a cluster. Default: random.', properties: { file: { type: 'string', minLength: 1, description: '16 bytes, raw or as 32 hexadecimal digits; relative to this document.' } } },
    log: { description: 'What is written to standard error.', type: 'object', additionalProperties: false, properties: { level: { enum: ['trace', 'debug', 'info', 'warn', 'error'], description: 'Default info.' } } },
  },
} as const;
