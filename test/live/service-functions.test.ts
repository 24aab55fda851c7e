/** firewall and ids on real traffic, and functions that block, leak or give their memory away: the node goes on. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test as Tap } from 'tap';
import { Lab, ROOT, SERVICES, until, type Running } from '../support/lab.js';

const lab = await Lab.up();
t.teardown(() => lab.down());

const MAIN = join(ROOT, 'dist/cli/main.js');
const { address } = SERVICES.fw1;

async function start(t: Tap, service: string, ...more: string[]): Promise<Running> {
  const node = await lab.start('fw1', [process.execPath, MAIN, 'node', '--service', 'firewall', '--name', 'fw-1', '--listen', address, '--function', service, ...more], /"msg":"ready"/);
  const weir = await lab.weir({ chain: ['firewall'] });
  t.teardown(async () => {
    await weir.stop();
    await node.stop();
  });
  await lab.must('fwd', process.execPath, MAIN, 'instance', 'down', 'firewall/fw-2', '--socket', lab.socket);
  return node;
}

const module = (name: string, text: string): string => {
  const file = join(lab.directory, name);
  writeFileSync(file, text);
  return file;
};

/** A UDP receiver in `net` that prints each text, and what sends one to it. */
async function receiver(t: Tap): Promise<{ got: () => string; send: (text: string) => Promise<string> }> {
  const receive = await lab.start('net', ['python3', '-uc', `import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('10.2.0.2',7777)); print('ready')
while True: print(s.recv(2000).decode())`], /ready/);
  t.teardown(() => receive.stop('SIGKILL'));
  return { got: receive.output, send: (text) => lab.must('wl', 'python3', '-c', `import socket; socket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(b'${text}',('10.2.0.2',7777))`) };
}

await t.test('a function that blocks is told of, and ended when it blocks for too long', async (t) => {
  const file = module('blocking.mjs', `export default { name: 'blocking', onPacket(packet) {
    const text = Buffer.from(packet.payload).toString('latin1');
    if (text === 'FOREVER') for (;;);
    if (text === 'BLOCK') for (const end = Date.now() + 1500; Date.now() < end; );
    return 'forward';
  } };`);
  const node = await start(t, file, '--stall-limit', '4s');
  const { got, send } = await receiver(t);
  await send('BLOCK');
  await until('the log to say so', () => /function .*blocking\.mjs: it has been stuck in packets for [0-9]+ ms/.test(node.output()));
  await send('behind');
  await until('it to go on', () => /works again, after [0-9]+ ms/.test(node.output()));
  await until('what waited to arrive', () => got().includes('BLOCK') && got().includes('behind'));
  await send('FOREVER');
  await until('another thread', () => /it was stuck for [0-9]+ ms, longer than --stall-limit allows; the state of its streams is lost/.test(node.output()) && /runs again/.test(node.output()), 30_000);
  await send('after');
  await until('packets to pass again', () => got().includes('after'));
  const { code } = await node.stop();
  t.equal(code, 0);
});

await t.test('a function that leaks is started anew; the memory of the packets can not be given away', async (t) => {
  const file = module('leaking.mjs', `const kept = [];
  export default { name: 'leaking', onPacket(packet) {
    const text = Buffer.from(packet.payload).toString('latin1');
    if (text === 'LEAK') setInterval(() => { for (let n = 0; n < 200_000; n++) kept.push({ n, more: [n] }); }, 1);
    if (text === 'AWAY') structuredClone(packet.bytes.buffer, { transfer: [packet.bytes.buffer] });
    return 'forward';
  } };`);
  const node = await start(t, file, '--max-memory', '64');
  const { got, send } = await receiver(t);
  await send('LEAK');
  await until('the leak to be ended', () => /it ran out of memory \(--max-memory 64 MiB\)/.test(node.output()) && /runs again/.test(node.output()), 60_000);
  await send('between');
  await until('packets to pass again', () => got().includes('between'));
  // Memory that native code has lent can't be transferred: Node 20 copies it, later ones throw.
  await send('AWAY');
  await until('it to be tried', () => got().includes('AWAY') || /onPacket\(\) threw/.test(node.output()));
  await send('after');
  await until('packets to pass again', () => got().includes('after'));
  const { code } = await node.stop();
  t.equal(code, 0);
});

await t.test('firewall: a blocked port is blocked, established streams pass, new settings count', async (t) => {
  const settings = join(lab.directory, 'firewall.yaml');
  const rules = (port: number): string => `rules: [{action: accept, protocol: tcp, destination_port: ${port}}]\n`;
  writeFileSync(settings, rules(8080));
  const node = await start(t, 'firewall', '--settings', settings);
  const serve = (port: number): Promise<Running> => lab.start('net', ['python3', '-uc', `import socket,threading; s=socket.create_server(('10.2.0.2',${port})); print('ready')
def echo(c):
  while d:=c.recv(1000): c.send(d)
while True: threading.Thread(target=echo,args=(s.accept()[0],),daemon=True).start()`], /ready/);
  const servers = [await serve(8080), await serve(8081)];
  t.teardown(() => Promise.all(servers.map((server) => server.stop('SIGKILL'))));
  const reach = async (port: number): Promise<boolean> => (await lab.exec('wl', 'python3', '-c', `import socket; s=socket.create_connection(('10.2.0.2',${port}),3); s.send(b'hello'); assert s.recv(10)==b'hello'`)).code === 0;
  t.equal(await reach(8080), true);
  t.equal(await reach(8081), false);
  t.equal((await lab.exec('net', 'ping', '-c', '1', '-W', '1', '10.1.0.2')).code, 1, 'nothing comes in');
  const held = await lab.start('wl', ['python3', '-uc', `import socket,sys; s=socket.create_connection(('10.2.0.2',8080),3); print('open')
while True:
  s.send(b'x'); assert s.recv(10)==b'x'; print('echoed')
  import time; time.sleep(0.05)`], /echoed/);
  t.teardown(() => held.stop('SIGKILL'));
  writeFileSync(settings, 'rules: [{action: allow}]\n');
  await until('the refusal', () => /settings not taken, the ones before stay in force: .*firewall\.yaml:1:18: rules\[0\]\.action: expected accept or drop, found/.test(node.output()));
  t.equal(await reach(8080), true);
  writeFileSync(settings, rules(8081));
  await until('the new settings', () => /settings taken/.test(node.output()));
  t.equal(await reach(8081), true);
  t.equal(await reach(8080), false);
  const before = held.output().length;
  await until('what is established to go on', () => held.output().length > before + 50);
});

