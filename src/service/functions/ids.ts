/**
 * `ids`: looks for many patterns in what TCP streams carry, put in order, and in UDP datagrams, both directions. Each pattern alerts once a stream
 * and direction; one whose action is `drop` ends the stream there.
 */
import type { Counter, Gauge } from '../metrics.js';
import { addressText, u32 } from '../bytes.js';
import { TCP, UDP, UNKNOWN, type Packet } from '../packet.js';
import type { FunctionNode, ServiceFunction } from '../service-function.js';
import { AlertFile } from './alert-file.js';
import { compile, schema, type IdsSettings, type LiteralSet, type Pattern, type Patterns } from './ids-settings.js';
import { HeldBytes, TcpAssembly } from './tcp-assembly.js';

/** What is known of one direction of a stream. */
class Direction {
  readonly assembly: TcpAssembly;
  exact = 0;
  folded = 0;
  /** Settings that the states above belong to. */
  edition = 0;
  /** Patterns that have alerted, by index; and literals that were seen for the sake of their regular expressions. */
  alerted: Set<string> | null = null;
  seen: Set<string> | null = null;

  constructor(held: HeldBytes) {
    this.assembly = new TcpAssembly(held);
  }
}

class Watched {
  readonly forward: Direction;
  readonly answer: Direction;
  /** A pattern that drops was found. */
  blocked = false;

  constructor(
    held: HeldBytes,
    readonly forwardSource: string,
    readonly forwardSourcePort: number,
    readonly forwardDestination: string,
    readonly forwardDestinationPort: number,
  ) {
    this.forward = new Direction(held);
    this.answer = new Direction(held);
  }
}

interface Counts {
  readonly alerts: Counter;
  readonly lost: Gauge;
  readonly blocked: Counter;
  readonly gaps: Counter;
  readonly conflicts: Counter;
  readonly unreadable: Counter;
  readonly held: Gauge;
}

const CONFLICT = 'conflict';

