/**
 * A service is inserted between two others under traffic, with `keep` and with `move`: from captures of what instances get and of what
 * they send back, with the times of both.
 */
import t from 'tap';
import { ControlClient } from '../../src/control/client.js';
import { HttpLoad, failures } from '../support/http-load.js';
import { Lab, SERVICES, until, type ServiceHost } from '../support/lab.js';
import { PathProof, type KnownPath } from '../support/path-proof.js';
import { arrivals, replies, type Arrival } from '../support/stamped-capture.js';

const hosts = Object.keys(SERVICES) as ServiceHost[];
/** Where what an instance sends back is seen: a socket that bypasses the queue discipline bypasses captures on its own interface too. */
const REPLIES_AT: Readonly<Record<ServiceHost, readonly [host: string, device: string]>> = { fw1: ['sw', 'p2'], fw2: ['sw', 'p3'], ids1: ['sw', 'p4'], ids2: ['ur', 'eth1'], add1: ['sw', 'p5'], add2: ['sw', 'p6'] };
const STAMPED = '(udp dst port 4790 or udp dst port 6081)';
const serviceOf = (host: string): string => SERVICES[host as ServiceHost].service;
const nowUs = (): number => Date.now() * 1000;

const lab = await Lab.up();
t.teardown(() => lab.down());
await lab.nodes('pass', hosts);
const load = await HttpLoad.serve(lab);
await lab.start('net', ['iperf3', '-s', '--forceflush'], /Server listening/);

const pathOf = ({ spi }: Arrival): number => Math.floor(spi / 2);
const backwards = ({ spi }: Arrival): boolean => spi % 2 === 1;
const hop = ({ si }: Arrival): number => 255 - si;

