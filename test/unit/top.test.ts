/** What `weir top` draws: of a running dataplane, at every size of a screen, with names that would steer a terminal. */
import t from 'tap';
import { bar, short, topLines, type Look } from '../../src/cli/top-view.js';
import { chains, services, stats, status } from '../../src/dataplane/views.js';
import type { WeirEvent } from '../../src/observe/events.js';
import { steerAll } from '../support/configuration.js';
import { udp } from '../support/packets.js';
import { simulate, type Simulation } from '../support/sim.js';

const MS = 1_000_000n;
const ALL = { rows: Infinity, columns: Infinity, colour: false };

const lookAt = ({ dataplane }: Simulation, atMs: number, events: readonly WeirEvent[] = dataplane.events.history().events): Look => ({ atMs, status: status(dataplane), stats: stats(dataplane), chains: chains(dataplane), services: services(dataplane), events });

t.test('numbers and bars', async (t) => {
  t.strictSame([0, 0.4, 9.96, 42, 999, 1000, 12_345, 999_960, 4_560_000, 7.8e9, 2e12].map(short), ['0', '0.4', '10.0', '42', '999', '1.00k', '12.3k', '1.00M', '4.56M', '7.80G', '2.00T']);
  t.strictSame([0, 0.5, 1, 7].map(bar), ['..........', '#####.....', '##########', '##########']);
});

t.test('rates are those between two looks, and nothing is wider or longer than the screen', async (t) => {
  const it = await simulate(steerAll());
  t.teardown(() => it.dataplane.stop());
  const first = lookAt(it, 0);
  for (let port = 0; port < 40; port++) for (let n = 0; n < 3; n++) it.network.inject(1, udp({ sourcePort: 20_000 + port }));
  it.network.advance(MS);
  await it.dataplane.setInstance('firewall', 'fw-2', 'draining', null, 'test');
  it.dataplane.placement.load.set('firewall/fw-1', { packetsPerSecond: null, bytesPerSecond: null, cpu: 61, streams: null, queue: null });
  const second = lookAt(it, 2000);

  const text = topLines(second, first, ALL).join('\n');
  t.match(text, /streams 40 of 1000 {2}60 packets\/s/);
  t.match(text, /^inspect +firewall > ids +40 +60 /m);
  t.match(text, /^firewall\/fw-1 +up +######\.\.\.\. +61% cpu +\d+ /m);
  t.match(text, /^firewall\/fw-2 +draining +#+\.* +\d+% of most /m);
  t.match(text, /^events\n[^]*firewall\/fw-2 is now draining/m);
  t.match(topLines(first, null, ALL).join('\n'), / - packets\/s/, 'at first there is no rate');

  for (const rows of [1, 5, 12, 24, 60]) {
    for (const columns of [1, 20, 80, 200]) {
      const lines = topLines(second, first, { rows, columns, colour: false });
      t.ok(lines.length <= rows && lines.every((line) => line.length <= columns), `${columns} x ${rows}: ${lines.length} lines`);
    }
  }
});

t.test('a weir that was restarted has no rates below 0', async (t) => {
  const it = await simulate(steerAll());
  t.teardown(() => it.dataplane.stop());
  it.network.inject(1, udp({ sourcePort: 20_000 }));
  const now = lookAt(it, 1000);
  const before = { ...lookAt(it, 0), status: { ...now.status, pid: now.status.pid + 1 } };
  t.match(topLines(now, before, ALL)[1], / - packets\/s/);
});

t.test('what could steer a terminal does not reach it', async (t) => {
  const it = await simulate(steerAll());
  t.teardown(() => it.dataplane.stop());
  const event: WeirEvent = { ...it.dataplane.events.emit({ kind: 'config', cause: '\x1b[2J\x07' }) };
  t.notMatch(topLines(lookAt(it, 0, [event]), null, ALL).join('\n'), /[\x07\x1b]/);
});
