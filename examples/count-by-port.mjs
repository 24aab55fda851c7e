// A service function of one's own: counts packets by destination port, refuses those on a list, and logs once a minute.
//   weir node --service count --name count-1 --listen 10.20.0.41 --function ./examples/count-by-port.mjs --settings count.yaml
// count.yaml: {refuse: [23, 2323]}
const MOST_PORTS = 1000; // whatever comes from outside needs a bound
let refused = new Set();
const ports = new Map();

export default {
  name: 'count-by-port',
  schema: {
    type: 'object',
    additionalProperties: false,
    properties: { refuse: { type: 'array', items: { type: 'integer', minimum: 0, maximum: 65535 } } },
  },
  configure(settings) {
    refused = new Set(settings.refuse ?? []);
  },
  start(node) {
    this.dropped = node.counter('refused_packets', 'Packets to a port on the list.');
    node.every(60_000, () => node.log.info({ ports: Object.fromEntries(ports) }, 'packets by port'));
  },
  newStream: (packet) => ({ port: packet.destinationPort, packets: 0 }),
  onPacket(packet, stream) {
    stream.packets++;
    if (!refused.has(stream.port)) return 'forward';
    this.dropped.add();
    return 'drop';
  },
  onStreamEnd(stream) {
    if (ports.has(stream.port) || ports.size < MOST_PORTS) ports.set(stream.port, (ports.get(stream.port) ?? 0) + stream.packets);
  },
};
