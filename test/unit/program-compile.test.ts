import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { native } from '../../src/dataplane/native.js';
import { Failure } from '../../src/failure.js';
import { compile, instanceSeed, loadAffinityKey, replayFacts, type Facts } from '../../src/program/compile.js';
import { newIds } from '../../src/program/ids.js';
import { EXAMPLE, valid } from '../support/configuration.js';

t.test('the example compiles to a program that native code takes, and decides as it says', async (t) => {
  const configuration = valid(EXAMPLE);
  const ids = newIds();
  const program = compile(configuration, ids, replayFacts(configuration));
  t.match(program, {
    generation: 1,
    defaultAction: 'pass',
    mssClamp: true,
    idle: { tcp: 350_000, other: 120_000, closed: 5000 },
    underlays: [{ ipv4: '192.0.2.1', ipv6: '2001:db8::1', mac: '02:00:00:00:00:01', mtu: 1500 }],
    captures: [{ name: 'web', tenant: 0, mtu: 1500 }],
    services: [{ id: 0, affinity: '5-tuple', onFailure: 'rebalance', fail: 'closed' }, { id: 1 }],
    instances: [
      { id: 0, service: 0, address: '10.20.0.11', mac: '02:00:00:01:00:00', state: 'up', weight: 1 },
      { id: 1, service: 0, weight: 2, mac: '02:00:00:01:00:01' },
      { id: 2, service: 1 },
      { id: 3, service: 1, mac: '02:00:00:01:00:03' },
    ],
    paths: [{ id: 1, chain: 0, encapsulation: 'nsh', answers: 'backwards', services: [0, 1], movedTo: 0 }],
    chains: [{ id: 0, path: 1 }],
  });
  t.strictSame(Buffer.from(program.affinityKey), Buffer.alloc(16));

  const engine = new native.Engine({ flowsMax: 16 });
  engine.install(program);
  const packet = { capture: 0, vlan: [0, 0], protocol: 6, source: '10.0.0.5', sourcePort: 40000, destination: '192.0.2.80', destinationPort: 443, direction: 'out' } as const;
  t.match(engine.describe(packet), { action: 'chain', policy: ids.policies.id('web-out'), path: 1, hops: [{ service: 0 }, { service: 1 }] });
  t.match(engine.describe({ ...packet, destinationPort: 23 }), { action: 'drop', policy: ids.policies.id('no-telnet') });
  t.match(engine.describe({ ...packet, source: '10.0.1.5' }), { action: 'pass', policy: -1 });
});

t.test('replay compiles the same program on every run', async (t) => {
  const once = (): unknown => {
    const configuration = valid(EXAMPLE);
    return compile(configuration, newIds(), replayFacts(configuration));
  };
  t.strictSame(once(), once());
});

t.test('replay takes what the configuration says of the underlay', async (t) => {
  const facts = (underlay: string): Facts => replayFacts(valid(`underlay: {interface: u, ${underlay}}\ncaptures: [{name: a, in: b, out: c}]`));
  t.match(facts('address: 10.9.9.9, mtu: 9000').underlays[0], { ipv4: '10.9.9.9', ipv6: '2001:db8::1', mtu: 9000 });
  t.match(facts('address: "fd09::9"').underlays[0], { ipv4: '192.0.2.1', ipv6: 'fd09::9', mtu: 1500 });
});

t.test('several underlays: each with a source of its own, instances on the one that they name, else where they are found, else on the first', async (t) => {
  const configuration = valid(`underlay: [{name: lan, interface: u}, {name: dmz, interface: v, address: "fd30::1", mtu: 9000}]
captures: [{name: a, in: b, out: c}]
services: {s: {instances: [{name: named, address: 10.0.0.1, underlay: dmz}, {name: found, address: 10.0.0.2}, {name: unknown, address: 10.0.0.3}, {name: wire, attach: {in: p, out: q}}]}}`);
  const facts = { ...replayFacts(configuration), underlayOf: (address: string): number | null => (address === '10.0.0.2' ? 1 : null) };
  const program = compile(configuration, newIds(), facts);
  t.match(program.underlays, [{ ipv4: '192.0.2.1', ipv6: '2001:db8::1', mac: '02:00:00:00:00:01', mtu: 1500 }, { ipv4: '192.0.2.2', ipv6: 'fd30::1', mac: '02:00:00:00:00:02', mtu: 9000 }]);
  t.strictSame(program.instances.map(({ underlay }) => underlay), [1, 1, 0, 0]);
  t.match(program.instances[3]?.attach, { workload: { port: 4 }, network: { port: 5 } }, 'behind the captures and the second underlay');
  const engine = new native.Engine({ flowsMax: 16 });
  engine.install(program);
  t.throws(() => engine.install({ ...program, underlays: [] }), /there are 0 underlays/);
  t.throws(() => engine.install({ ...program, underlays: program.underlays.slice(0, 1), instances: program.instances.slice(0, 1) }), /instance 0 is on an underlay that is not there/);
});

