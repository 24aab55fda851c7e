/**
 * JSON Schema (2020-12) of the configuration: what `weir check` enforces and what editors load. docs/weir.schema.json is this
 * object, written by `npm run schema`.
 */
import { conditionDefs, variantProperties } from './condition-schema.js';
import { STATUS_PATTERN } from './health.js';
import { METRICS } from './placement.js';
import { scaleSchema } from './scale-schema.js';
import { duration, name } from './schema-parts.js';

const interfaceName = { type: 'string', pattern: '^(?!\\.{1,2}$)[^\\s/:]{1,15}$' } as const;
const port = { type: 'integer', minimum: 0, maximum: 65535 } as const;
const address = { type: 'string', description: 'An IPv4 or IPv6 address of one host.' } as const;

const oneOrMany = (item: object, description: string): object => ({ description, anyOf: [item, { type: 'array', items: item, minItems: 1 }] });
const portOrRange = { anyOf: [port, { type: 'string', pattern: '^[0-9]{1,5}(-[0-9]{1,5})?$' }] };
const prefix = { type: 'string', description: 'An address or a prefix: 10.0.0.0/24, fd01::/64.' };
// 255 is reserved (IANA), and stands for any protocol in a compiled rule.
const protocol = { anyOf: [{ enum: ['tcp', 'udp', 'icmp', 'icmpv6'] }, { type: 'integer', minimum: 0, maximum: 254 }] };

const chainServices = { type: 'array', items: name, minItems: 1, description: 'Services in the order in which a stream visits them.' } as const;
const tag = { type: 'integer', minimum: 1, maximum: 4094 } as const;
const attach = {
  description: 'For an instance that knows nothing of stamps: `in` and `out` where frames go through it as through a wire, `via` where it routes.',
  type: 'object',
  additionalProperties: false,
  properties: {
    in: { ...interfaceName, description: "Interface on its workload side." },
    out: { ...interfaceName, description: 'Interface on its network side.' },
    vlan: {
      description: 'Tag of its frames on both interfaces, or on each: what tells instances that share an interface.',
      anyOf: [tag, { type: 'object', additionalProperties: false, required: ['in', 'out'], properties: { in: { ...tag, description: 'On the interface of `in`.' }, out: { ...tag, description: 'On the interface of `out`.' } } }],
    },
    via: {
      description: "The router's address, or that of its workload side and that of its network side.",
      anyOf: [address, { type: 'object', additionalProperties: false, required: ['in', 'out'], properties: { in: { ...address, description: 'On its workload side.' }, out: { ...address, description: 'On its network side.' } } }],
    },
  },
} as const;

const underlayProperties = {
  interface: { ...interfaceName, description: 'Its name, as `ip link` shows it; `lo` for instances on this host.' },
  address: { ...address, description: "The tunnel's source, an IPv4 or IPv6 address. Default: the interface's first address." },
  mtu: { type: 'integer', minimum: 576, maximum: 65535, description: "Default: the interface's MTU." },
  fragment: { type: 'boolean', description: 'Stamped packets that are longer than the MTU and can not be cut leave in fragments, up to 9,216 bytes each without their stamp; default: their sender is told (ICMP) and they are dropped.' },
} as const;

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

const placement = {
  description: 'Which instance a new stream gets: hash (by the service map and weights alone), or by_load: those with less to do get more. Live streams stay where they are. Default hash.',
  anyOf: [
    { enum: ['hash', 'by_load'] },
    {
      type: 'object',
      additionalProperties: false,
      required: ['by'],
      properties: {
        by: { enum: ['load'], description: 'load.' },
        metric: { enum: METRICS, description: 'The load that is to be even: cpu and queue as instances report them, the others also as weir measures them. Default cpu.' },
        least: { type: 'integer', minimum: 1, maximum: 100, description: 'Percent of its weight that an instance keeps however busy it is. Default 12.' },
        interval: { ...duration, description: 'From one change of shares to the next, at least, 1s to 1h. Default 2s.' },
      },
    },
  ],
} as const;

