/** The proof of the live tests can fail: captures made by hand, each wrong in one way. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { PathProof, type KnownPath, type Verdict } from '../support/path-proof.js';

const directory = mkdtempSync(join(tmpdir(), 'weir-proof-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));

const INSTANCES = {
  'fw-1': { service: 'firewall', address: '10.20.0.11' },
  'fw-2': { service: 'firewall', address: '10.20.0.12' },
  'ids-1': { service: 'ids', address: '10.20.0.21' },
  'add-1': { service: 'added', address: '10.20.0.31' },
} as const;
type Name = keyof typeof INSTANCES;
const PATHS = new Map<number, KnownPath>([
  [1, { id: 1, services: ['firewall', 'ids'] }],
  [2, { id: 2, services: ['firewall', 'added', 'ids'] }],
]);

interface Visit {
  readonly at: Name;
  readonly us: number;
  /** SPI. */
  readonly spi: number;
  /** From 0. */
  readonly hop: number;
  /** IPv4 identification: which packet. */
  readonly packet?: number;
  readonly port?: number;
  /** It opens a connection, with this sequence number. */
  readonly opens?: number;
}

/** A stamped TCP segment as docs/wire.md has it: outer Ethernet, IPv4, UDP 4790, VXLAN-GPE, NSH MD2, Ethernet, IPv4, TCP. */
function frame({ at, spi, hop, packet = 1, port = 40_000, opens }: Visit): Buffer {
  const inner = Buffer.alloc(14 + 20 + 20);
  inner.writeUInt16BE(0x0800, 12);
  inner.set([0x45, 0, 0, 40, packet >> 8, packet & 255, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 2, 10, 2, 0, 2], 14);
  inner.writeUInt16BE(port, 34);
  inner.writeUInt16BE(80, 36);
  inner.writeUInt32BE(opens ?? 0, 38);
  inner.writeUInt8(0x50, 46);
  inner.writeUInt8(opens === undefined ? 0x10 : 0x02, 47);
  const stamp = Buffer.from([0x0c, 0, 0, 4, 0, 0, 0, 0, 0x0f, 0xc4, 2, 3, 0, spi >> 8, spi & 255, 255 - hop, 0, 0, 8, 4, 1, 2, 3, 4]);
  const payload = Buffer.concat([stamp, inner]);
  const outer = Buffer.alloc(42);
  outer.writeUInt16BE(0x0800, 12);
  outer.set([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 20, 0, 1, ...INSTANCES[at].address.split('.').map(Number)], 14);
  outer.writeUInt16BE(28 + payload.length, 16);
  outer.set([0xc0, 0, 0x12, 0xb6], 34);
  outer.writeUInt16BE(8 + payload.length, 38);
  return Buffer.concat([outer, payload]);
}

let files = 0;
function judge(visits: readonly Visit[], dropped: Partial<Record<Name, number>> = {}): Verdict {
  const proof = new PathProof();
  for (const name of Object.keys(INSTANCES) as Name[]) {
    const head = Buffer.alloc(24);
    head.writeUInt32LE(0xa1b2c3d4);
    const records = visits.filter(({ at }) => at === name).map((visit) => {
      const bytes = frame(visit);
      const record = Buffer.alloc(16);
      [0, visit.us, bytes.length, bytes.length].forEach((value, i) => record.writeUInt32LE(value, 4 * i));
      return Buffer.concat([record, bytes]);
    });
    const file = join(directory, `${files++}.pcap`);
    writeFileSync(file, Buffer.concat([head, ...records]));
    proof.add(file, { name, ...INSTANCES[name], dropped: dropped[name] ?? 0 });
  }
  return proof.judge(PATHS);
}

const forward: readonly Visit[] = [{ at: 'fw-1', us: 10, spi: 2, hop: 0 }, { at: 'ids-1', us: 20, spi: 2, hop: 1 }];
const answers: readonly Visit[] = [{ at: 'ids-1', us: 30, spi: 5, hop: 0, packet: 7 }, { at: 'add-1', us: 40, spi: 5, hop: 1, packet: 7 }, { at: 'fw-2', us: 50, spi: 5, hop: 2, packet: 7 }];

t.test('whole paths, forward and backwards, and the beginning of one', async (t) => {
  t.match(judge([...forward, ...answers]), { packets: 2, arrivals: 5, paths: 2, streams: 1, incomplete: 0, unseen: 0, violationCount: 0 });
  t.strictSame([...judge([...forward, ...answers]).orders.keys()].sort(), ['firewall > ids', 'ids > added > firewall']);
  t.match(judge(forward.slice(0, 1)), { packets: 0, incomplete: 1, violationCount: 0 });
});

