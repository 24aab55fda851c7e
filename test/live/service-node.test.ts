/** A service function that fails on some packets: the others of the same batch come through, and the log says what happened. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test as Tap } from 'tap';
import { Lab, ROOT, SERVICES, type Running } from '../support/lab.js';

const lab = await Lab.up();
t.teardown(() => lab.down());

/** Sends 20 rounds of the texts at once and counts the texts that arrive at a receiver in `net`. */
async function arrived(texts: readonly string[]): Promise<Record<string, number>> {
  const receive = `import socket,collections,json; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('10.2.0.2',7777)); print('ready',flush=True); c=collections.Counter(); s.settimeout(20)
while True:
  d=s.recv(2000).decode()
  if d=='end': break
  c[d]+=1
print(json.dumps(c),flush=True)`;
  const receiver = await lab.start('net', ['python3', '-c', receive], /ready/);
  const send = `import socket,time; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.connect(('10.2.0.2',7777))
for i in range(20):
  for text in ${JSON.stringify(texts)}: s.send(text.encode())
  time.sleep(0.005)
s.settimeout(0.2)
for i in range(30):
  try: s.send(b'end'); s.recv(1)
  except TimeoutError: continue  # one may be lost as any datagram may
  except ConnectionRefusedError: break  # the receiver has it, and is gone`;
  await lab.must('wl', 'python3', '-c', send);
  const { stdout } = await receiver.ended;
  return JSON.parse(stdout.slice(stdout.indexOf('{'))) as Record<string, number>;
}

/** The lines of a node's log at level error, and how many packets it counted as lost by its function when it stopped. */
async function told(t: Tap, node: Running): Promise<{ errors: string[]; dropped: Record<string, number> }> {
  const { code, stderr } = await node.stop();
  t.equal(code, 0);
  const lines = stderr.trim().split('\n').map((line) => JSON.parse(line) as { level: number; msg: string; dropped?: Record<string, number> });
  return { errors: lines.filter((line) => line.level === 50).map((line) => line.msg), dropped: lines.at(-1)?.dropped ?? {} };
}

const file = join(lab.directory, 'faulty.mjs');
writeFileSync(
  file,
  `export default { name: 'faulty', newStream: () => null, onPacket(packet) {
    const text = Buffer.from(packet.bytes).toString('latin1');
    if (text.includes('THROW')) throw new TypeError('broken');
    if (text.includes('NULL')) throw null;
    if (text.includes('NOTHING')) return undefined;
    if (text.includes('GETTER')) return { get replace() { throw new RangeError('no bytes'); } };
    if (text.includes('LONG')) return { replace: new Uint8Array(1 << 20) };
    if (text.includes('REJECT')) return Promise.reject(new Error('later'));
    return text.includes('DROP') ? 'drop' : 'forward';
  } };`,
);

await t.test('weir node: faults of a function cost their packets only, and are logged once', async (t) => {
  const node = await lab.node('fw1', file);
  const weir = await lab.weir({ chain: ['firewall'], policies: 'policies: [{name: all, match: {protocol: udp}, chain: inspect}]' });
  t.teardown(() => weir.stop());
  await lab.must('fwd', process.execPath, join(ROOT, 'dist/cli/main.js'), 'instance', 'down', 'firewall/fw-2', '--socket', lab.socket);
  t.strictSame(await arrived(['good1', 'THROW', 'good2', 'NULL', 'NOTHING', 'good3', 'GETTER', 'LONG', 'REJECT', 'DROP', 'good4']), { good1: 20, good2: 20, good3: 20, good4: 20 });
  const { errors, dropped } = await told(t, node);
  t.strictSame(dropped, { function_drop: 20, function_error: 120 });
  t.strictSame(errors, [
    'function faulty: onPacket() threw TypeError: broken',
    'function faulty: onPacket() threw null',
    `function faulty: onPacket() answered undefined; expected 'forward', 'drop' or {replace: bytes}`,
    'function faulty: its answer threw RangeError: no bytes',
    'function faulty: onPacket() answered a replacement of 1048576 bytes; expected 1 to 64500',
    'function faulty: onPacket() answered a promise; it has to answer at once',
  ]);
});

