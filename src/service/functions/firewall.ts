/**
 * `firewall`: ordered rules decide on what opens a connection; what belongs to an accepted one passes, in both directions, and so do the ICMP errors
 * that quote it. What belongs to none and can't open one is dropped.
 */
import type { Counter } from '../metrics.js';
import { ICMP, ICMP6, TCP, UDP, type Packet } from '../packet.js';
import { ACK, FIN, RST, SYN } from '../packet-views.js';
import type { FunctionNode, ServiceFunction } from '../service-function.js';
import { compile, firstMatch, schema, type FirewallSettings, type Policy } from './firewall-settings.js';
import { TcpConnection, sensibleFlags, tcpFields } from './tcp-window.js';

/** Rules that have a metric of their own. */
const MOST_RULE_METRICS = 100;

/** What the firewall knows of a stream. */
export class Connection {
  /** The rules under which its opening packet was accepted: number of the settings, 0 for none. */
  acceptedBy = 0;
  /** A packet has come the other way. */
  answered = false;
  tcp: TcpConnection | null = null;
  /** Opened anew by the other end. */
  turned = false;
  /** ICMP queries: a bit for each kind of request and direction that was accepted. */
  requests = 0;

  constructor(readonly protocol: number) {}
}

const NO_TCP = new TcpConnection();

interface Counts {
  readonly accepted: Counter;
  readonly refused: Counter;
  readonly invalid: Counter;
  readonly related: Counter;
}

export function firewall(): ServiceFunction<Connection, FirewallSettings> {
  let policy: Policy = compile({});
  /** Counts the settings: those that were accepted by older ones and have no answer yet are judged again. */
  let edition = 0;
  let counts: Counts | null = null;
  let ruleCounts = new Map<string, Counter>();

  const judge = (packet: Packet): boolean => {
    const rule = firstMatch(policy, packet);
    const accept = rule === null ? policy.accept : rule.accept;
    if (rule !== null && rule.name !== null) ruleCounts.get(rule.name)?.add();
    (accept ? counts?.accepted : counts?.refused)?.add();
    return accept;
  };

  /** Whether the rules let it open, or go on opening, the connection. */
  const opens = (packet: Packet, connection: Connection): boolean => {
    if (connection.acceptedBy === edition) return true;
    if (!judge(packet)) return false;
    connection.acceptedBy = edition;
    return true;
  };

  const invalid = (): boolean => {
    counts?.invalid.add();
    return false;
  };

  const passesTcp = (packet: Packet, connection: Connection): boolean => {
    const flags = packet.tcpFlags;
    if (!sensibleFlags(flags)) return invalid();
    const { tcp } = connection;
    if (tcp !== null) {
      const original = packet.original !== connection.turned;
      const verdict = tcp.take(packet, original);
      if (verdict === 'invalid') return invalid();
      if (verdict === 'belongs') {
        // Nothing but a reset for an answer: there never was a connection.
        if (!original && !connection.answered && (flags & RST) !== 0) packet.endStream();
        if (!original) connection.answered = true;
        return connection.answered || opens(packet, connection);
      }
      connection.tcp = null;
      connection.acceptedBy = 0;
      connection.answered = false;
      connection.turned = !packet.original;
    }
    const opening = (flags & (SYN | ACK | FIN | RST)) === SYN || (policy.pickUp && (flags & (SYN | ACK | FIN | RST)) === ACK);
    if (!opening) return invalid();
    if (!opens(packet, connection)) return false;
    connection.tcp = new TcpConnection();
    connection.tcp.open(packet);
    return true;
  };

  const passesIcmp = (packet: Packet, connection: Connection): boolean => {
    const type = packet.memory[packet.transport] ?? 0;
    const kind = queryKind(packet.protocol, type);
    if (kind < 0) return packet.protocol === ICMP6 && type >= 128 ? judge(packet) : invalid();
    const way = packet.original ? 0 : 1;
    if (!isRequest(packet.protocol, type)) return (connection.requests & bit(kind, 1 - way)) !== 0 ? true : invalid();
    if ((connection.requests & bit(kind, way)) !== 0 && connection.acceptedBy === edition) return true;
    if (!judge(packet)) return false;
    connection.requests |= bit(kind, way);
    connection.acceptedBy = edition;
    return true;
  };

  const passes = (packet: Packet, connection: Connection): boolean => {
    if (packet.version === 0) return invalid();
    if (packet.related) {
      if (connection.acceptedBy === 0 || !goesToSender(packet)) return invalid();
      counts?.related.add();
      return true;
    }
    if (packet.laterFragment) return connection.acceptedBy !== 0 ? true : invalid();
    if (packet.protocol === TCP) return passesTcp(packet, connection);
    if (packet.protocol === ICMP || packet.protocol === ICMP6) return passesIcmp(packet, connection);
    if (!packet.original && connection.acceptedBy !== 0) connection.answered = true;
    return connection.answered || opens(packet, connection);
  };

  return {
    name: 'firewall',
    schema,
    configure(settings, node) {
      policy = compile(settings);
      edition++;
      ruleCounts = ruleMetrics(policy, node);
    },
    start(node) {
      counts = {
        accepted: node.counter('firewall_accepted', 'Opening packets that the rules accepted.'),
        refused: node.counter('firewall_refused', 'Opening packets that the rules dropped.'),
        invalid: node.counter('firewall_invalid', 'Packets that belong to no connection and open none.'),
        related: node.counter('firewall_related', 'ICMP errors about accepted connections.'),
      };
    },
    newStream: (packet) => new Connection(packet.tupleProtocol),
    state: {
      version: 1,
      fields: { accepted: 'bool', answered: 'bool', turned: 'bool', requests: 'uint', has_tcp: 'bool', ...tcpFields },
      save: ({ acceptedBy, answered, turned, requests, tcp }) => ({ accepted: acceptedBy !== 0, answered, turned, requests, has_tcp: tcp !== null, ...(tcp ?? NO_TCP).save() }),
      load(fields, { protocol }) {
        const connection = new Connection(protocol);
        // The instance before had rules of its own; what it let in stays in.
        connection.acceptedBy = fields['accepted'] === true ? edition : 0;
        connection.answered = fields['answered'] === true;
        connection.turned = fields['turned'] === true;
        connection.requests = Number(fields['requests'] ?? 0);
        connection.tcp = fields['has_tcp'] === true ? TcpConnection.load(fields) : null;
        return connection;
      },
    },
    onPacket(packet, connection) {
      const pass = passes(packet, connection);
      // What was refused leaves nothing behind.
      if (!pass && connection.acceptedBy === 0) packet.endStream();
      return pass ? 'forward' : 'drop';
    },
    idleMs({ protocol, tcp }) {
      const { idle } = policy;
      if (protocol === UDP) return idle.udp;
      if (tcp === null) return idle.other;
      if (tcp.state === 'over') return idle.closed;
      return tcp.state === 'established' ? idle.established : idle.opening;
    },
  };
}

