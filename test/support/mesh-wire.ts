/** A mesh in memory: a controller and members that say datagrams to each other, under a clock of the test's own. */
import { MeshController } from '../../src/mesh/controller.js';
import type { SyncReport } from '../../src/mesh/hello.js';
import { MeshMember } from '../../src/mesh/member.js';
import type { MapContent } from '../../src/mesh/service-map.js';

export const KEY = Buffer.from('0123456789abcdef');
export const session = (n: number): string => n.toString(16).padStart(16, '0');

export interface Told {
  readonly reason: string;
  readonly why: string;
}

export class MeshOnWire {
  nowMs = 1_750_000_000_000;
  readonly changes: string[] = [];
  readonly told: Told[] = [];
  readonly controller: MeshController;
  readonly members = new Map<string, MeshMember>();
  /** Datagrams on their way; the test lets them arrive. */
  readonly toController: { from: string; datagram: Buffer }[] = [];
  readonly toMembers: { to: string; datagram: Buffer }[] = [];

  constructor(readonly instances: readonly { readonly key: string; readonly address: string }[], readonly leaseMs = 100) {
    this.controller = new MeshController({
      now: () => this.nowMs,
      send: ({ address }, datagram) => this.toMembers.push({ to: address, datagram }),
      key: KEY,
      session: session(0xc0),
      leaseMs,
      changed: (what) => this.changes.push(what),
      tell: (reason, why) => this.told.push({ reason, why }),
    });
    this.controller.configure(instances);
  }

  member(key: string, run: number, sync?: () => SyncReport | null): MeshMember {
    const { address } = this.instances.find((one) => one.key === key) ?? { address: '' };
    const [service = '', name = ''] = key.split('/');
    const member = new MeshMember({
      now: () => this.nowMs,
      send: (datagram) => this.toController.push({ from: address, datagram }),
      key: KEY,
      service,
      name,
      unreachable: () => [],
      ...(sync === undefined ? {} : { sync }),
      mapped: () => undefined,
      newSession: () => session((run += 0x1000)),
      tell: (reason, why) => this.told.push({ reason, why }),
    });
    this.members.set(address, member);
    member.begin(session(run), 5000);
    return member;
  }

  /** Everything arrives, and what it makes, too. */
  settle(): void {
    for (let n = 0; n < 1000 && this.toController.length + this.toMembers.length > 0; n++) {
      for (const { from, datagram } of this.toController.splice(0)) this.controller.receive(datagram, { address: from, port: 7000 });
      for (const { to, datagram } of this.toMembers.splice(0)) this.members.get(to)?.receive(datagram);
    }
  }
}

export function content(instances: readonly { readonly key: string; readonly address: string; readonly session: string }[], more: Partial<MapContent> = {}): MapContent {
  const services = [...new Set(instances.map(({ key }) => key.split('/')[0] ?? ''))];
  return {
    leaseMs: 100,
    forwarders: ['10.20.0.1'],
    services: services.map((name) => ({ name, sync: 'strict' as const, failOpen: false })),
    instances: instances.map((one) => ({ ...one, syncPort: 5000 })),
    givenUp: [],
    paths: [{ id: 1, handsOn: true, answersBackwards: true, hops: services.map((service) => ({ service, members: instances.flatMap(({ key }, i) => (key.startsWith(`${service}/`) ? [[i, 1, 0] as const] : [])) })) }],
    ...more,
  };
}
