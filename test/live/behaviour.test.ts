/** What an operator meets: starts that can't work, a stop that leaves nothing, control under load, marks, VLANs, a first try on lo. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ControlClient } from '../../src/control/client.js';
import { kernelLoss } from '../support/kernel-loss.js';
import { Lab, ROOT, run } from '../support/lab.js';

const lab = await Lab.up();
t.teardown(() => lab.down());
const WEIR = [process.execPath, join(ROOT, 'dist/cli/main.js')];
const start = (...args: string[]): ReturnType<Lab['exec']> => lab.exec('fwd', ...WEIR, ...args);

await t.test('a start that can not work says in a sentence why and what to do', async (t) => {
  const file = join(lab.directory, 'wrong.yaml');
  writeFileSync(file, `captures: [{name: a, in: in0, out: nowhere}]\nstate_dir: ${lab.directory}/state-wrong\n`);
  const missing = await start('run', '--config', file, '--socket', lab.socket);
  t.match(missing, { code: 1, stderr: /^capture a \(out\): there is no interface "nowhere"; `ip link` lists those there are\.$/m });
  writeFileSync(file, 'captures: [{name: a, in: in0}]\ncolour: red\n');
  const invalid = await start('run', '--config', file);
  t.match(invalid, { code: 2, stderr: /wrong.yaml:1:\d+: captures\[0\]: the key "out" is missing\n.*wrong.yaml:2:1: colour: unknown key/ });
  const bare = await start('run');
  t.match(bare, { code: 2, stderr: /required option '-c, --config <file>'/ });
  const unprivileged = await lab.exec('fwd', 'setpriv', '--bounding-set=-net_raw', '--inh-caps=-net_raw', ...WEIR, 'run', '--config', lab.config());
  t.match(unprivileged, { code: 1, stderr: /CAP_NET_RAW is missing/ });
  const nobody = await run([...WEIR, 'status', '--socket', join(lab.directory, 'none.sock')]);
  t.match(nobody, { code: 1, stderr: /is weir running\?/ });
});

await t.test('one weir a socket and an underlay; SIGTERM leaves nothing', async (t) => {
  const weir = await lab.weir();
  const second = await start('run', '--config', lab.config());
  t.match(second, { code: 1, stderr: /UDP port 4790 on 10\.20\.0\.1 is in use: another weir/ });
  const { code, stderr } = await weir.stop();
  t.equal(code, 0, stderr);
  t.notOk(existsSync(lab.socket));
  const again = await lab.weir();
  t.equal((await again.stop('SIGINT')).code, 0);
});

await t.test('what no policy matches crosses unchanged, with all offloads on', async (t) => {
  const weir = await lab.weir({ policies: 'policies: []' });
  t.teardown(() => weir.stop());
  const server = await lab.start('net', ['iperf3', '-s', '-1', '--forceflush'], /Server listening/);
  const client = await lab.exec('wl', 'iperf3', '-c', '10.2.0.2', '-n', '200M', '-J');
  t.equal(client.code, 0, client.stdout.slice(-300));
  await server.ended;
  const { stamped, crossed } = await lab.ask<Record<string, { bytes: number }>>('stats');
  t.equal(stamped?.bytes, 0);
  t.ok((crossed?.bytes ?? 0) > 200_000_000);
});

await t.test('1,000 control requests of each kind during iperf3 lose nothing', async (t) => {
  await lab.nodes('pass', ['fw1', 'fw2', 'ids1', 'ids2']).then((nodes) => t.teardown(() => Promise.all(nodes.map((node) => node.stop()))));
  const weir = await lab.weir();
  t.teardown(() => weir.stop());
  const server = await lab.start('net', ['iperf3', '-s', '-1', '--forceflush'], /Server listening/);
  const kernelLost = await kernelLoss(lab, 1200);
  // UDP at a steady rate: what is lost stays lost, and iperf3 counts it.
  const traffic = lab.exec('wl', 'iperf3', '-c', '10.2.0.2', '-u', '-b', '20M', '-l', '1200', '-t', '8', '-J');
  const control = await ControlClient.connect(lab.socket);
  const trace = { protocol: 'tcp', source: '10.1.0.2', source_port: 1, destination: '10.2.0.2', destination_port: 80 };
  for (let i = 0; i < 1000; i++) await Promise.all([control.call('flows'), control.call('stats'), control.call('trace', trace)]);
  control.close();
  const { code, stdout } = await traffic;
  t.equal(code, 0);
  const { end } = JSON.parse(stdout) as { end: { sum: { lost_packets: number; packets: number } } };
  const excused = await kernelLost();
  const { dropped } = await lab.ask<{ dropped: Record<string, number> }>('stats');
  t.ok(end.sum.lost_packets <= excused, `${end.sum.lost_packets} of ${end.sum.packets} packets lost, at most ${excused} by the kernel`);
  t.strictSame(Object.entries(dropped).filter(([, count]) => count > 0), [], 'weir dropped none');
  await server.ended;
});

await t.test('mark: the receiver reads who handled its packet, in chain order', async (t) => {
  const nodes = await lab.nodes('mark', ['fw1', 'fw2', 'ids1', 'ids2']);
  t.teardown(() => Promise.all(nodes.map((node) => node.stop())));
  for (const encapsulation of ['nsh', 'geneve'] as const) {
    const weir = await lab.weir({ encapsulation });
    for (const [family, address] of [['AF_INET', '10.2.0.2'], ['AF_INET6', 'fd02::2']]) {
      const echo = `import socket; s=socket.socket(socket.${family},socket.SOCK_DGRAM); s.bind(('${address}',7777)); print('ready',flush=True)\nwhile True: d,a=s.recvfrom(2000); print(d.decode(),flush=True); s.sendto(b'weir-test',a)`;
      const receiver = await lab.start('net', ['python3', '-c', echo], /ready/);
      const ask = `import socket; s=socket.socket(socket.${family},socket.SOCK_DGRAM); s.settimeout(2)\nfor i in range(10):\n try: s.sendto(b'weir-test',('${address}',7777)); print(s.recvfrom(2000)[0].decode()); break\n except TimeoutError: continue`;
      const back = await lab.must('wl', 'python3', '-c', ask);
      t.match((await receiver.stop('SIGKILL')).stdout, /^weir-test\|fw-[12]\|ids-[12]$/m, `${encapsulation} ${family}`);
      t.match(back, /^weir-test\|ids-[12]\|fw-[12]\n$/, 'the answer backwards');
    }
    await weir.stop();
  }
});

await t.test('VLAN and QinQ: real programs through the chain, tags back at the end', async (t) => {
  const nodes = await lab.nodes('pass', ['fw1', 'fw2', 'ids1', 'ids2']);
  t.teardown(() => Promise.all(nodes.map((node) => node.stop())));
  await lab.vlan(7);
  await lab.vlan(100, 200);
  for (const encapsulation of ['nsh', 'geneve'] as const) {
    const weir = await lab.weir({ encapsulation });
    const kernelLost = await kernelLoss(lab, 65_535); // one for each frame
    for (const router of ['10.7.0.1', '10.100.0.1']) {
      const ping = await lab.ping('wl', router);
      // Where one is not answered, the log is to say who lost it.
      const { dropped } = await lab.ask<{ dropped: Record<string, number> }>('stats');
      t.match(ping, / 0% packet loss/, `${encapsulation} ${router}; weir dropped ${JSON.stringify(Object.entries(dropped).filter(([, count]) => count > 0))}, the kernel ${await kernelLost()} frames`);
    }
    const { flows } = await lab.ask<{ flows: { vlan: number[]; instances: string[] }[] }>('flows', { protocol: 'icmp' });
    t.strictSame(flows.map((flow) => flow.vlan.join('.')).sort(), ['100.200', '7.0']);
    t.ok(flows.every((flow) => flow.instances.length === 2));
    await weir.stop();
  }
});

await t.test('an underlay on lo: chain and instances on one host', async (t) => {
  const node = (service: string, name: string, address: string): ReturnType<Lab['start']> =>
    lab.start('fwd', [...WEIR, 'node', '--service', service, '--name', name, '--listen', address], /"msg":"ready"/);
  const nodes = await Promise.all([node('firewall', 'fw', '127.0.0.11'), node('ids', 'ids', '127.0.0.12')]);
  t.teardown(() => Promise.all(nodes.map((running) => running.stop())));
  const file = join(lab.directory, 'lo.yaml');
  writeFileSync(
    file,
    `underlay: {interface: lo}\ncaptures: [{name: web, in: in0, out: out0}]\nservices:\n  firewall: {instances: [{name: fw, address: 127.0.0.11}]}\n  ids: {instances: [{name: ids, address: 127.0.0.12}]}\nchains: {inspect: [firewall, ids]}\npolicies: [{name: all, match: {protocol: icmp}, chain: inspect}]\nstate_dir: ${lab.directory}/state-lo\n`,
  );
  const weir = await lab.start('fwd', [...WEIR, 'run', '--config', file, '--socket', lab.socket], /"msg":"ready"/);
  t.teardown(() => weir.stop());
  t.match(await lab.ping('wl', '10.2.0.2'), / 0% packet loss/);
  const services = await lab.ask<{ instances: { received: { packets: number } }[] }[]>('services');
  t.strictSame(services.map((service) => service.instances[0]?.received.packets), [6, 6]);
});
