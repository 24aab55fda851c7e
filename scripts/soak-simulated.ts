/** `scripts/soak --simulated N`: N hours of virtual time with churn in one process; a row an hour, then what has to hold. */
import { came, droppedOf, reasons, went } from '../test/support/accounts.js';
import { ACK, FIN, RST, SYN, answer, tcp, udp } from '../test/support/packets.js';
import { random } from '../test/support/editors.js';
import { steerAll } from '../test/support/configuration.js';
import { simulate } from '../test/support/sim.js';
import { table } from './bench/table.js';
import { Claims, checkMemory } from './soak-report.js';

const hours = Number(process.argv[2]);
if (!(hours > 0 && hours <= 10_000)) {
  console.error('soak: --simulated wants a number of hours above 0');
  process.exit(2);
}
const IN = 1;
const OUT = 2;
const MS = 1_000_000n;
const SECONDS_AN_HOUR = 3600;
const dice = random(Number(process.env['WEIR_SEED'] ?? 1));
const upTo = (n: number): number => Math.floor(dice() * n);
const port = (): number => 1024 + upTo(60_000);

const claims = new Claims();
const simulation = await simulate(steerAll('nsh', 'flows: {max: 2000}'), 2000);
const { dataplane, network } = simulation;

/** Each event is scheduled within the second that begins. */
function stream(): void {
  const at = (ms: number): bigint => BigInt(ms) * MS;
  if (dice() < 0.5) {
    const options = { sourcePort: port(), destinationPort: 53 };
    network.inject(IN, udp(options), at(upTo(500)));
    if (dice() < 0.8) network.inject(OUT, answer(udp, options), at(500 + upTo(400)));
    return;
  }
  const options = { sourcePort: port() };
  network.inject(IN, tcp({ ...options, flags: SYN, mss: 1460 }), at(1));
  if (dice() < 0.1) return;
  network.inject(OUT, answer(tcp, { ...options, flags: SYN | ACK, mss: 1460 }), at(50));
  network.inject(IN, tcp({ ...options, flags: ACK }), at(100));
  network.inject(IN, tcp({ ...options, flags: ACK, payload: Buffer.alloc(upTo(2000)) }), at(200));
  if (dice() < 0.2) return void network.inject(IN, tcp({ ...options, flags: RST }), at(300));
  if (dice() < 0.2) return; // it stays, idle
  network.inject(IN, tcp({ ...options, flags: FIN | ACK }), at(300));
  network.inject(OUT, answer(tcp, { ...options, flags: FIN | ACK }), at(400));
  network.inject(IN, tcp({ ...options, flags: ACK }), at(500));
}

/** A datagram in pieces, now and then without its first one. */
function fragments(): void {
  const whole = udp({ sourcePort: port(), payload: Buffer.alloc(1600) });
  const id = upTo(65_536);
  const pieces = [0, 800].map((from) => {
    const piece = Buffer.concat([whole.subarray(0, 34), whole.subarray(34 + from, 34 + from + 808)]);
    piece.writeUInt16BE(piece.length - 14, 16);
    piece.writeUInt16BE(id, 18);
    piece.writeUInt16BE((from === 0 ? 0x2000 : 0) | (from / 8), 20);
    return piece;
  });
  if (dice() < 0.5) pieces.reverse();
  for (const [i, piece] of pieces.entries()) if (dice() < 0.9) network.inject(IN, piece, BigInt(100 + i * 100) * MS);
}

async function edit(): Promise<void> {
  const orders = [['firewall', 'ids'], ['ids', 'firewall'], ['firewall'], ['firewall', 'added', 'ids'], ['added']];
  await dataplane.setChain('inspect', orders[upTo(orders.length)] ?? ['firewall'], dice() < 0.5 ? 'keep' : 'move', 'soak');
}
async function instance(): Promise<void> {
  const [service, name] = ([['firewall', 'fw-1'], ['firewall', 'fw-2'], ['ids', 'ids-1'], ['ids', 'ids-2']] as const)[upTo(4)] ?? ['ids', 'ids-1'];
  await dataplane.setInstance(service, name, (['up', 'up', 'draining', 'down'] as const)[upTo(4)] ?? 'up', null, 'soak');
}

const rows: string[][] = [];
const memory: number[] = [];
let changes = 0;
let unbalanced = 0;
const begun = Date.now();
for (let second = 0; second < hours * SECONDS_AN_HOUR; second++) {
  for (let n = upTo(4); n; n--) stream();
  if (second % 7 === 0) fragments();
  if (second % 60 === 0) network.inject(IN, udp().subarray(0, 20 + upTo(20)));
  network.advance(1000n * MS);
  network.clear();
  if (second % 60 === 30) (await edit(), changes++);
  if (second % 300 === 150) (await instance(), changes++);
  if (second % 10 === 0) await dataplane.upkeep(begun + second * 1000);
  if ((second + 1) % (SECONDS_AN_HOUR / 4) !== 0) continue;
  const now = network.counters();
  if (came(now) !== went(now)) unbalanced++;
  globalThis.gc!();
  memory.push(process.memoryUsage().rss / 2 ** 20);
  if ((second + 1) % SECONDS_AN_HOUR !== 0) continue;
  rows.push([String((second + 1) / SECONDS_AN_HOUR), (memory.at(-1) ?? 0).toFixed(1), String(now.streams.active), String(now.streams.opened), String(changes), String(came(now)), String(went(now) - droppedOf(now) - now.held), String(droppedOf(now)), String(now.held)]);
  console.error(rows.at(-1)?.join('  '));
}
// A step of the expiry ends 32 streams at most; the upkeep finds a path empty, and gives it back 2 s later.
for (let i = 0; i < 1000 && network.counters().streams.active > 0; i++) network.advance(2000n * MS);
for (const seconds of [0, 10]) await dataplane.upkeep(begun + (hours * SECONDS_AN_HOUR + seconds) * 1000);
const last = network.counters();
console.log(table(['hour', 'RSS MiB', 'streams', 'opened', 'changes', 'packets in', 'out', 'dropped', 'held'], rows));
console.log(`${((Date.now() - begun) / 1000).toFixed(0)} s of real time; dropped: ${reasons(last)}`);
checkMemory(claims, `${hours} simulated hours`, memory, hours >= 10 ? 0.05 : 0.5);
claims.check('every packet in is out, dropped with a reason, or held, whenever it was looked at', unbalanced === 0 && came(last) === went(last), `${came(last)} in, ${went(last)} accounted for`);
claims.check('no stream is left when all is silent', last.streams.active === 0, `${last.streams.opened} opened, ${last.streams.expired} expired, ${last.streams.evicted} evicted`);
claims.check('paths that nobody is on are given back', dataplane.paths.all().length === 1, `${dataplane.paths.all().length} of ${changes} changes`);
await dataplane.stop();
claims.end();