for (const encapsulation of ['nsh', 'geneve'] as const) {
  for (const existing of ['keep', 'move'] as const) {
    await t.test(`${encapsulation}: a service inserted under traffic, existing streams ${existing}`, async (t) => {
      const weir = await lab.weir({ encapsulation, chain: ['firewall', 'ids'] });
      t.teardown(() => weir.stop());
      const taps = await Promise.all(
        hosts.map(async (host) => {
          const [at, device] = REPLIES_AT[host];
          const [got, sent] = await Promise.all([
            lab.longCapture(host, 'eth0', `${STAMPED} and dst host ${SERVICES[host].address}`),
            lab.longCapture(at, device, `${STAMPED} and src host ${SERVICES[host].address}`),
          ]);
          return { host, got, sent };
        }),
      );
      const control = await ControlClient.connect(lab.socket);
      t.teardown(() => control.close());
      const requests = await load.start(150, 1);
      const long = lab.exec('wl', 'iperf3', '-c', '10.2.0.2', '--bidir', '-P', '2', '-b', '1M', '-t', '12', '-J');
      await until('long streams and short ones to be under way', async () => {
        const { flows } = await control.call<{ flows: { destinationPort: number; packets: number }[] }>('flows', { port: 5201, limit: 1000 });
        return requests.completed() > 100 && flows.filter(({ packets }) => packets > 10).length >= 4;
      }, 60_000);

      // Paths that nobody uses any more are known for a moment, and the weir before had some too: which one is meant says `current`.
      const pathsNow = async (): Promise<(KnownPath & { readonly current: boolean })[]> => (await control.call<{ paths: (KnownPath & { readonly current: boolean })[] }[]>('chains')).flatMap((chain) => chain.paths);
      const pathsBefore = await pathsNow();
      const askedUs = nowUs();
      await control.call('chain.insert', { chain: 'inspect', service: 'added', after: 'firewall', existing });
      const answeredUs = nowUs();
      const ms = (us: number): string => ((us - askedUs) / 1000).toFixed(1);
      const openedThen = requests.opened();
      await until('connections that were opened after it', () => requests.completed() > openedThen + 150, 60_000);
      const pathsAfter = await pathsNow();
      const [before, after] = [pathsBefore, pathsAfter].map((paths) => paths.find(({ current }) => current));
      const [report, iperf] = await Promise.all([requests.stop(), long]);
      t.equal(failures(report), 0, `${report.completed} of ${report.opened} connections answered`);
      t.equal(iperf.code, 0, iperf.code === 0 ? 'iperf3' : iperf.stdout.slice(-300));
      const files = await Promise.all(taps.map(async ({ host, got, sent }) => ({ host, got: await got.stop(), sent: await sent.stop() })));
      t.equal((await weir.stop()).code, 0);

      const proof = new PathProof();
      for (const { host, got } of files) proof.add(got.file, { ...SERVICES[host], dropped: got.dropped });
      const verdict = proof.judge(new Map([...pathsBefore, ...pathsAfter].map((path) => [path.id, path])), { crossing: encapsulation === 'geneve' && existing === 'move' });
      t.strictSame(verdict.violations, [], `each of ${verdict.packets} packets belongs wholly to one path`);
      t.strictSame(files.map(({ got, sent }) => got.dropped + sent.dropped), hosts.map(() => 0), 'tcpdump lost nothing');

      t.strictSame([before?.services, after?.services], [['firewall', 'ids'], ['firewall', 'added', 'ids']]);
      const [was, is] = [before?.id, after?.id];
      const got = files.flatMap(({ host, got }) => arrivals(got.file, host, SERVICES[host].address)).sort((a, b) => a.timeUs - b.timeUs);
      const back = files.flatMap(({ host, sent }) => replies(sent.file, host, SERVICES[host].address));

      // Order on the new path, with what came back in between: got by one, sent back by it, got by the next.
      const sentBack = new Map(back.map((reply) => [`${reply.host} ${reply.spi} ${reply.packet}`, reply.timeUs]));
      const onNew = new Map<string, Arrival[]>();
      for (const arrival of got) {
        if (pathOf(arrival) !== is) continue;
        const key = `${arrival.spi} ${arrival.packet}`;
        onNew.set(key, [...(onNew.get(key) ?? []), arrival]);
      }
      const ways = new Map<string, number>();
      const wrong: string[] = [];
      for (const [key, visits] of onNew) {
        if (visits.length !== 3) continue; // under way at the end; PathProof has seen that it skipped nothing
        const way = visits.map(({ host }) => serviceOf(host)).join(' > ');
        ways.set(way, (ways.get(way) ?? 0) + 1);
        visits.slice(0, 2).forEach((visit, i) => {
          const replied = sentBack.get(`${visit.host} ${key}`);
          const next = visits[i + 1]?.timeUs ?? 0;
          if (replied === undefined || replied < visit.timeUs || next < replied) wrong.push(`${key}: got by ${visit.host} at ${visit.timeUs}, sent back at ${replied}, got by the next at ${next}`);
        });
      }
      t.strictSame(wrong.slice(0, 3), [], 'the next service gets a packet after the one before has sent it back');
      t.strictSame([...ways.keys()].sort(), ['firewall > added > ids', 'ids > added > firewall'], JSON.stringify(Object.fromEntries(ways)));

      // Streams: where their packets entered, in time.
      const entered = new Map<string, { readonly path: number; readonly timeUs: number }[]>();
      const firstSeen = new Map<string, number>();
      // A port whose connection the server has closed may be taken for the next one at once: a SYN with another number opens another stream.
      const opened = new Map<string, number>();
      for (const arrival of got) {
        if (arrival.opens !== null && hop(arrival) === 0) opened.set(arrival.stream, arrival.opens);
        const stream = `${arrival.stream} ${opened.get(arrival.stream)}`;
        if (!firstSeen.has(stream)) firstSeen.set(stream, arrival.timeUs);
        if (hop(arrival) !== 0) continue;
        const key = `${backwards(arrival) ? 'answers' : 'forward'} ${stream}`;
        entered.set(key, [...(entered.get(key) ?? []), { path: pathOf(arrival), timeUs: arrival.timeUs }]);
      }
      const story = ([key, packets]: readonly [string, readonly { readonly path: number; readonly timeUs: number }[]]): string => `${key}: ${packets.map(({ path, timeUs }) => `path ${path} at ${ms(timeUs)} ms`).join(', ')}`;
      const streamOf = (key: string): string => key.slice(key.indexOf(' ') + 1);
      const older = [...entered].filter(([key]) => (firstSeen.get(streamOf(key)) ?? 0) < askedUs);
      const newer = [...entered].filter(([key]) => (firstSeen.get(streamOf(key)) ?? 0) > answeredUs);
      const through = older.filter(([, packets]) => packets.some(({ timeUs }) => timeUs > answeredUs));
      t.ok(newer.length > 100 && through.length >= 8, `${newer.length} directions of streams opened after the swap, ${through.length} of streams that live through it`);
      t.strictSame(newer.filter(([, packets]) => packets.some(({ path }) => path !== is)).map(([key]) => key), [], 'new streams take the new path');
      if (existing === 'keep') {
        t.strictSame(older.filter(([, packets]) => packets.some(({ path }) => path !== was)).map(story), [], 'live streams end on the path they began');
      } else {
        const back = older.filter(([, packets]) => packets.some(({ path }, i) => path === was && packets[i - 1]?.path === is));
        t.strictSame(back.map(([key]) => key), [], 'no stream goes back');
        t.strictSame(through.filter(([, packets]) => packets.at(-1)?.path !== is).map(([key]) => key), [], 'every stream that goes on does so on the new path');
      }
      const last = Math.max(...older.flatMap(([, packets]) => packets.filter(({ path }) => path === was).map(({ timeUs }) => timeUs)));
      const first = Math.min(...[...entered.values()].flat().filter(({ path }) => path === is).map(({ timeUs }) => timeUs));
      t.comment(`asked at 0 ms, answered at ${ms(answeredUs)} ms, first packet on the new path at ${ms(first)} ms, last one on the old path at ${ms(last)} ms; ${verdict.packets} packets, ${JSON.stringify(Object.fromEntries(verdict.orders))}`);
    });
  }
}