function ruleMetrics(policy: Policy, node: FunctionNode): Map<string, Counter> {
  const names = [...new Set(policy.rules.map(({ name }) => name).filter((name) => name !== null))].slice(0, MOST_RULE_METRICS);
  const counters = new Map<string, Counter>();
  for (const name of names) {
    try {
      counters.set(name, node.counter(`firewall_rule_${name}`, 'Opening packets that this rule decided on.'));
    } catch {
      break; // there is no room for more metrics
    }
  }
  return counters;
}

const bit = (kind: number, way: number): number => 1 << (kind * 2 + way);

/** 0 echo, 1 timestamp, 2 information, 3 address mask; -1 if it is no query. */
function queryKind(protocol: number, type: number): number {
  if (protocol === ICMP6) return type === 128 || type === 129 ? 0 : -1;
  if (type === 0 || type === 8) return 0;
  return type >= 13 && type <= 18 ? (type - 11) >> 1 : -1;
}

const isRequest = (protocol: number, type: number): boolean => (protocol === ICMP6 ? type === 128 : type === 8 || (type & 1) === 1);

/** An ICMP error goes to who sent the packet that it quotes, or somebody has made it up. */
function goesToSender({ memory, ip, version, tupleTo }: Packet): boolean {
  const [to, length] = version === 4 ? [ip + 16, 4] : [ip + 24, 16];
  for (let i = 0; i < length; i++) if (memory[to + i] !== memory[tupleTo + i]) return false;
  return true;
}