const health = {
  description: 'How it is found out whether an instance works: rise checks answered in a row make it up, fall missed in a row make it down. One of tcp, http and probe, or passive, or both.',
  type: 'object',
  additionalProperties: false,
  properties: {
    tcp: { ...port, minimum: 1, description: 'A TCP connection to this port on the instance must be accepted.' },
    http: {
      type: 'object',
      additionalProperties: false,
      required: ['port'],
      description: 'A GET request must be answered with the right status.',
      properties: {
        port: { ...port, minimum: 1, description: 'Port on the instance.' },
        path: { type: 'string', pattern: '^/', maxLength: 1024, description: 'A path such as /healthz. Default /.' },
        status: { description: 'A status, or a range of them. Default 200-299.', anyOf: [{ type: 'integer', minimum: 100, maximum: 599 }, { type: 'string', pattern: STATUS_PATTERN, description: 'A range such as 200-399.' }] },
      },
    },
    probe: {
      description: 'A stamped packet with the O bit must come back; `weir node` returns it. true, or options.',
      anyOf: [{ type: 'boolean' }, { type: 'object', additionalProperties: false, properties: { encapsulation: { enum: ['nsh', 'geneve'], description: 'Default: that of the first chain with this service.' } } }],
    },
    passive: {
      description: 'What traffic shows counts too. true, or options.',
      anyOf: [
        { type: 'boolean' },
        {
          type: 'object',
          additionalProperties: false,
          properties: {
            unreachable: { description: 'ICMP "unreachable" about its packets since it last returned one, or off. Default 3.', anyOf: [{ type: 'integer', minimum: 1, maximum: 1000000 }, { const: 'off' }] },
            silent: { description: 'Packets sent to it since it last returned one, or off. Default 1000.', anyOf: [{ type: 'integer', minimum: 1, maximum: 1000000000 }, { const: 'off' }] },
            recheck: { ...duration, description: 'Without a check: how long until it is tried again, doubled each time it fails at once. Default 5s.' },
          },
        },
      ],
    },
    interval: { ...duration, description: 'From one check to the next, 10ms to 1h. Default 500ms.' },
    timeout: { ...duration, description: 'At most the interval. Default 500ms, or the interval if that is less.' },
    rise: { type: 'integer', minimum: 1, maximum: 100, description: 'Default 2.' },
    fall: { type: 'integer', minimum: 1, maximum: 100, description: 'Default 3.' },
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
      description: 'Where instances are reached: one network, or a list of networks with a name each.',
      anyOf: [
        { type: 'object', additionalProperties: false, required: ['interface'], properties: underlayProperties },
        { type: 'array', minItems: 1, maxItems: 16, items: { type: 'object', additionalProperties: false, required: ['name', 'interface'], properties: { name, ...underlayProperties } } },
      ],
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
              required: ['name'],
              properties: {
                name,
                address: { ...address, description: 'Where it gets stamped packets. With `attach` it is not needed.' },
                underlay: { ...name, description: 'The underlay that it is reached by. Default: the one that the route of the kernel to its address leads through.' },
                weight: { type: 'integer', minimum: 1, maximum: 65535, description: 'Share of new streams. Default 1.' },
                attach,
              },
            },
          },
          affinity: { enum: ['5-tuple', '3-tuple', '2-tuple'], description: 'What of a stream decides its instance. Default 5-tuple.' },
          on_failure: { enum: ['rebalance', 'hold'], description: 'Streams of an instance that is down. Default rebalance.' },
          fail: { enum: ['open', 'closed'], description: 'When no instance is left: skip the hop, or drop. Default closed.' },
          health,
          balancer: { enum: ['forwarder', 'primary', 'primary_shares', 'units'], description: 'Who chooses the instance of a new stream: weir; the first instance in rank (primary), which directs streams to the others; weir by the shares that it publishes; or weir, and the units of an appliance among themselves (a dispatcher sets this itself). Default forwarder.' },
          placement,
          scale: scaleSchema,
          sync: { enum: ['off', 'async', 'strict'], description: 'Whether the state of a stream is kept by a second instance, too: after the packet has left (async), or before (strict). Needs mesh. Default off.' },
        },
      },
    },
    chains: {
      description: 'Chains by name: a list of services in order, each once, 1 to 32 of them; or the same with options.',
      type: 'object',
      propertyNames: name,
      additionalProperties: {
        anyOf: [
          chainServices,
          {
            type: 'object',
            additionalProperties: false,
            required: ['services'],
            properties: {
              services: chainServices,
              return: { enum: ['hub', 'mesh'], description: 'hub: each instance returns the packet to weir. mesh: each sends it to the next one, and the last one to weir; needs mesh. Default hub.' },
              exit: { enum: ['weir', 'direct'], description: "With return: mesh, where packets of the workload's streams go after the last service: back to weir, or straight out, as the kernel of the last instance's host routes them. Default weir." },
              encapsulation: { enum: ['nsh', 'geneve'], description: 'Default: the one at the top level of the document.' },
              answers: { enum: ['backwards', 'forwards'], description: 'Order in which answers visit the services. Default backwards.' },
              deliver: { type: 'boolean', description: 'The last service keeps the packets and answers the client by itself, as a load balancer or a server with a virtual address does. Default false.' },
              virtual_addresses: { type: 'array', items: address, minItems: 1, maxItems: 1024, description: "With deliver: addresses that no host of the captures' segments has, and that weir therefore answers ARP and neighbour discovery for." },
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
      properties: { socket: { type: 'string', minLength: 1, maxLength: 107, description: 'Path of the Unix socket. Default /run/weir/weir.sock.' }, mode: { type: 'string', pattern: '^0?[0-7]{3}$', description: 'Octal, quoted. Default "0660".' }, read_only_group: { type: 'string', pattern: '^[A-Za-z0-9_][A-Za-z0-9._-]{0,31}$', description: 'Name or number of a group: its members may ask and change nothing. With it everybody may connect, and the kernel says who it is.' } },
    },
    state_dir: { type: 'string', minLength: 1, description: 'Default /var/lib/weir.' },
    affinity_key: { type: 'object', additionalProperties: false, required: ['file'], description: 'Key of the affinity codes, the same for all members of a cluster. Default: random, kept in state_dir.', properties: { file: { type: 'string', minLength: 1, description: '16 bytes, raw or as 32 hexadecimal digits; relative to this document.' } } },
    load: {
      type: 'object',
      additionalProperties: false,
      required: ['key'],
      description: 'Load reports of instances (`weir node --report`) are taken on the addresses of the underlay.',
      properties: {
        key: { type: 'object', additionalProperties: false, required: ['file'], description: 'What reports are authenticated with, the same for all members.', properties: { file: { type: 'string', minLength: 1, description: 'At least 16 bytes; relative to this document.' } } },
        port: { ...port, minimum: 1, description: 'UDP port. Default 4793.' },
      },
    },
    mesh: {
      description: 'Service nodes (`weir node --mesh`) say hello on the addresses of the underlay, and get the service map: for mesh chains, and services with sync.',
      type: 'object',
      additionalProperties: false,
      required: ['key'],
      properties: {
        key: { type: 'object', additionalProperties: false, required: ['file'], description: 'What nodes and weir know each other by.', properties: { file: { type: 'string', minLength: 1, description: 'At least 16 bytes; relative to this document.' } } },
        port: { ...port, minimum: 1, description: 'UDP port. Default 4794.' },
        lease: { ...duration, description: 'A node that has not been heard of for so long has failed, 50ms to 1m. Default 1s.' },
      },
    },
    metrics: {
      description: 'Serves metrics in the Prometheus text format at http://ADDRESS:PORT/metrics. They are also on the control socket: `weir metrics`.',
      type: 'object',
      additionalProperties: false,
      required: ['listen'],
      properties: {
        listen: { type: 'string', description: 'An IP address and a port, such as 127.0.0.1:9477 or "[::1]:9477". Other than a loopback address needs public: true.' },
        public: { type: 'boolean', description: 'Whoever reaches the address may read names, addresses and rates: there is no authentication. Default false.' },
      },
    },
    log: { description: 'What is written to standard error.', type: 'object', additionalProperties: false, properties: { level: { enum: ['trace', 'debug', 'info', 'warn', 'error'], description: 'Default info.' } } },
  },
} as const;
