import { createHash } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { native } from '../../src/dataplane/native.js';
import { affinityCode, siphash24 } from '../../src/program/affinity.js';
import { instanceSeed } from '../../src/program/compile.js';
import { rank, type MapMember } from '../../src/program/service-map.js';

const KEY = Uint8Array.from({ length: 16 }, (_, i) => i);

// Made by an independent SipHash-2-4 and handed to us with the wire formats.
const VECTORS = [
  [0, 6, '10.1.0.2', 40000, '10.1.0.1', 80, '5-tuple', 0x31795085],
  [0, 6, '10.1.0.1', 80, '10.1.0.2', 40000, '5-tuple', 0x31795085],
  [0, 17, '10.1.0.2', 53124, '8.8.8.8', 9999, '5-tuple', 0xf1737551],
  [7, 6, '10.1.0.2', 40000, '10.1.0.1', 80, '5-tuple', 0xeffc1482],
  [0, 6, 'fd01::2', 40000, 'fd01::1', 443, '5-tuple', 0x0f9a8a3a],
  [0, 1, '10.1.0.2', 4660, '10.1.0.1', 4660, '5-tuple', 0xd44913e3],
  [0, 6, '10.1.0.2', 40000, '10.1.0.1', 80, '3-tuple', 0x5d3c0c78],
  [0, 6, '10.1.0.2', 40000, '10.1.0.1', 80, '2-tuple', 0x03dd1842],
] as const;

t.test('SipHash-2-4 gives its authors\' test value', async (t) => {
  t.equal(siphash24(KEY, Uint8Array.from({ length: 15 }, (_, i) => i)), 0xa129ca6149be45e5n);
});

t.test('affinity codes are the published ones, in the reference and in native code', async (t) => {
  for (const [tenant, protocol, source, sourcePort, destination, destinationPort, affinity, code] of VECTORS) {
    t.equal(affinityCode(KEY, { tenant, protocol, source, sourcePort, destination, destinationPort }, affinity), code);
    t.equal(native.affinityCode(KEY, tenant, protocol, source, sourcePort, destination, destinationPort, affinity), code);
  }
});

t.test('both agree on any stream, and directions do not matter', async (t) => {
  const address = fc.oneof(fc.ipV4(), fc.ipV6());
  const port = fc.integer({ min: 0, max: 65535 });
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.integer({ min: 0, max: 0xffffff }), fc.integer({ min: 0, max: 255 }), address, port, address, port, (key, tenant, protocol, source, sourcePort, destination, destinationPort) => {
      for (const affinity of ['5-tuple', '3-tuple', '2-tuple'] as const) {
        const code = affinityCode(key, { tenant, protocol, source, sourcePort, destination, destinationPort }, affinity);
        if (code !== native.affinityCode(key, tenant, protocol, source, sourcePort, destination, destinationPort, affinity)) return false;
        if (code !== native.affinityCode(key, tenant, protocol, destination, destinationPort, source, sourcePort, affinity)) return false;
      }
      return true;
    }),
    { numRuns: 500 },
  );
  t.pass('500 streams');
});

const members = (n: number, weight: (i: number) => number = () => 1): MapMember[] =>
  Array.from({ length: n }, (_, i) => ({ id: i, weight: weight(i), seed: instanceSeed(`service/instance-${i}`) }));
const codes = (n: number): number[] => {
  // Codes as SipHash makes them: uniform and unrelated.
  const found: number[] = [];
  for (let i = 0; found.length < n; i++) {
    const digest = createHash('sha512').update(`codes ${i}`).digest();
    for (let at = 0; at < 64; at += 4) found.push(digest.readUInt32LE(at));
  }
  return found.slice(0, n);
};

t.test('the map is even within 5 % at 100 instances', async (t) => {
  const list = members(100);
  const count = new Array<number>(100).fill(0);
  const all = codes(600_000);
  for (const code of all) {
    const [primary = 0] = rank1(code, list);
    count[primary] = (count[primary] ?? 0) + 1;
  }
  const mean = all.length / 100;
  const worst = Math.max(...count.map((n) => Math.abs(n - mean) / mean));
  t.ok(worst < 0.05, `largest deviation ${(worst * 100).toFixed(2)} %`);
});

/** Only the primary, without sorting. */
function rank1(code: number, list: readonly MapMember[]): number[] {
  return list.length <= 4 ? rank(code, list) : [bestOf(code, list)];
}
function bestOf(code: number, list: readonly MapMember[]): number {
  // rank() in groups of four keeps the sort short; the winner of winners is the winner.
  let winners = [...list];
  while (winners.length > 1) {
    const next: MapMember[] = [];
    for (let i = 0; i < winners.length; i += 4) {
      const group = winners.slice(i, i + 4);
      const [id] = rank(code, group);
      const member = group.find((candidate) => candidate.id === id);
      if (member !== undefined) next.push(member);
    }
    winners = next;
  }
  return winners[0]?.id ?? -1;
}

t.test('weights are shares', async (t) => {
  const list = members(4, (i) => i + 1);
  const count = [0, 0, 0, 0];
  const all = codes(100_000);
  for (const code of all) {
    const [primary = 0] = rank(code, list);
    count[primary] = (count[primary] ?? 0) + 1;
  }
  count.forEach((n, i) => t.ok(Math.abs(n / all.length - (i + 1) / 10) < 0.01, `weight ${i + 1} of 10: ${n}`));
});

t.test('removing an instance moves only its codes, each to its secondary; adding one moves only what it wins', async (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 20 }), fc.nat(), fc.array(fc.integer({ min: 0, max: 0xffffffff }), { minLength: 50, maxLength: 50 }), (n, pick, some) => {
      const list = members(n, (i) => 1 + (i % 3));
      const gone = pick % n;
      const rest = list.filter((member) => member.id !== gone);
      return some.every((code) => {
        const [primary, secondary] = rank(code, list);
        const [after] = rank(code, rest);
        return primary === gone ? after === secondary : after === primary;
      });
    }),
  );
  t.pass('100 lists');
});
