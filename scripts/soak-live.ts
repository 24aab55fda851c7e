/** `scripts/soak --minutes N`: traffic, edits, and instances that come and go, on a weir in a lab; a row a minute, then what has to hold. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient } from '../src/control/client.js';
import { OTHER_GENERATION, RpcError } from '../src/control/protocol.js';
import { came, droppedOf, reasons, went, type Accounts } from '../test/support/accounts.js';
import { anyEdit, random, type EditedDocument } from '../test/support/editors.js';
import { HTTP_PORT, HTTP_PORTS, HttpLoad, failures } from '../test/support/http-load.js';
import { Lab, ROOT, SERVICES, until, type Running, type ServiceHost } from '../test/support/lab.js';
import { figure, table } from './bench/table.js';
import { Claims, checkMemory, ends } from './soak-report.js';

const minutes = Number(process.argv[2]);
if (!(minutes > 0 && minutes <= 10_000)) {
  console.error('soak: --minutes wants a number above 0');
  process.exit(2);
}
const SEED = Number(process.env['WEIR_SEED'] ?? 1);
const CONNECTIONS_A_SECOND = 40;
const DATAGRAMS_A_SECOND = 300;
const DATAGRAM_STREAMS = 60;
const EDIT_MS = 1000;
const INSTANCE_MS = 5000;
const SAMPLE_MS = 2000;
/** Short, so that the table is in its steady state before the warm-up is over. */
const FLOWS = 'flows: {max: 20000, idle: {tcp: 10s, other: 5s, closed: 1s}}';
const HOSTS = Object.keys(SERVICES) as ServiceHost[];

interface Stats extends Accounts {
  readonly streams: { readonly active: number; readonly opened: number };
  readonly ports: readonly { readonly interface: string; readonly rxFrames: number; readonly rxDropped: number; readonly txFrames: number; readonly txErrors: number }[];
}

const claims = new Claims();
const lab = await Lab.up();
const dice = random(SEED);
const pick = <T>(list: readonly T[]): T => list[Math.floor(dice() * list.length)] as T;

const residentMiB = (pid: number): number => Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? NaN) / 1024;
const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;
/** As the kernel counts them, at the other end of weir's wires. */
async function counted(host: string, device: string): Promise<{ tx: number; rx: number }> {
  const read = async (what: string): Promise<number> => Number(await lab.must(host, 'cat', `/sys/class/net/${device}/statistics/${what}`));
  return { tx: await read('tx_packets'), rx: await read('rx_packets') };
}
const portOf = (stats: Stats, name: string): Stats['ports'][number] => {
  const port = stats.ports.find((candidate) => candidate.interface === name);
  if (port === undefined) throw new Error(`no port ${name}`);
  return port;
};

