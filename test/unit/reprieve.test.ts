/** One instance of a service with synced state is taken for failed at a time, while the others say hello. */
import t from 'tap';
import { Reprieve, REPRIEVE_MS } from '../../src/dataplane/reprieve.js';
import { valid } from '../support/configuration.js';

const services = (sync: string) => valid(`
underlay: {interface: u}
captures: [{name: a, in: b, out: c}]
services:
  a: {instances: [{name: a1, address: 10.0.0.1}, {name: a2, address: 10.0.0.2}]}
  b: {sync: ${sync}, instances: [{name: b1, address: 10.0.0.3}, {name: b2, address: 10.0.0.4}, {name: b3, address: 10.0.0.5}]}
chains: {line: {services: [a, b], return: mesh}}
mesh: {key: {file: k}}
policies: [{name: all, match: {}, chain: line}]`).services;

function asked(sync: string, silent: readonly string[] = []): (nowMs: number, ...down: string[]) => string[] {
  const reprieve = new Reprieve((key) => !silent.includes(key));
  return (nowMs, ...down) => [...reprieve.of(new Set(down), services(sync), nowMs)];
}

await t.test('the second one has a second, and what answers again meanwhile never failed', async (t) => {
  const failed = asked('strict');
  t.strictSame(failed(0, 'b/b1'), ['b/b1']);
  t.strictSame(failed(20, 'b/b1', 'b/b2'), ['b/b1']);
  t.strictSame(failed(30, 'b/b1'), ['b/b1'], 'it was only late');
  t.strictSame(failed(REPRIEVE_MS - 1, 'b/b1', 'b/b2'), ['b/b1']);
  t.strictSame(failed(REPRIEVE_MS, 'b/b1', 'b/b2'), ['b/b1', 'b/b2']);
  t.strictSame(failed(REPRIEVE_MS + 1, 'b/b1', 'b/b2', 'b/b3'), ['b/b1', 'b/b2'], 'the third waits for the second');
});

await t.test('two at the same moment: the one that is named first', async (t) => {
  const failed = asked('async');
  t.strictSame(failed(0, 'b/b1', 'b/b3'), ['b/b1']);
  t.strictSame(failed(5, 'b/b3'), [], 'the first answers again, and its states have not been said to anybody yet');
  t.strictSame(failed(REPRIEVE_MS, 'b/b3'), ['b/b3']);
});

await t.test('nobody waits where there is no state, or for who says nothing', async (t) => {
  t.strictSame(asked('off')(0, 'b/b1', 'b/b2'), ['b/b1', 'b/b2']);
  t.strictSame(asked('strict', ['b/b2'])(0, 'b/b1', 'b/b2'), ['b/b1', 'b/b2']);
  t.strictSame(asked('strict')(0, 'a/a1', 'a/a2', 'b/b1'), ['a/a1', 'a/a2', 'b/b1'], 'each service by itself');
});