t.test('seeds are the first words of the SHA-256 of service/instance', async (t) => {
  // printf firewall/fw-1 | sha256sum
  t.strictSame(instanceSeed('firewall/fw-1'), [0x85813e53, 0xe3c0c8c5]);
});

t.test('facts of the moment are in the program: states, unresolved neighbours, paths that streams moved from', async (t) => {
  const configuration = valid(EXAMPLE);
  const facts = replayFacts(configuration);
  const [path] = facts.paths;
  if (path === undefined) throw new Error('the example has a chain');
  const program = compile(configuration, newIds(), {
    ...facts,
    generation: 7,
    stateOf: (key) => (key === 'ids/ids-2' ? 'draining' : 'up'),
    macOf: (address) => (address === '10.20.0.12' ? null : '02:00:00:00:00:99'),
    paths: [{ ...path, movedTo: 2 }, { ...path, id: 2, services: ['ids'] }],
    currentPath: () => 2,
  });
  t.equal(program.generation, 7);
  t.strictSame(program.instances.map((instance) => [instance.mac === null, instance.state]), [[false, 'up'], [true, 'up'], [false, 'up'], [false, 'draining']]);
  t.match(program.paths, [{ id: 1, services: [0, 1], movedTo: 2 }, { id: 2, services: [1], movedTo: 0 }]);
  t.strictSame(program.chains, [{ id: 0, path: 2 }]);
  t.doesNotThrow(() => new native.Engine({ flowsMax: 1 }).install(program));
});

t.test('ids stay with names when the configuration changes, and rules follow what they depend on', async (t) => {
  const ids = newIds();
  const before = valid(EXAMPLE);
  const first = compile(before, ids, replayFacts(before));
  const chains = { ...before, chains: before.chains.map((chain) => ({ ...chain, services: ['ids'] })) };
  t.equal(compile(chains, ids, replayFacts(chains)).rules, first.rules, 'not made again for a chain');
  const reversed = { ...before, policies: before.policies.toReversed(), services: before.services.toReversed() };
  const second = compile(reversed, ids, replayFacts(reversed));
  t.strictSame(second.services.map((service) => service.id), [1, 0]);
  t.strictSame(Buffer.from(second.rules), Buffer.from(first.rules), 'priority and specificity order them as before');
  const captured = { ...before, captures: [{ name: 'other', in: 'x', out: 'y', tenant: 9 }, ...before.captures] };
  t.notSame(Buffer.from(compile(captured, ids, replayFacts(captured)).rules), Buffer.from(first.rules), 'a capture has another index');
  t.strictSame(Buffer.from(compile(before, newIds(), replayFacts(before)).rules), Buffer.from(first.rules), 'another process, the same names');
});

t.test('an affinity key file holds 16 bytes or 32 hexadecimal digits', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'weir-key-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = (content: string | Buffer): string => {
    writeFileSync(join(directory, 'key'), content);
    return join(directory, 'key');
  };
  const key = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');
  t.strictSame(Buffer.from(loadAffinityKey(file(key))), key);
  t.strictSame(Buffer.from(loadAffinityKey(file('000102030405060708090A0B0C0D0E0F\n'))), key);
  for (const wrong of ['', 'secret', '00'.repeat(15), 'zz'.repeat(16), '00'.repeat(17)]) {
    t.throws(() => loadAffinityKey(file(wrong)), { constructor: Failure, exitCode: 2, message: /expected 16 bytes or 32 hexadecimal digits in .*key, found \d+ bytes\. Make one with: head -c 16/ }, JSON.stringify(wrong));
  }
  t.throws(() => loadAffinityKey(join(directory, 'missing')), { exitCode: 2, message: /can't read .*missing \(ENOENT\)/ });
});
