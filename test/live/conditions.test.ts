/** Conditions by real load and real instances, under traffic: policies change in one swap, and no connection fails. */
import t from 'tap';
import { ControlClient } from '../../src/control/client.js';
import { HttpLoad, failures } from '../support/http-load.js';
import { Lab, until } from '../support/lab.js';

const lab = await Lab.up();
t.teardown(() => lab.down());
await lab.nodes('pass');
const load = await HttpLoad.serve(lab);
await lab.start('net', ['iperf3', '-s', '--forceflush'], /Server listening/);

// What no policy matches is dropped: a moment between the old policies and the new ones would cost connections.
const EXTRA = `default: drop
configurations:
  busy:
    priority: 10
    when: {load: {service: firewall, packets_per_second: {above: 2500}}, for: 1s, until: {below: 1500, for: 1s}}
    policies: [{name: light, match: {}, chain: lean}]
  degraded:
    priority: 20
    when: {healthy: {service: ids, below: 2}}
    policies: [{name: around, match: {}, chain: other}]
`;

interface ConditionEvent {
  readonly kind: string;
  readonly variant?: string;
  readonly active?: boolean;
  readonly generation: number;
  readonly cause: string;
}
interface Stats {
  readonly policies: readonly { readonly name: string; readonly streams: number }[];
  readonly dropped: Readonly<Record<string, number>>;
}

await t.test('load of a service, and the number of healthy instances, switch policies under traffic', async (t) => {
  const weir = await lab.weir({ moreChains: ', lean: [firewall], other: [firewall, added]', extra: EXTRA });
  t.teardown(() => weir.stop());
  const client = await ControlClient.connect(lab.socket);
  t.teardown(() => client.close());
  const events: ConditionEvent[] = [];
  client.notified((_, event) => void events.push(event as ConditionEvent));
  await client.call('subscribe', { events: ['config', 'condition'] });
  const { generation } = await client.call<{ generation: number }>('config.get');
  const requests = await load.start(40, 1);

  const opened = async (): Promise<Record<string, number>> => Object.fromEntries((await client.call<Stats>('stats')).policies.map(({ name, streams }) => [name, streams]));
  /** Waits for a switch, and sees that from then on streams are opened by `policy` alone. */
  const inForce = async (what: string, happened: () => boolean, policy: string): Promise<void> => {
    await until(what, happened, 30_000);
    const then = await opened();
    await until(`${what}: new streams`, async () => ((await opened())[policy] ?? 0) > (then[policy] ?? 0) + 20);
    const now = await opened();
    const others = Object.keys(now).filter((name) => name !== policy);
    t.strictSame(others.map((name) => `${name} ${now[name]}`), others.map((name) => `${name} ${then[name] ?? 0}`), `${what}: new streams meet ${policy} and no other policy`);
  };
  const told = (variant: string, active: boolean) => (): boolean => events.some((event) => event.kind === 'condition' && event.variant === variant && event.active === active);
  await inForce('the policies at the top level', () => true, 'all');

  // Load: UDP through the firewall for some seconds.
  const burst = lab.exec('wl', 'iperf3', '-c', '10.2.0.2', '-u', '-b', '40M', '-l', '1000', '-t', '8', '-J');
  await inForce('busy', told('busy', true), 'light');
  t.match((await lab.ctl('conditions')).stdout, /in force: configuration busy, since .*\n(.*\n)*.*busy \*.*yes/, 'weir conditions');
  t.equal((await burst).code, 0);
  await inForce('busy to be over', told('busy', false), 'all');

  // Instances: one of two is taken out, and comes back.
  await client.call('instance.set', { service: 'ids', instance: 'ids-2', state: 'down' });
  await inForce('degraded', told('degraded', true), 'around');
  await client.call('instance.set', { service: 'ids', instance: 'ids-2', state: 'up' });
  await inForce('degraded to be over', told('degraded', false), 'all');

  const report = await requests.stop();
  t.equal(failures(report), 0, `${report.completed} of ${report.opened} connections answered: ${JSON.stringify(report.failed)}`);
  const { dropped } = await client.call<Stats>('stats');
  t.strictSame(Object.entries(dropped).filter(([, count]) => count > 0), [], 'no packet met no policy');
  const conditions = events.filter(({ kind }) => kind === 'condition');
  t.strictSame(conditions.map(({ variant, active }) => `${variant} ${active}`), ['busy true', 'busy false', 'degraded true', 'degraded false'], 'each switched once, without flapping');
  t.equal(new Set(conditions.map((event) => event.generation)).size, 4, 'each in a program of its own');
  t.ok(conditions.every((event) => event.generation > generation));
  t.match(conditions.map(({ cause }) => cause), [/^busy holds: .*2500/, /busy ended/, /^degraded holds: .*ids/, /degraded ended/]);
});
