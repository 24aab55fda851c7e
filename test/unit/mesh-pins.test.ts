/** The pipeline on paths to which members come late: a stream goes to the member that ranks first, whatever it is pinned to. */
import t from 'tap';
import { followMembers } from '../../src/dataplane/members.js';
import { native } from '../../src/dataplane/native.js';
import { Paths } from '../../src/dataplane/paths.js';
import { compile, replayFacts } from '../../src/program/compile.js';
import { newIds } from '../../src/program/ids.js';
import { valid } from '../support/configuration.js';
import { udp } from '../support/packets.js';

const STREAMS = 64;
const KEYS = ['b/b1', 'b/b2', 'b/b3'];

/** weir with a hub chain of one synced service. */
class Forwarder {
  readonly configuration = valid(`
underlay: {interface: u, address: 10.0.0.100}
captures: [{name: a, in: b, out: c}]
services:
  b: {sync: strict, instances: [${KEYS.map((key, i) => `{name: ${key.slice(2)}, address: 10.0.0.${i + 1}}`).join(', ')}]}
chains: {hub: [b]}
mesh: {key: {file: k}}
policies: [{name: all, match: {}, chain: hub}]`);
  readonly paths = new Paths();
  readonly sessions = new Map(KEYS.map((key) => [key, `${key} 0`]));
  readonly engine = new native.Engine({ flowsMax: 1000 });
  readonly #ids = newIds();
  #now = 1n;

  constructor() {
    for (const chain of this.configuration.chains) this.paths.add(chain, 'keep');
    this.follow();
  }

  follow(): void {
    followMembers(this.paths, this.configuration, { sessionOf: (key) => this.sessions.get(key) ?? null, stateOf: () => 'up' });
    const facts = { ...replayFacts(this.configuration), paths: this.paths.all(), currentPath: (chain: string) => this.paths.currentId(chain), macOf: () => '02:00:00:00:00:03' };
    this.engine.install(compile(this.configuration, this.#ids, facts));
  }

  /** Whom a packet of the stream goes to. */
  to(stream: number): string {
    const [frame] = this.engine.process((this.#now += 1000n), 1, udp({ sourcePort: 10_000 + stream }));
    return `b/b${frame?.bytes[33]}`;
  }

  all(): string[] {
    return Array.from({ length: STREAMS }, (_, stream) => this.to(stream));
  }

  restart(key: string, run: number, seen = true): void {
    this.sessions.delete(key);
    if (seen) this.follow();
    this.sessions.set(key, `${key} ${run}`);
    this.follow();
  }
}

t.test('a stream that was silent while its instance ended and came back goes to the one that has its state', (t) => {
  const f = new Forwarder();
  const before = f.all();
  t.ok(KEYS.every((key) => before.includes(key)));
  f.restart('b/b1', 1);
  const after = f.all();
  after.forEach((key, stream) => {
    if (before[stream] === 'b/b1') t.not(key, 'b/b1', 'its new run has nothing of it');
    else t.equal(key, before[stream], 'others stay');
  });
  t.strictSame(f.all(), after);
  t.strictSame(f.engine.flows(0, 1000).flows.length, STREAMS);
  t.end();
});

t.test('each instance fails and comes back, again and again: streams go by rank, and never to one that came after another that is there', (t) => {
  const f = new Forwarder();
  f.all();
  /** Oldest first. */
  const late: string[] = [];
  for (let kill = 0; kill < 12; kill++) {
    const key = `b/b${(kill % 3) + 1}`;
    f.restart(key, kill + 1, kill % 2 === 0);
    late.push(...late.splice(0).filter((one) => one !== key), key);
    // Some streams speak after each failure, some seldom.
    for (let stream = 0; stream < STREAMS; stream += 1 + (kill % 4)) {
      const to = f.to(stream);
      if (kill < 2) t.notOk(late.includes(to));
      else t.equal(to, late[0], `kill ${kill}: stream ${stream}`);
    }
  }
  t.end();
});
