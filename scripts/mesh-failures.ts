/**
 * Kills instances of a mesh chain under TCP streams, again and again, and writes what happened into docs/mesh.md. As root:
 *
 *   npm run mesh:failures [-- --sync strict|async --kills 50 --streams 500 --per-second 0.5 --interval 10ms --out FILE]
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Lab, until } from '../test/support/lab.js';
import { addressOf, MeshLab, Talkers } from '../test/support/mesh-lab.js';
import { stamped } from '../test/support/stamped-capture.js';

const { values } = parseArgs({ options: { kills: { type: 'string', default: '50' }, streams: { type: 'string', default: '500' }, 'per-second': { type: 'string', default: '0.5' }, interval: { type: 'string', default: '10ms' }, sync: { type: 'string', default: 'strict' }, out: { type: 'string' } } });
const [kills, streams, perSecond] = [Number(values.kills), Number(values.streams), Number(values['per-second'])];
const sync = values.sync as 'async' | 'strict';
/** A process that is killed lets go for a moment what it had begun. */
const DYING_MS = 20;
const SHORTLY_MS = 1000;
/** Each third kill is of the same instance, and one that goes down oftener than twice a minute is held down (docs/health.md). */
const APART_MS = 13_000;
const wallMs = (): number => performance.timeOrigin + performance.now();