export function ids(): ServiceFunction<Watched, IdsSettings> {
  let patterns: Patterns = compile({ rules: [] });
  let edition = 0;
  const held = new HeldBytes(patterns.totalBytes);
  let file: AlertFile | null = null;
  let counts: Counts | null = null;

  /** One packet's search. */
  const search = { packet: null as Packet | null, watched: null as Watched | null, direction: null as Direction | null, node: null as FunctionNode | null, drop: false };

  const alert = (id: string, message: string | null, action: 'alert' | 'drop', offset: number): void => {
    const { packet, watched, direction, node } = search;
    if (packet === null || watched === null || direction === null || node === null) return;
    direction.alerted ??= new Set();
    if (direction.alerted.has(id)) return;
    direction.alerted.add(id);
    counts?.alerts.add();
    const line = {
      time: new Date(node.nowMs).toISOString(),
      rule: id,
      ...(message === null ? {} : { message }),
      action,
      direction: packet.original ? 'forward' : 'answer',
      offset,
      stream: {
        protocol: packet.protocol === TCP ? 'tcp' : 'udp',
        source: watched.forwardSource,
        source_port: watched.forwardSourcePort,
        destination: watched.forwardDestination,
        destination_port: watched.forwardDestinationPort,
        code: `0x${packet.code.toString(16).padStart(8, '0')}`,
      },
      service: node.service,
      instance: node.name,
    };
    if (file === null) node.log.warn(line, `ids: ${id}`);
    else file.add(line);
  };

  const hit = (pattern: Pattern, offset: number): void => {
    const { packet } = search;
    if (packet === null || !concerns(pattern, packet)) return;
    alert(pattern.id, pattern.message, pattern.drop ? 'drop' : 'alert', offset);
    if (!pattern.drop) return;
    search.drop = true;
    if (search.watched === null || search.watched.blocked) return;
    search.watched.blocked = true;
    counts?.blocked.add();
  };

  const literals = (set: LiteralSet, from: number, bytes: Uint8Array, offset: number): number =>
    set.literals.scan(from, bytes, 0, bytes.length, (p, end) => {
      const pattern = set.patterns[p] as Pattern;
      if (pattern.guarded) ((search.direction as Direction).seen ??= new Set()).add(pattern.id);
      else hit(pattern, offset + end - pattern.literalBytes);
    });

  /** `bytes` follow `tail`; the first of them is byte `offset` of the direction. */
  const expressions = (tail: Uint8Array, bytes: Uint8Array, offset: number): void => {
    const { packet } = search;
    const direction = search.direction as Direction;
    const text = new Map<number, string>();
    for (const pattern of patterns.regexes) {
      if (packet === null || !concerns(pattern, packet) || direction.alerted?.has(pattern.id) === true) continue;
      if (pattern.guarded && direction.seen?.has(pattern.id) !== true) continue;
      // One byte more than the window: what stands before a match is not its beginning.
      const before = Math.min(tail.length, pattern.window + 1);
      let joined = text.get(before);
      if (joined === undefined) {
        joined = latin1(tail.subarray(tail.length - before)) + latin1(bytes);
        text.set(before, joined);
      }
      const matcher = (pattern.regex as NonNullable<Pattern['regex']>).matcher(joined);
      for (let found = matcher.find(offset > before ? 1 : 0); found; found = matcher.find()) {
        if (matcher.end() <= before && !pattern.guarded) continue; // it was there before
        hit(pattern, offset - before + matcher.start());
        break;
      }
    }
  };

  const scan = (bytes: Uint8Array): void => {
    const direction = search.direction as Direction;
    const { offset, tail } = direction.assembly;
    if (patterns.exact !== null) direction.exact = literals(patterns.exact, direction.exact, bytes, offset);
    if (patterns.folded !== null) direction.folded = literals(patterns.folded, direction.folded, bytes, offset);
    if (patterns.regexes.length > 0) expressions(tail, bytes, offset);
  };

  const gap = (): void => {
    const direction = search.direction as Direction;
    direction.exact = direction.folded = 0;
    counts?.gaps.add();
  };

  const takeTcp = (packet: Packet, direction: Direction): void => {
    const taken = direction.assembly.take(u32(packet.memory, packet.transport + 4), packet.tcpFlags, packet.payload, patterns, patterns.skip, scan, gap);
    if (taken === 'full') search.drop = true;
    if (taken !== 'conflict') return;
    counts?.conflicts.add();
    alert(CONFLICT, 'a copy of a segment has other bytes', patterns.dropConflicts ? 'drop' : 'alert', direction.assembly.offset);
    if (patterns.dropConflicts) search.drop = true;
  };

  const takeUdp = (packet: Packet, direction: Direction): void => {
    direction.exact = direction.folded = 0;
    scan(packet.payload);
  };

  return {
    name: 'ids',
    schema,
    configure(settings, node) {
      patterns = compile(settings);
      held.most = patterns.totalBytes;
      edition++;
      if (patterns.alerts !== (file?.path ?? null)) file = patterns.alerts === null ? null : new AlertFile(patterns.alerts, node.log);
    },
    start(node) {
      counts = {
        alerts: node.counter('ids_alerts', 'Alerts.'),
        lost: node.gauge('ids_alerts_lost', 'Alerts that could not be written.'),
        blocked: node.counter('ids_streams_blocked', 'Streams that were ended by a pattern.'),
        gaps: node.counter('ids_gaps', 'Times that missing bytes were given up.'),
        conflicts: node.counter('ids_conflicts', 'Copies of segments with other bytes.'),
        unreadable: node.counter('ids_unreadable', 'Packets that could not be read: dropped where a rule drops.'),
        held: node.gauge('ids_held_bytes', 'Bytes held: those that came too early, and the last ones of each stream.'),
      };
      node.every(1000, () => {
        counts?.held.set(held.used);
        counts?.lost.set(file?.lost ?? 0);
      });
    },
    newStream(packet) {
      const { memory, version } = packet;
      const text = (at: number): string => (version === 0 ? '' : addressText(memory, at, version));
      return new Watched(held, text(packet.tupleFrom), packet.tupleFromPort, text(packet.tupleTo), packet.tupleToPort);
    },
    onPacket(packet, watched, node) {
      if (watched.blocked) return 'drop';
      const { protocol } = packet;
      // Its receiver may read it.
      if (packet.version === 0) {
        counts?.unreadable.add();
        return patterns.drops ? 'drop' : 'forward';
      }
      // A later fragment of no known stream may be of TCP.
      if (packet.fragment) return (protocol === TCP || protocol === UNKNOWN) && patterns.dropFragments ? 'drop' : 'forward';
      if (protocol !== TCP && protocol !== UDP) return 'forward';
      const direction = packet.original ? watched.forward : watched.answer;
      if (direction.edition !== edition) {
        direction.exact = direction.folded = 0;
        direction.edition = edition;
      }
      search.packet = packet;
      search.watched = watched;
      search.direction = direction;
      search.node = node;
      search.drop = false;
      if (protocol === TCP) takeTcp(packet, direction);
      else takeUdp(packet, direction);
      return search.drop ? 'drop' : 'forward';
    },
    onStreamEnd(watched) {
      watched.forward.assembly.end();
      watched.answer.assembly.end();
    },
    async flush() {
      await file?.flush();
    },
  };
}

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');

function concerns(pattern: Pattern, packet: Packet): boolean {
  if (pattern.protocol !== 0 && pattern.protocol !== packet.protocol) return false;
  if (pattern.direction !== null && (pattern.direction === 'forward') !== packet.original) return false;
  if (pattern.ports === null) return true;
  for (const [low, high] of pattern.ports) {
    if ((packet.sourcePort >= low && packet.sourcePort <= high) || (packet.destinationPort >= low && packet.destinationPort <= high)) return true;
  }
  return false;
}
