/** A service node of a simulation: the real member, map, handler, streams and sync; only sockets and threads are imagined. */
import { pino } from 'pino';
import { native, type NativeMeshMap } from '../../../src/dataplane/native.js';
import { MeshMember } from '../../../src/mesh/member.js';
import { MapView, type ServiceMap } from '../../../src/mesh/service-map.js';
import { StateSync, type Fault, type StateSyncOptions } from '../../../src/mesh/sync/state-sync.js';
import { instanceSeed } from '../../../src/program/compile.js';
import { Handler, slabViews, type SlabViews } from '../../../src/service/handler.js';
import { HeldSlabs } from '../../../src/service/held-slabs.js';
import type { ServiceFunction } from '../../../src/service/service-function.js';
import type { Stream } from '../../../src/service/streams.js';
import type { World } from './world.js';

const SILENT = pino({ level: 'silent' });
const SLABS = 16;
export const OUTER = 42;
const NSH = OUTER + 8;
export const KEY = Buffer.from('the key of a simulated mesh');
const TICK_MS = 5;

export interface Counted {
  packets: number;
}

/** What a packet of a stream did at an instance that let it go. */
export interface Left {
  readonly node: SimNode;
  readonly path: number;
  readonly code: number;
  readonly id: number;
  /** Of the stream's packets, counted by the function with this one. */
  readonly count: number;
}

export interface NodeWorld {
  readonly world: World;
  readonly fault: Fault | undefined;
  readonly sendHello: (node: SimNode, datagram: Buffer) => void;
  readonly sendSync: (node: SimNode, address: string, datagram: Buffer) => void;
  readonly sendFrame: (node: SimNode, frame: Buffer) => void;
  readonly left: (left: Left) => void;
}

export class SimNode {
  readonly service: string;
  session = '';
  running = false;
  stalledUntilMs = 0;
  clockMs = 0;
  /** The highest map that it ever had. */
  version = 0;
  member: MeshMember | null = null;
  sync: StateSync<Stream<unknown>> | null = null;
  handler: Handler | null = null;
  #map: InstanceType<typeof native.MeshMap> | null = null;
  #held: HeldSlabs<{ readonly lost: boolean }> | null = null;
  #free: number[] = [];
  #slabs: SlabViews[] = [];
  #frames = new Map<number, { readonly outer: Buffer; readonly spi: number; readonly si: number; readonly code: number; readonly count: number }>();
  #count = 0;
  #run = 0;
  #sessions = 0;
  #waiting: (() => void)[] = [];

  constructor(
    readonly key: string,
    readonly address: string,
    private readonly env: NodeWorld,
  ) {
    this.service = key.slice(0, key.indexOf('/'));
  }

  #now = (): number => this.env.world.nowMs + this.clockMs;