const lab = await Lab.up();
const mesh = new MeshLab(lab, {
  functions: { a: 'firewall', b: 'meter', c: 'pass' },
  sync: { a: sync, b: sync, c: 'off' },
  settings: { a: { default: 'drop', inside: ['10.1.0.0/24'], rules: [{ name: 'out', action: 'accept', direction: 'out', protocol: 'tcp' }] } },
  health: `{probe: true, interval: ${values.interval}}`,
  lease: '2s',
});
const rows: { ms: number; moved: number }[] = [];
/** For whoever has to find out why streams stand still: who serves whom, and what each node has counted. */
async function report(): Promise<void> {
  console.log(JSON.stringify(await mesh.view()));
  console.log(JSON.stringify(await lab.ask('services')));
  const before = new Map([...mesh.nodes].map(([name, node]) => [name, node.output().length]));
  for (const node of mesh.nodes.values()) node.child.kill('SIGUSR2');
  const told = (): boolean => [...mesh.nodes].every(([name, node]) => node.output().includes('"msg":"status"', before.get(name)));
  await until('every node to tell', told, 3000).catch(() => undefined); // one of them may be dead
  for (const [name, node] of mesh.nodes) console.log(name, node.output().slice(before.get(name)).trim());
  console.log(mesh.weir.output().split('\n').slice(-80).join('\n'));
}
try {
  await mesh.start();
  const capture = await lab.longCapture('sw', 'p3', 'udp port 4790'); // whole: one frame may be many datagrams
  const talkers = await Talkers.start(lab, streams, perSecond);
  let state = await talkers.advance(await talkers.state(), 2);
  const killed: { name: string; atMs: number; ports: Set<number> }[] = [];
  for (let kill = 0; kill < kills; kill++) {
    const i = (kill % 3) + 1;
    const next = setTimeout(APART_MS);
    const pins = await mesh.pins();
    const ports = new Set([...pins].filter(([, keys]) => keys[1] === `b/b${i}`).map(([port]) => port));
    killed.push({ name: `b${i}`, atMs: wallMs(), ports });
    mesh.nodes.get(`b${i}`)?.child.kill('SIGKILL');
    state = await talkers.advance(await talkers.state(), 1);
    await mesh.startNode('b', i);
    await mesh.complete(300_000);
    await next;
    console.log(`kill ${kill + 1} of ${kills}: b${i}, ${ports.size} streams, ${state.reset.length} reset so far`);
  }
  state = await talkers.advance(await talkers.state(), 2);
  talkers.pause(); // a stream that has ended is forgotten, and its count with it
  const counted = await mesh.settled('b');
  const countedMs = wallMs();
  await talkers.stop();
  await mesh.stop(); // probes and syncs would go on, and tcpdump never have written all that it took
  const { file, dropped } = await capture.stop();
  const names = new Map([1, 2, 3].map((i) => [addressOf('b', i), `b${i}`]));
  const [came, left] = [new Map<number, number>(), new Map<number, number>()];
  const first = killed.map(() => Infinity);
  /** Of each stream's packets that an instance let go shortly before it was killed: how many ms before. */
  const before = new Map<number, number[]>();
  for (const { timeUs, from, to, ip } of stamped(file)) {
    if (ip[9] !== 6 || timeUs / 1000 > countedMs) continue;
    const header = ((ip[0] ?? 0) & 15) * 4;
    const [source, destination] = [ip.readUInt16BE(header), ip.readUInt16BE(header + 2)];
    const port = destination === 9000 ? source : destination;
    if (names.has(to)) came.set(port, (came.get(port) ?? 0) + 1);
    const by = names.get(from);
    if (by === undefined) continue;
    left.set(port, (left.get(port) ?? 0) + 1);
    const last = killed.find(({ name, atMs }) => name === by && atMs + DYING_MS > timeUs / 1000);
    const ago = last === undefined ? Infinity : Math.max(0, last.atMs - timeUs / 1000);
    if (ago < SHORTLY_MS) before.set(port, [...(before.get(port) ?? []), ago]);
    killed.forEach(({ name, atMs, ports }, kill) => {
      const ms = timeUs / 1000 - atMs;
      if (ms > 0 && by !== name && ports.has(port) && ms < (first[kill] ?? Infinity)) first[kill] = ms;
    });
  }
  killed.forEach(({ ports }, kill) => rows.push({ ms: first[kill] ?? Infinity, moved: ports.size }));
  let [exact, ahead, short, lagMs] = [0, 0, 0, 0];
  for (const [port, out] of left) {
    const now = counted.get(port) ?? 0;
    if (now < out) {
      short++;
      lagMs = Math.max(lagMs, before.get(port)?.sort((a, b) => a - b)[out - now - 1] ?? Infinity);
      console.log(`stream ${port}: ${now} packets counted, ${came.get(port)} came, ${out} left; went over at kills ${killed.flatMap(({ ports }, kill) => (ports.has(port) ? [kill + 1] : [])).join(', ')}`);
    } else if (now === out) exact++;
    else if (now <= (came.get(port) ?? 0)) ahead++;
  }
  const times = rows.map(({ ms }) => ms).filter(Number.isFinite).sort((a, b) => a - b);
  const at = (part: number): string => (times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? NaN).toFixed(0);
  const text = [
    `| ${kills} times \`kill -9\` of an instance in the middle of three, \`sync: ${sync}\`, probes each ${values.interval} | |`,
    '| --- | --- |',
    `| TCP streams, each ${perSecond} lines a second | ${streams} |`,
    `| streams reset, or with a wrong byte | ${state.reset.length}, ${state.wrong} |`,
    `| streams that went over to their second, in all | ${rows.reduce((sum, { moved }) => sum + moved, 0)} |`,
    `| ms from the kill to the first packet that the second let go: median, 90 %, worst | ${at(0.5)}, ${at(0.9)}, ${at(1)} |`,
    `| streams whose count at the end is to the packet what left; more, by packets that died with their instance after they were counted; less | ${exact}, ${ahead}, ${short} |`,
    ...(short === 0 ? [] : [`| ms before a kill within which all that was not counted had left | ${lagMs.toFixed(1)} |`]),
    '',
    `Node ${process.versions.node}, Linux ${release()}, ${cpus().length} cores that all of it shares${dropped > 0 ? `; the capture lost ${dropped} packets, so what left is at least that` : ''}.`,
  ].join('\n');
  console.log(text);
  const out = values.out ?? new URL('../docs/mesh.md', import.meta.url).pathname;
  const document = readFileSync(out, 'utf8');
  const place = new RegExp(`<!-- kills ${sync} -->[^]*?<!-- /kills ${sync} -->`);
  const section = `<!-- kills ${sync} -->\n### ${kills} failures, \`sync: ${sync}\`\n\n\`npm run mesh:failures -- --sync ${sync}\` wrote this.\n\n${text}\n<!-- /kills ${sync} -->`;
  writeFileSync(out, place.test(document) ? document.replace(place, () => section) : `${document.trimEnd()}\n\n${section}\n`);
} catch (error) {
  await report().catch((failed: unknown) => console.log(String(failed)));
  throw error;
} finally {
  await lab.down();
}