/** The addon's own edge, below what src/service/node.ts makes sure of: a slab's answers with anything in them. */
const bare = join(lab.directory, 'bare.mjs');
writeFileSync(
  bare,
  `import { native } from ${JSON.stringify(join(ROOT, 'dist/dataplane/native.js'))};
  import { holdStampPorts } from ${JSON.stringify(join(ROOT, 'dist/dataplane/udp-sink.js'))};
  const release = holdStampPorts(['${SERVICES.fw1.address}']);
  const detached = () => { const bytes = new Uint8Array(100); structuredClone(bytes.buffer, { transfer: [bytes.buffer] }); return bytes; };
  const huge = new Uint8Array(2 ** 28);
  // What is given as a replacement, behind a verdict that says there is one; or a verdict that there is not.
  const wrong = { NUMBER: () => 7, NULL: () => null, OBJECT: () => ({}), WORDS: () => new Uint16Array(8), EMPTY: () => new Uint8Array(0), DETACHED: detached,
    LONG: () => new Uint8Array(65000), HUGE: () => huge, SHARED: () => new Uint8Array(new SharedArrayBuffer(2 ** 20)), VERDICT: 77, UNTOUCHED: 0 };
  const node = new native.Node({ interface: 'eth0', address: '${SERVICES.fw1.address}', function: 'closed' });
  let link;
  const drain = () => {
    for (let taken = link.take(); taken >= 0; taken = link.take()) {
      const slab = link.slabs[taken >>> 16];
      const rows = new Uint32Array(slab, 0, 5 * native.slabLayout.packets);
      const verdicts = new Uint8Array(slab, native.slabLayout.verdictsAt, native.slabLayout.packets);
      const replacements = ['no index', new Uint8Array(5), 1e9, new Uint8Array(5), -1, new Uint8Array(5)];
      for (let i = 0; i < (taken & 0xffff); i++) {
        const text = Buffer.from(slab, rows[5 * i], rows[5 * i + 1]).toString('latin1');
        const what = Object.keys(wrong).find((key) => text.includes(key));
        verdicts[i] = text.includes('DROP') ? 2 : what === undefined ? 1 : 3;
        if (what === undefined) continue;
        if (typeof wrong[what] === 'number') verdicts[i] = wrong[what];
        else replacements.push(i, wrong[what]());
      }
      Object.defineProperty(replacements, replacements.length, { get() { throw new Error('getter'); } });
      replacements.push('behind it');
      // Rows are for reading: what is written there changes nothing.
      rows.fill(0xffffffff);
      link.give(taken >>> 16, replacements);
      link.give(taken >>> 16, replacements);
    }
  };
  link = new native.FunctionLink(node.handle, drain);
  console.error(JSON.stringify({ level: 30, msg: 'ready' }));
  process.on('SIGTERM', async () => {
    const dropped = Object.fromEntries(Object.entries(node.counters().dropped).filter(([, n]) => n > 0));
    link.close();
    await node.stop();
    release();
    console.error(JSON.stringify({ level: 30, dropped }));
  });
  await node.finished;`,
);

await t.test('the addon: whatever a slab is answered with, each packet is judged alone', async (t) => {
  const node = await lab.start('fw1', [process.execPath, bare], /"msg":"ready"/);
  const weir = await lab.weir({ chain: ['firewall'], policies: 'policies: [{name: all, match: {protocol: udp}, chain: inspect}]' });
  t.teardown(() => weir.stop());
  await lab.must('fwd', process.execPath, join(ROOT, 'dist/cli/main.js'), 'instance', 'down', 'firewall/fw-2', '--socket', lab.socket);
  const wrong = ['NUMBER', 'NULL', 'OBJECT', 'WORDS', 'EMPTY', 'DETACHED', 'LONG', 'HUGE', 'SHARED', 'VERDICT', 'UNTOUCHED'];
  t.strictSame(await arrived([...wrong.flatMap((text, i) => [text, `good${i}`]), 'DROP']), Object.fromEntries(wrong.map((_, i) => [`good${i}`, 20])));
  t.strictSame((await told(t, node)).dropped, { function_drop: 20, function_error: 220 });
});
