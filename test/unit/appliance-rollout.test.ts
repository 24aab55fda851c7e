/** How an appliance gets from one set of units to another: who hears of it when, and what stays until when. */
import t from 'tap';
import { AT_FIRST, DISPATCHER_PATIENCE_MS, listFor, MOST_MAPS, stable, step, unitsIn, type Facts, type Rollout, type UnitFacts } from '../../src/appliance/rollout.js';

/** Members that do what they are told as soon as they are asked to. */
class World {
  rollout: Rollout = AT_FIRST;
  nowMs = 0;
  changedMs = 0;
  wanted: string[] = [];
  leaseMs = 1000;
  drainMs: number | null = null;
  readonly units = new Map<string, { revision: number; heardMs: number; streams: number; needs: Map<number, number> }>();
  readonly dispatchers = new Map<string, { revision: number; heardMs: number }>();
  readonly said: string[] = [];

  add(...names: string[]): void {
    for (const name of names) this.units.set(name, { revision: -1, heardMs: this.nowMs, streams: 0, needs: new Map() });
  }

  facts(): Facts {
    const { rollout, nowMs } = this;
    return {
      nowMs,
      leaseMs: this.leaseMs,
      drainMs: this.drainMs,
      units: new Map([...this.units].map(([name, { revision, heardMs, streams, needs }]): [string, UnitFacts] => [name, { silentMs: nowMs - heardMs, current: revision === rollout.revision, streams, needs }])),
      dispatchers: new Map([...this.dispatchers].map(([name, { revision, heardMs }]) => [name, { silentMs: nowMs - heardMs, current: revision === rollout.revision }])),
      wanted: this.wanted.filter((name) => nowMs - (this.units.get(name)?.heardMs ?? 0) <= this.leaseMs).map((name) => [name, 1] as const),
      changedMs: this.changedMs,
    };
  }

  /** All steps that can be made now. */
  go(): void {
    for (;;) {
      const before = this.rollout;
      const { rollout, what } = step(before, this.facts());
      if (rollout === before) return;
      this.rollout = rollout;
      this.changedMs = this.nowMs;
      this.said.push(what);
    }
  }

  hear(who: 'units' | 'dispatchers', ...silent: string[]): void {
    for (const [name, one] of this[who]) {
      if (silent.includes(name)) continue;
      one.revision = this.rollout.revision;
      one.heardMs = this.nowMs;
    }
  }

  /** Everybody hears everything, for a while. */
  settle(ms = 5000, ...silent: string[]): void {
    for (let end = this.nowMs + ms; this.nowMs < end; this.nowMs += 100) {
      this.go();
      this.hear('units', ...silent);
      this.hear('dispatchers', ...silent);
    }
  }
}

function running(): World {
  const world = new World();
  world.add('a', 'b');
  world.dispatchers.set('d', { revision: -1, heardMs: 0 });
  world.wanted = ['a', 'b'];
  world.settle();
  return world;
}

t.test('units hear of a map before dispatchers, and open streams by it after them', async (t) => {
  const world = running();
  t.match(world.rollout, { opened: 1, told: 1 });
  world.add('c');
  world.wanted = ['a', 'b', 'c'];
  world.go();
  t.match(world.rollout, { opened: 1, told: 1 });
  t.equal(world.rollout.maps.length, 2, 'a map that only units know');
  t.strictSame(listFor(world.rollout).serving.map(([name]) => name), ['a', 'b']);
  world.hear('units', 'c');
  world.go();
  t.equal(world.rollout.told, 1, 'the new one has not heard yet');
  world.hear('units');
  world.go();
  t.match(world.rollout, { opened: 1, told: 2 });
  t.strictSame(listFor(world.rollout).serving.map(([name]) => name), ['a', 'b', 'c']);
  world.hear('units');
  world.go();
  t.equal(world.rollout.opened, 1, 'the dispatcher has not heard yet');
  world.hear('dispatchers');
  world.go();
  t.match(world.rollout, { opened: 2, told: 2 });
  t.ok(stable(world.rollout));
});

t.test('a map stays while streams are found by it alone, a unit that leaves while it has streams', async (t) => {
  const world = running();
  const b = world.units.get('b');
  if (b === undefined) throw new Error('no b');
  b.streams = 2;
  b.needs.set(1, 2);
  world.wanted = ['a'];
  world.settle(20_000);
  t.equal(world.rollout.maps.length, 2);
  t.strictSame(listFor(world.rollout), { serving: [['a', 1]], leaving: ['b'] });
  b.streams = 0;
  b.needs.clear();
  world.settle();
  t.strictSame(unitsIn(world.rollout), ['a']);
  t.equal(world.rollout.maps.length, 1);
  t.strictSame(listFor(world.rollout).leaving, []);
});

t.test('a time to drain that is over', async (t) => {
  const world = running();
  const b = world.units.get('b');
  if (b !== undefined) b.streams = 7;
  world.drainMs = 3000;
  world.wanted = ['a'];
  world.settle(6000);
  t.strictSame(unitsIn(world.rollout), ['a']);
  t.match(world.said.join('\n'), /b has left with 7 streams: its time to drain is over/);
});

t.test('a unit that is silent is given up and comes back with nothing; where all are silent, nobody is', async (t) => {
  const world = running();
  const versions = world.rollout.maps.map(({ version }) => version);
  world.settle(900, 'b');
  t.strictSame(unitsIn(world.rollout), ['a', 'b']);
  world.settle(1000, 'b');
  t.strictSame(unitsIn(world.rollout), ['a']);
  t.strictSame(world.rollout.maps.map(({ version }) => version), versions, 'at once, without a new map');
  t.equal(world.rollout.epochs['b'], 1);
  const b = world.units.get('b');
  if (b !== undefined) b.heardMs = world.nowMs;
  world.settle();
  t.strictSame(unitsIn(world.rollout), ['a', 'b']);
  world.settle(60_000, 'a', 'b', 'd');
  t.strictSame(unitsIn(world.rollout), ['a', 'b'], 'it is this manager that hears nothing');
});

t.test('a dispatcher that is silent is waited for, but not for ever', async (t) => {
  const world = running();
  world.add('c');
  world.wanted = ['a', 'b', 'c'];
  world.settle(DISPATCHER_PATIENCE_MS - 1000, 'd');
  t.equal(world.rollout.opened, 1);
  world.settle(3000, 'd');
  t.equal(world.rollout.opened, 2);
});

t.test('changes without end: there are never too many maps', async (t) => {
  const world = running();
  world.add('c');
  for (let n = 0; n < 40; n++) {
    world.wanted = n % 2 === 0 ? ['a', 'b', 'c'] : ['a', 'b'];
    for (const unit of world.units.values()) unit.needs = new Map(world.rollout.maps.map(({ version }) => [version, 1]));
    const c = world.units.get('c');
    if (c !== undefined) c.streams = 1;
    world.settle(3000);
    t.ok(world.rollout.maps.length <= MOST_MAPS + 1);
  }
  t.ok(world.rollout.maps.length > 3);
});