const WRONG: readonly (readonly [claim: string, visits: readonly Visit[], said: RegExp])[] = [
  ['a packet of two versions', [{ at: 'fw-1', us: 10, spi: 2, hop: 0 }, { at: 'ids-1', us: 20, spi: 4, hop: 2 }], /^a packet of two path versions: fw-1 \(SPI 2, hop 1, 10 µs\), ids-1 \(SPI 4, hop 3, 20 µs\)$/],
  ['a service skipped', [{ at: 'fw-1', us: 10, spi: 4, hop: 0 }, { at: 'ids-1', us: 20, spi: 4, hop: 2 }], /^added of \[firewall, added, ids\] skipped/],
  ['the first one skipped', [{ at: 'ids-1', us: 20, spi: 2, hop: 1 }], /^firewall of \[firewall, ids\] skipped/],
  ['a service twice', [...forward, { at: 'ids-1', us: 25, spi: 2, hop: 1 }], /^doubled/],
  ['a service that the path does not have there', [{ at: 'ids-1', us: 10, spi: 2, hop: 0 }], /^ids-1 performs ids, and hop 1 of \[firewall, ids\] is not that/],
  ['forward where it should go backwards', [{ at: 'fw-1', us: 10, spi: 3, hop: 0 }], /^fw-1 performs firewall, and hop 1 of \[ids, firewall\] is not that/],
  ['the second before the first', [{ at: 'fw-1', us: 30, spi: 2, hop: 0 }, { at: 'ids-1', us: 20, spi: 2, hop: 1 }], /^out of order/],
  ['a path that nobody knows', [{ at: 'fw-1', us: 10, spi: 18, hop: 0 }], /^nobody told of SPI 18/],
  ['a stream that changes its instance', [...forward, { at: 'fw-2', us: 30, spi: 2, hop: 0, packet: 2 }, { at: 'ids-1', us: 40, spi: 2, hop: 1, packet: 2 }], /^a stream met fw-[12] \(at [13]0 µs\) and fw-[12] on one path/],
];
for (const [claim, visits, said] of WRONG) {
  t.test(`found: ${claim}`, async (t) => {
    t.match(judge(visits).violations, [said]);
    t.equal(judge(visits).violationCount, 1);
  });
}

t.test('a port that is used again is another connection; a SYN that is sent again is not', async (t) => {
  const first: readonly Visit[] = [{ at: 'fw-1', us: 10, spi: 2, hop: 0, opens: 1000 }, { at: 'ids-1', us: 20, spi: 2, hop: 1, opens: 1000 }];
  const second = (opens: number): readonly Visit[] => [{ at: 'fw-2', us: 30, spi: 2, hop: 0, packet: 2, opens }, { at: 'ids-1', us: 40, spi: 2, hop: 1, packet: 2, opens }];
  const rest = (at: Name): readonly Visit[] => [{ at, us: 50, spi: 2, hop: 0, packet: 3 }, { at: 'ids-1', us: 60, spi: 2, hop: 1, packet: 3 }];
  t.match(judge([...first, ...second(2000), ...rest('fw-2')]), { packets: 3, violationCount: 0 });
  t.equal(judge([...first, ...second(2000), ...rest('fw-1')]).violationCount, 1);
  t.equal(judge([...first, ...second(1000)]).violationCount, 1);
});

t.test('segments that the kernel does not number, alike within a millisecond, may be of two paths; each has to be whole', async (t) => {
  const ends = (rest: readonly Visit[]): readonly Visit[] => rest.map((visit) => ({ ...visit, packet: 0 }));
  const moved: readonly Visit[] = [{ at: 'fw-1', us: 30, spi: 4, hop: 0 }, { at: 'add-1', us: 40, spi: 4, hop: 1 }, { at: 'ids-1', us: 50, spi: 4, hop: 2 }];
  t.match(judge(ends([...forward, ...moved])), { packets: 2, violationCount: 0 });
  t.match(judge(ends([...forward, ...moved.slice(1)])), { violations: [/^doubled: add-1/] });
  t.match(judge([...forward, ...moved]), { violations: [/^a packet of two path versions/] });
});

t.test('what a capture lost is not held against weir', async (t) => {
  const skipped: readonly Visit[] = [{ at: 'fw-1', us: 10, spi: 4, hop: 0 }, { at: 'ids-1', us: 20, spi: 4, hop: 2 }];
  t.match(judge(skipped, { 'add-1': 1 }), { violationCount: 0, unseen: 1, packets: 0 });
  t.match(judge(skipped, { 'ids-1': 1 }), { violationCount: 1 }, 'of another instance it is no excuse');
});

t.test('what its sender made twice the same, without an identification, is not doubled; what weir doubled of it is', async (t) => {
  const twice: readonly Visit[] = [...forward, ...forward.map((visit) => ({ ...visit, us: visit.us + 1 }))];
  const unnumbered = (visits: readonly Visit[]): Visit[] => visits.map((visit) => ({ ...visit, packet: 0 }));
  t.match(judge(unnumbered(twice)), { violationCount: 0 });
  t.match(judge(unnumbered([...forward, { at: 'ids-1', us: 25, spi: 2, hop: 1 }])).violations, [/^doubled/]);
  t.match(judge(twice).violations, [/^doubled/], 'any other packet has an identification of its own');
});
