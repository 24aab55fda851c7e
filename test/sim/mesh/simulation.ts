/**
 * One simulated life of a mesh, and what it must never do (DESIGN, promises 2 and 8): a packet arrives only after it has been through its
 * services in order; a stream's packets, both directions, are served by one instance of a service until that is given up, and then by the next
 * one; and no packet leaves whose effect a failure could forget: whoever serves next has counted every packet that ever left.
 */
import type { Fault } from '../../../src/mesh/sync/state-sync.js';
import { udp } from '../../support/packets.js';
import { ALL, INSTANCES, SERVICES, STREAMS, nodesOf, type Event, type Timed } from './events.js';
import { SimForwarder, WEIR, addressOf } from './forwarder.js';
import { SimNode, type Left } from './node.js';
import { World } from './world.js';

export interface Outcome {
  /** Null: everything was as it must be. */
  readonly violation: string | null;
  /** How far it got. */
  readonly atMs: number;
  readonly packets: number;
  readonly delivered: number;
  readonly failures: number;
  /** The most paths that packets of one stream were on. */
  readonly mostPaths: number;
}

class Violation extends Error {}

/** Of a stream at a service, on one path. */
interface Course {
  /** What the function had counted with each packet that left: a number that comes twice has been forgotten once. */
  readonly counts: Set<number>;
  by: string;
  readonly gaveUp: Set<string>;
  /** Its state may have died with two instances at once. */
  excusedUntilMs: number;
  forgotten: boolean;
}

const PAYLOAD_AT = 14 + 20 + 8;
/** By then another instance has all of the state of one that went. */
const FILLED_MS = 1000;

interface Under {
  readonly stream: number;
  readonly answer: boolean;
  readonly visited: string[];
  path: number;
  arrived: boolean;
}

export class Simulation {
  readonly world: World;
  readonly forwarder: SimForwarder;
  readonly nodes = new Map<string, SimNode>();
  readonly #byAddress = new Map<string, SimNode>();
  readonly #packets = new Map<number, Under>();
  readonly #courses = new Map<string, Course>();
  /** By stream: whether its first packet came from the network's side. */
  readonly #openers = new Map<number, boolean>();
  readonly #lostMs = new Map<string, number>();
  /** By path and run. */
  readonly #joinedMs = new Map<string, number>();
  /** Of a service that has lost two at once. */
  readonly #excusedUntilMs = new Map<string, number>();
  /** By service and path: the same, and of one that was left alone with some that had not been filled. */
  readonly #excusedOnMs = new Map<string, number>();
  /** By stream: instances that were given up while its first packets were under way, perhaps with them. */
  readonly #lostEarly = new Map<number, Set<string>>();
  readonly #recorded: { readonly address: string; readonly datagram: Buffer }[] = [];
  #failures = 0;
  #delivered = 0;
  #id = 0;

