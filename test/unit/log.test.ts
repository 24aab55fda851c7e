import t from 'tap';
import { createLogger } from '../../src/observe/log.js';
import { weighInstance } from '../../src/config/edits.js';
import { RateLimit } from '../../src/observe/rate-limit.js';
import { Who } from '../../src/observe/who.js';
import { steerAll } from '../support/configuration.js';
import { simulate } from '../support/sim.js';

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly left_out?: number;
}

function logged(): { log: ReturnType<typeof createLogger>; lines: Line[]; advance: (ms: number) => void } {
  let now = 0;
  let due: { work: () => void; atMs: number }[] = [];
  const lines: Line[] = [];
  const limit = new RateLimit(() => now, (work, ms) => void due.push({ work, atMs: now + ms }));
  const log = createLogger('info', { write: (line) => void lines.push(JSON.parse(line) as Line) }, limit);
  const advance = (ms: number): void => {
    now += ms;
    const over = due.filter(({ atMs }) => atMs <= now);
    due = due.filter(({ atMs }) => atMs > now);
    over.forEach(({ work }) => work());
  };
  return { log, lines, advance };
}

t.test('a message that repeats is written twenty times, then counted, and the count is told', async (t) => {
  const { log, lines, advance } = logged();
  for (let i = 0; i < 1000; i++) log.warn(`interface in0: ${i} frames were lost`);
  t.equal(lines.length, 20);
  log.warn('another message');
  log.error('interface in0: 7 frames were lost');
  t.equal(lines.length, 22, 'other messages and other levels are not held back by it');
  advance(10_000);
  t.strictSame(lines.slice(22).map(({ level, msg, left_out }) => ({ level, msg, left_out })), [{ level: 40, msg: '980 more like this were left out: interface in0: 20 frames were lost', left_out: 980 }]);
  log.warn('interface in0: 1 frames were lost');
  t.equal(lines.length, 24, 'then it may be written again');
  advance(60_000);
  t.equal(lines.length, 24);
});

t.test('who changed what is always written, who was refused is not', async (t) => {
  const { log, lines } = logged();
  const { dataplane } = await simulate(steerAll(), 1000, log);
  const alice = new Who('alice', 1000, 1000, 4711);
  for (let weight = 1; weight <= 100; weight++) await dataplane.edit(weighInstance('ids', 'ids-1', weight), {}, alice);
  await dataplane.stop();
  const changes = lines.filter(({ msg }) => msg.endsWith('(alice, uid 1000, pid 4711)'));
  t.equal(changes.length, 100);
  t.strictSame(Object.keys(changes[0] ?? {}).sort(), ['generation', 'level', 'msg', 'time', 'who']);
  for (let pid = 1; pid <= 100; pid++) log.warn({ who: new Who('uid 1001', 1001, 1001, pid) }, `a control connection was refused: uid 1001, pid ${pid} may not use this socket`);
  t.equal(lines.filter(({ msg }) => /refused/.test(msg)).length, 20);
});

t.test('kinds of messages are bounded, and fields stay', async (t) => {
  const { log, lines } = logged();
  const word = (i: number): string => [...String(i)].map((digit) => 'abcdefghij'[Number(digit)]).join('');
  for (let i = 0; i < 2000; i++) log.info({ i }, `kind ${word(i)}`);
  t.equal(lines.length, 2000);
  t.match(lines[7], { i: 7, level: 30 });
  log.debug('not at this level');
  t.equal(lines.length, 2000);
});