try {
  const nodes = new Map<ServiceHost, Running>();
  for (const host of HOSTS) nodes.set(host, await lab.node(host));
  const weir = await lab.weir({ extra: FLOWS });
  const pid = Number(/"pid":(\d+)[^\n]*"msg":"ready"/.exec(weir.output())?.[1]);
  const client = await ControlClient.connect(lab.socket);
  const stats = (): Promise<Stats> => client.call<Stats>('stats');
  await client.call('config.patch', { patch: { chains: { second: { services: ['added', 'ids'], encapsulation: 'geneve' } } } });

  /** Kernel's and weir's counts of the same moment: when nothing moves. */
  const standstill = async (): Promise<{ stats: Stats; workload: { tx: number; rx: number }; router: { tx: number; rx: number } }> => {
    for (const end = Date.now() + 120_000; ; await sleep(500)) {
      const before = await stats();
      const [workload, router] = [await counted('wl', 'eth0'), await counted('rtr', 'lan0')];
      await sleep(1500);
      const after = await stats();
      if (JSON.stringify(before.ports) === JSON.stringify(after.ports) && after.held === 0) return { stats: after, workload, router };
      if (Date.now() > end) throw new Error('the network does not come to rest');
    }
  };
  const begun = await standstill();

  const load = await HttpLoad.serve(lab);
  const requests = await load.start(CONNECTIONS_A_SECOND, SEED);
  const datagrams = ['python3', join(ROOT, 'test/support/udp-streams.py')];
  const receiver = await lab.start('net', [...datagrams, 'receive', '6000'], /ready/);
  const sender = await lab.start('wl', [...datagrams, 'send', '10.2.0.2', '6000', '30000', String(DATAGRAM_STREAMS), String(DATAGRAMS_A_SECOND)], /ready/);
  const fragments = await lab.start('wl', ['ping', '-q', '-s', '4000', '-i', '0.2', '10.2.0.2']);

  let edits = 0;
  let taken = 0;
  let over = false;
  const refused: string[] = [];
  const ports = Array.from({ length: HTTP_PORTS }, (_, i) => HTTP_PORT + i);
  const editing = (async () => {
    const editor = await ControlClient.connect(lab.socket);
    for (; !over; await sleep(EDIT_MS)) {
      const { generation, document } = await editor.call<{ generation: number; document: EditedDocument }>('config.get');
      const [method, params] = anyEdit(document, ports, dice);
      await editor.call(method, { ...params, if_generation: generation }).then(
        () => edits++,
        (error: unknown) => {
          if (!(error instanceof RpcError && error.code === OTHER_GENERATION)) refused.push(`${method}: ${(error as Error).message}`);
        },
      );
    }
    editor.close();
  })();
  // One instance at a time is drained, ended, started anew and taken back.
  const coming = (async () => {
    const keeper = await ControlClient.connect(lab.socket);
    for (; !over; await sleep(INSTANCE_MS)) {
      const host = pick(HOSTS);
      const { service, name } = SERVICES[host];
      await keeper.call('instance.set', { service, instance: name, state: 'draining', deadline: '2s' });
      await until('the instance to be down', async () => (await keeper.call<{ name: string; instances: { name: string; state: string }[] }[]>('services')).some((row) => row.instances.some((one) => one.name === name && one.state === 'down')), 60_000);
      await nodes.get(host)?.stop(pick(['SIGTERM', 'SIGKILL']));
      nodes.set(host, await lab.node(host));
      await keeper.call('instance.set', { service, instance: name, state: 'up' });
      taken++;
    }
    keeper.close();
  })();
  let broken: unknown;
  for (const work of [editing, coming]) work.catch((error: unknown) => (broken ??= error));

  const rows: string[][] = [];
  const memory: number[] = [];
  const open: number[] = [];
  const start = Date.now();
  let nextRow = 0;
  while (Date.now() - start < minutes * 60_000 && broken === undefined) {
    await sleep(SAMPLE_MS);
    memory.push(residentMiB(pid));
    open.push(descriptors(pid));
    const elapsed = (Date.now() - start) / 60_000;
    if (elapsed < nextRow) continue;
    nextRow += Math.max(1, Math.round(minutes / 20));
    const now = await stats();
    rows.push([elapsed.toFixed(1), (memory.at(-1) ?? 0).toFixed(1), String(open.at(-1)), String(now.streams.active), figure(now.streams.opened), String(edits), String(taken), figure(came(now)), figure(went(now) - droppedOf(now) - now.held), String(droppedOf(now)), String(now.held)]);
    console.error(rows.at(-1)?.join('  '));
  }
  over = true;
  await Promise.all([editing, coming]);
  const report = await requests.stop();
  const sent = JSON.parse((await sender.stop()).stdout.trim().split('\n').at(-1) ?? '') as { sent: number };
  const received = JSON.parse((await receiver.stop()).stdout.trim().split('\n').at(-1) ?? '') as { received: number; twice: number; disorder: number };
  await fragments.stop('SIGINT');
  const end = await standstill();
  await until('streams to be over', async () => (await stats()).streams.active === 0, 120_000);
  const last = await stats();

  console.log(table(['minute', 'RSS MiB', 'descriptors', 'streams', 'opened', 'edits', 'instances', 'packets in', 'out', 'dropped', 'held'], rows));
  console.log(`http: ${JSON.stringify(report)}`);
  console.log(`datagrams: ${sent.sent} sent, ${received.received} received, ${received.twice} twice, ${received.disorder} out of order; dropped in all: ${reasons(last)}`);
  // JavaScript's heap finds its size in the first minutes.
  checkMemory(claims, 'weir', memory, minutes >= 10 ? 0.05 : 0.5);
  const { first: early, last: late } = ends(open);
  claims.check('no descriptor is left behind', late <= early + 1 && descriptors(pid) <= early, `${early} at first, ${late} at last, ${descriptors(pid)} at the end`);
  claims.check('every packet in is out, dropped with a reason, or held', came(last) === went(last), `${came(last)} in, ${went(last) - droppedOf(last) - last.held} out, ${droppedOf(last)} dropped, ${last.held} held`);
  // Counted by the kernel at the other ends of the same wires.
  for (const [port, theirs, before, after] of [
    ['in0', 'wl eth0', begun.workload, end.workload],
    ['out0', 'rtr lan0', begun.router, end.router],
  ] as const) {
    const [first, now] = [portOf(begun.stats, port), portOf(end.stats, port)];
    const read = now.rxFrames + now.rxDropped - first.rxFrames - first.rxDropped;
    claims.check(`${port} has read or lost what ${theirs} sent`, read === after.tx - before.tx, `${after.tx - before.tx} frames sent, ${read} read or lost (${now.rxDropped} lost)`);
    claims.check(`${theirs} has got what ${port} sent`, now.txFrames - first.txFrames === after.rx - before.rx, `${now.txFrames - first.txFrames} frames sent, ${after.rx - before.rx} got`);
  }
  claims.check('no edit was refused', refused.length === 0 && edits > 0, `${edits} edits, ${taken} instances ended and started; ${refused.slice(0, 3).join('; ') || 'none refused'}`);
  claims.check('no stream was left', last.streams.active === 0, `${last.streams.opened} opened`);
  claims.check('nothing came twice', received.twice === 0, `${received.received} datagrams`);
  // An instance that is killed takes with it what it holds at that moment.
  claims.check('connections were answered', failures(report) <= taken * 2, `${report.completed} of ${report.opened}, ${failures(report)} failed`);
  client.close();
  const stopped = await weir.stop();
  claims.check('it ended in order', stopped.code === 0, `exit ${stopped.code}`);
} finally {
  await lab.down();
}
claims.end();