  constructor(seed: number, fault?: Fault) {
    const world = (this.world = new World(seed));
    for (const key of ALL) {
      const node = new SimNode(key, addressOf(key), {
        world,
        fault,
        sendHello: (from, datagram) => world.send(from.key, WEIR, () => this.forwarder.controller.receive(datagram, { address: from.address, port: 7000 })),
        sendSync: (from, address, datagram) => {
          const to = this.#byAddress.get(address);
          if (to !== undefined) world.send(from.key, to.key, () => to.synced(datagram));
        },
        sendFrame: (from, frame) => {
          const to = this.#byAddress.get(frame.subarray(30, 34).join('.'));
          if (to !== undefined) world.send(from.key, to.key, () => to.frame(frame));
          else world.send(from.key, WEIR, () => this.forwarder.returned(frame));
        },
        left: (left) => this.#left(left),
      });
      this.nodes.set(key, node);
      this.#byAddress.set(node.address, node);
    }
    this.forwarder = new SimForwarder({
      world,
      toNode: (address, kind, bytes) => {
        const to = this.#byAddress.get(address);
        if (to === undefined) return;
        if (kind === 'mesh' && this.#recorded.length < 200) this.#recorded.push({ address, datagram: bytes });
        world.send(WEIR, to.key, () => (kind === 'mesh' ? to.hears(bytes) : to.frame(bytes)));
      },
      leaves: (frame, answer) => this.#leaves(frame, answer),
      lost: (key) => this.#lost(key),
      joined: (place) => this.#joinedMs.set(place, world.nowMs),
    });
    for (const service of SERVICES) for (const key of nodesOf(service).slice(0, INSTANCES)) this.nodes.get(key)?.start();
  }

  run(events: readonly Timed[]): Outcome {
    const beginMs = this.world.nowMs;
    let violation: string | null = null;
    try {
      for (const { atMs, event } of events) {
        this.world.run(beginMs + atMs, () => undefined);
        this.#happen(event);
      }
      this.#end();
    } catch (error) {
      // What throws is as wrong as what is forgotten, and whoever looks for it needs the seed.
      violation = error instanceof Violation ? error.message : String((error as Error).stack);
    }
    return { violation, atMs: Math.round(this.world.nowMs - beginMs), packets: this.#packets.size, delivered: this.#delivered, failures: this.#failures, mostPaths: this.#mostPaths() };
  }

  #mostPaths(): number {
    const paths = new Map<number, Set<number>>();
    for (const { stream, path } of this.#packets.values()) if (path !== 0) paths.set(stream, (paths.get(stream) ?? new Set()).add(path));
    return Math.max(0, ...[...paths.values()].map(({ size }) => size));
  }

  #happen(event: Event): void {
    const node = 'node' in event ? this.nodes.get(event.node) : undefined;
    switch (event.kind) {
      case 'packet':
        return this.#send(event.stream, event.answer);
      case 'kill':
        this.#failures++;
        return node?.kill();
      case 'restart':
        return node?.start();
      case 'stall':
        return node?.stall(event.ms);
      case 'partition':
        return this.world.cut(event.one, event.two, event.ms);
      case 'drain':
        return this.forwarder.setState(event.node, 'draining');
      case 'up':
        return this.forwarder.setState(event.node, 'up');
      case 'scale_out':
        node?.start();
        return this.forwarder.setWeight(event.node, 1);
      case 'scale_in':
        return this.forwarder.setWeight(event.node, 0);
      case 'weight':
        return this.forwarder.setWeight(event.node, event.weight);
      case 'clock':
        if (node !== undefined) node.clockMs += event.ms;
        return;
      case 'reconfigure':
        return this.forwarder.setServices(event.services);
      case 'replay_map':
        for (const { address, datagram } of this.#recorded.slice(0, 20)) if (address === node?.address) node.hears(datagram);
    }
  }

  #send(stream: number, answer: boolean): void {
    const id = ++this.#id;
    const payload = Buffer.alloc(8);
    payload.writeUInt32BE(id, 0);
    const ends = { source: '10.1.0.2', destination: '10.2.0.2', sourcePort: 10_000 + stream, destinationPort: 9 };
    const frame = udp(answer ? { source: ends.destination, destination: ends.source, sourcePort: 9, destinationPort: ends.sourcePort, payload } : { ...ends, payload }, answer);
    this.#packets.set(id, { stream, answer, visited: [], path: 0, arrived: false });
    if (!this.#openers.has(stream)) this.#openers.set(stream, answer);
    this.forwarder.captured(frame, answer);
  }

  #lost(key: string): void {
    const service = key.slice(0, 1);
    const before = this.#lostMs.get(service) ?? -Infinity;
    const { nowMs } = this.world;
    this.#lostMs.set(service, nowMs);
    if (nowMs - before < FILLED_MS) this.#excusedUntilMs.set(service, nowMs + FILLED_MS);
    for (const { id } of this.forwarder.paths.all()) if (this.#onlyNew(service, id)) this.#excusedOnMs.set(`${service} ${id}`, nowMs + FILLED_MS);
    for (const [name, course] of this.#courses) {
      if (!name.startsWith(`${service} `)) continue;
      course.gaveUp.add(key);
      if (nowMs - before < FILLED_MS || this.#onlyNew(service, Number(name.split(' ')[1]))) this.#forgets(course);
    }
    for (const { stream, arrived } of this.#packets.values()) if (!arrived) this.#lostEarly.set(stream, (this.#lostEarly.get(stream) ?? new Set()).add(key));
  }

  /** Whether all that are left of a service on a path have come too late to have been filled. */
  #onlyNew(service: string, id: number): boolean {
    const path = this.forwarder.paths.get(id);
    const members = path?.members?.[path.services.indexOf(service)] ?? [];
    // Those that the path was made with have had its streams from their first packets on.
    return members.every(({ session, tier = 0 }) => tier > 0 && this.world.nowMs - (this.#joinedMs.get(`${id} ${session}`) ?? 0) < FILLED_MS);
  }

  #forgets(course: Course): void {
    course.excusedUntilMs = this.world.nowMs + FILLED_MS;
    course.forgotten = true;
  }

  #left({ node, path, code, id, count }: Left): void {
    const packet = this.#packets.get(id);
    if (packet === undefined) throw new Violation(`a packet left ${node.key} that was never sent`);
    packet.visited.push(node.service);
    if (packet.path !== 0 && packet.path !== path) throw new Violation(`packet ${id} of stream ${packet.stream} began on path ${packet.path}, and is on ${path}`);
    packet.path = path;
    const name = `${node.service} ${path} ${code}`;
    const serves = this.forwarder.paths.get(path)?.members?.flat().some(({ session }) => session === node.session) === true;
    // Who serves a stream first and is no member was given up before the packet was sent: a node handed it on by the map from before that.
    const gaveUp = [...(this.#lostEarly.get(packet.stream) ?? []), ...(serves ? [] : [node.key])];
    const course = this.#courses.get(name) ?? { counts: new Set<number>(), by: node.key, gaveUp: new Set(gaveUp), excusedUntilMs: Math.max(this.#excusedUntilMs.get(node.service) ?? 0, this.#excusedOnMs.get(`${node.service} ${path}`) ?? 0), forgotten: false };
    this.#courses.set(name, course);
    const excused = this.world.nowMs < course.excusedUntilMs || course.forgotten;
    // What one that was given up still had, nobody knows if he who had the copy went as well.
    if (!serves && excused) return;
    course.forgotten = false;
    // What one that was given up had said before leaves late, and is known to who came after it.
    if (course.by !== node.key && !course.gaveUp.has(node.key)) {
      if (!course.gaveUp.has(course.by) && !excused) throw new Violation(`stream ${packet.stream}: ${node.key} served a packet on path ${path}, but ${course.by} has not been given up`);
      course.by = node.key;
    }
    if (excused) course.counts.clear();
    if (course.counts.has(count)) throw new Violation(`stream ${packet.stream}: ${node.key} counts packet ${count} on path ${path}, which had left service ${node.service} already`);
    course.counts.add(count);
  }

  #leaves(frame: Buffer, answer: boolean): void {
    const id = frame.readUInt32BE(PAYLOAD_AT);
    const packet = this.#packets.get(id);
    if (packet === undefined) throw new Violation('a packet arrived that was never sent');
    if (packet.answer !== answer) throw new Violation(`packet ${id} of stream ${packet.stream} left on the side that it came from`);
    packet.arrived = true;
    this.#delivered++;
    // The underlay may double what is on its way; a service that is missing nothing can make up for.
    const order = [...new Set(packet.visited)];
    const services = this.forwarder.paths.get(packet.path)?.services ?? order;
    const wanted = answer !== this.#openers.get(packet.stream) ? [...services].reverse() : services;
    if (order.join() !== wanted.join()) throw new Violation(`packet ${id} of stream ${packet.stream} arrived after ${order.join(', ') || 'no service'}, and its path has ${wanted.join(', ')}`);
  }

  /** When all is well again, every stream gets through. */
  #end(): void {
    const { world } = this;
    world.clear();
    for (const node of this.nodes.values()) node.stalledUntilMs = 0;
    for (const key of SERVICES.flatMap((service) => nodesOf(service).slice(0, INSTANCES))) {
      this.nodes.get(key)?.start();
      this.forwarder.setState(key, 'up');
    }
    world.run(world.nowMs + 2500, () => undefined);
    for (const stream of [...new Set([...this.#packets.values()].map((packet) => packet.stream))].slice(-STREAMS)) {
      let arrived = false;
      for (let tries = 0; tries < 5 && !arrived; tries++) {
        this.#send(stream, false);
        const sent = this.#packets.get(this.#id);
        world.run(world.nowMs + 300, () => undefined);
        arrived = sent?.arrived === true;
      }
      if (!arrived) throw new Violation(`stream ${stream} gets nothing through though all is well again`);
    }
    // A path may have been let go just now: what is said of it needs its time, too.
    for (let tries = 0; tries < 20 && !this.forwarder.controller.everybodyHasIt; tries++) world.run(world.nowMs + 5, () => undefined);
    for (const node of this.nodes.values()) {
      const now = this.forwarder.controller.map?.version ?? 0;
      const member = node.running && this.forwarder.controller.sessionOf(node.key) !== null;
      if (member && node.version !== now) throw new Violation(`${node.key} has map ${node.version} and not ${now} though all is well again`);
    }
  }
}

export function simulate(seed: number, events: readonly Timed[], fault?: Fault): Outcome {
  return new Simulation(seed, fault).run(events);
}