/** A TCP client by hand, whose segments can leave in any order. */
const CLIENT = `import socket, struct, sys
source, destination, sport, dport = '10.1.0.2', '10.2.0.2', 45000, int(sys.argv[1])
def total(d):
    t = sum(struct.unpack('!%dH' % (len(d) // 2), d[:len(d) // 2 * 2])) + (d[-1] << 8 if len(d) % 2 else 0)
    while t > 0xffff: t = (t & 0xffff) + (t >> 16)
    return ~t & 0xffff
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
s.bind((source, 0)); s.settimeout(10)
def send(seq, ack, flags, data=b''):
    h = struct.pack('!HHIIBBHHH', sport, dport, seq, ack, 0x50, flags, 64000, 0, 0) + data
    p = socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack('!BBH', 0, 6, len(h))
    s.sendto(h[:16] + struct.pack('!H', total(p + h)) + h[18:], (destination, 0))
send(1000, 0, 2)
while True:
    p = s.recv(65535); h = p[(p[0] & 15) * 4:]
    if struct.unpack('!HH', h[:4]) == (dport, sport) and h[13] & 18 == 18: break
ack = (struct.unpack('!I', h[4:8])[0] + 1) & 0xffffffff
send(1001, ack, 16)
text = b'GET /etc/passwd HTTP/1.0'
send(1012, ack, 24, text[11:])
send(1001, ack, 24, text[:11])
print('sent')`;

for (const action of ['alert', 'drop'] as const) {
  await t.test(`ids: an attack over two segments that come in the wrong order, ${action}`, async (t) => {
    const [settings, alerts] = [join(lab.directory, `ids-${action}.yaml`), join(lab.directory, `alerts-${action}.jsonl`)];
    writeFileSync(settings, `alerts: ${alerts}\nrules: [{id: passwd, content: /etc/passwd, action: ${action}}]\n`);
    await start(t, 'ids', '--settings', settings);
    // The client's kernel knows nothing of its connection and would reset it.
    await lab.must('wl', 'nft', 'add table inet hush; add chain inet hush out { type filter hook output priority 0; }; add rule inet hush out tcp flags & rst == rst drop');
    t.teardown(() => lab.must('wl', 'nft', 'delete table inet hush'));
    const port = action === 'alert' ? 9001 : 9002;
    const server = await lab.start('net', ['python3', '-uc', `import socket; s=socket.create_server(('10.2.0.2',${port})); print('ready'); c,_=s.accept(); print('accepted')
while d:=c.recv(1000): print('got',d.decode())`], /ready/);
    t.teardown(() => server.stop('SIGKILL'));
    await lab.must('wl', 'python3', '-c', CLIENT, String(port));
    await until('the alert', () => existsSync(alerts) && readFileSync(alerts, 'utf8').endsWith('\n'));
    const lines = readFileSync(alerts, 'utf8').trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>);
    t.match(lines, [{ rule: 'passwd', action, offset: 4, direction: 'forward', stream: { protocol: 'tcp', source: '10.1.0.2', source_port: 45_000, destination: '10.2.0.2', destination_port: port } }]);
    t.equal(lines.length, 1);
    if (action === 'alert') await until('the request to arrive', () => server.output().includes('got GET /etc/passwd HTTP/1.0'));
    else {
      // What the kernel holds for the application: another stream of the same two hosts has passed since, and still nothing.
      await lab.must('wl', 'ping', '-c', '3', '-i', '1', '10.2.0.2');
      t.notMatch(server.output(), /got/, 'the application gets nothing of it');
      t.match(server.output(), /accepted/);
    }
  });
}

await t.test('an example of a function of one\'s own', async (t) => {
  const settings = join(lab.directory, 'count.yaml');
  writeFileSync(settings, 'refuse: [7778]\n');
  const example = join(ROOT, 'examples/count-by-port.mjs');
  t.ok(readFileSync(example, 'utf8').trim().split('\n').length < 40);
  const node = await start(t, example, '--settings', settings);
  const { got, send } = await receiver(t);
  await send('hello');
  await until('it to arrive', () => got().includes('hello'));
  await lab.must('wl', 'python3', '-c', `import socket; socket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(b'x',('10.2.0.2',7778))`);
  await until('the packet to be refused', () => {
    node.child.kill('SIGUSR2');
    return /"refused_packets":1/.test(node.output());
  });
});