  start(): void {
    if (this.running) return;
    const run = ++this.#run;
    this.running = true;
    this.session = this.#newSession();
    this.#slabs = Array.from({ length: SLABS }, () => slabViews(new ArrayBuffer(native.slabLayout.verdictsAt + native.slabLayout.packets + 512), native.slabLayout));
    this.#free = Array.from({ length: SLABS }, (_, i) => i);
    this.#frames.clear();
    this.#map = null;
    this.version = 0;
    const counted = (packets: number): void => void (this.#count = packets);
    const counting: ServiceFunction<Counted> = {
      name: 'counting',
      state: { version: 1, fields: { packets: 'uint' }, save: ({ packets }) => ({ packets }), load: (fields) => ({ packets: Number(fields['packets']) }) },
      newStream: () => ({ packets: 0 }),
      onPacket(_, stream) {
        counted(++stream.packets);
        return 'forward';
      },
    };
    const make = (options: Pick<StateSyncOptions<Stream<unknown>>, 'store' | 'save' | 'codec'>): StateSync<Stream<unknown>> =>
      (this.sync = new StateSync<Stream<unknown>>({
        ...options,
        now: this.#now,
        send: ({ address }, datagram) => {
          if (run === this.#run && this.running) this.env.sendSync(this, address, datagram);
        },
        key: KEY,
        session: this.session,
        service: this.service,
        tell: () => undefined,
        fault: this.env.fault,
      }));
    const handler = new Handler(counting as ServiceFunction, { identity: { service: this.service, name: this.key }, log: SILENT, layout: native.slabLayout, maxStreams: 1000, nowMs: this.#now, after: () => undefined, sync: (store, save, codec) => make({ store, save, codec }) });
    handler.configure({});
    handler.start();
    this.handler = handler;
    this.#held = new HeldSlabs(({ slab, worked }) => this.#leave(slab, worked));
    this.member = new MeshMember({
      now: this.#now,
      send: (datagram) => {
        if (run === this.#run && this.running) this.env.sendHello(this, datagram);
      },
      key: KEY,
      service: this.service,
      name: this.key.slice(this.service.length + 1),
      unreachable: () => [],
      mapped: (view, renewed) => this.#install(view, renewed),
      newSession: () => this.#newSession(),
      tell: () => undefined,
    });
    this.member.begin(this.session, 5000);
    const tick = (): void => {
      if (run !== this.#run || !this.running) return;
      this.#do(() => {
        this.member?.tick();
        this.sync?.tick();
      });
      this.env.world.after(TICK_MS, tick);
    };
    tick();
  }

  kill(): void {
    this.running = false;
    this.#waiting = [];
  }

  stall(ms: number): void {
    this.stalledUntilMs = this.env.world.nowMs + ms;
  }

  /** What it would do now, or when it no longer stalls. */
  #do(work: () => void): void {
    const { world } = this.env;
    if (!this.running) return;
    if (world.nowMs >= this.stalledUntilMs && this.#waiting.length === 0) return work();
    this.#waiting.push(work);
    const run = this.#run;
    if (this.#waiting.length > 1) return;
    world.after(Math.max(0.01, this.stalledUntilMs - world.nowMs), () => {
      if (run !== this.#run || !this.running) return;
      for (const one of this.#waiting.splice(0)) one();
    });
  }

  #newSession(): string {
    return `${((Number(this.address.split('.')[3]) << 16) | ++this.#sessions).toString(16).padStart(16, '0')}`;
  }

  #install(view: MapView, renewed: string | null): void {
    const { map } = view;
    if (map.version < this.version) throw new Error(`${this.key} went back from map ${this.version} to ${map.version}`);
    this.version = map.version;
    // First, as in a node: what a renewal lets go leaves by this map.
    if (this.env.fault !== 'use_the_old_map' || this.#map === null) this.#map = new native.MeshMap(nativeMap(map, this));
    if (renewed !== null) {
      this.session = renewed;
      this.sync?.renew(renewed);
    }
    this.sync?.install(view);
  }

  hears(datagram: Buffer): void {
    this.#do(() => this.member?.receive(datagram));
  }

  synced(datagram: Buffer): void {
    this.#do(() => this.sync?.receive(datagram));
  }

  /** A stamped frame from the underlay. */
  frame(frame: Buffer): void {
    this.#do(() => this.#work(frame));
  }

  #work(frame: Buffer): void {
    const slab = this.#free.pop();
    if (slab === undefined || this.handler === null || this.sync === null || this.#held === null) return; // queue full
    const views = this.#slabs[slab] as SlabViews;
    const { rows, bytes } = views;
    const { verdictsAt, packets } = native.slabLayout;
    const [spi, si, code] = [frame.readUIntBE(NSH + 4, 3), frame.readUInt8(NSH + 7), frame.readUInt32BE(NSH + 12)];
    const inner = frame.subarray(NSH + 16);
    const at = verdictsAt + packets;
    rows.set([at, inner.length, code | 0, (spi << 8) | si, 2]);
    bytes.set(inner, at);
    bytes[verdictsAt] = 0;
    this.handler.handle(views, 1);
    this.#frames.set(slab, { outer: Buffer.from(frame), spi, si, code, count: this.#count });
    const held = this.#held;
    const { hold, worked } = this.handler.seal(() => held.drain());
    held.add({ slab, hold, worked, replacements: undefined });
  }

  /** The packet may go: as native code would send it. */
  #leave(slab: number, worked: readonly { readonly lost: boolean }[]): void {
    const views = this.#slabs[slab] as SlabViews;
    this.handler?.leave(views, worked);
    this.#free.push(slab);
    const packet = this.#frames.get(slab);
    if (packet === undefined || views.bytes[native.slabLayout.verdictsAt] !== 1) return;
    const frame = packet.outer;
    const id = frame.readUInt32BE(NSH + 16 + 14 + 20 + 8);
    const step = this.#map?.next(packet.spi, packet.si, packet.code) ?? { kind: 'back' as const, si: packet.si - 1, instance: null };
    if (step.kind === 'refused') return;
    this.env.left({ node: this, path: packet.spi >>> 1, code: packet.code, id, count: packet.count });
    const to = step.kind === 'instance' ? this.member?.view?.map.instances[step.instance ?? -1]?.address : '10.20.0.1';
    if (to === undefined) return;
    const ip = (text: string): Buffer => Buffer.from(text.split('.').map(Number));
    frame.writeUInt8(step.si, NSH + 7);
    ip(this.address).copy(frame, 26);
    ip(to).copy(frame, 30);
    this.env.sendFrame(this, frame);
  }
}

function nativeMap(map: ServiceMap, node: SimNode): NativeMeshMap {
  const services = map.services.map(({ name }) => name);
  return {
    version: map.version,
    own: { address: node.address, mac: '02:00:00:00:00:01' },
    ownService: services.indexOf(node.service) < 0 ? services.length : services.indexOf(node.service),
    forwarders: map.forwarders.map((address) => ({ address, mac: '02:00:00:00:00:02' })),
    instances: map.instances.map(({ key, address }) => ({ address, mac: '02:00:00:00:00:03', seed: instanceSeed(key) })),
    paths: map.paths.map(({ id, handsOn, answersBackwards, exitsDirectly = false, hops }) => ({ id, handsOn, answersBackwards, exitsDirectly, hops: hops.map(({ service, members }) => ({ service: services.indexOf(service), failOpen: false, members: members.flat() })) })),
  };
}
