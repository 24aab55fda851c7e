/** The firewall function against nftables' stateful rules: the same packets in the same order, verdict for verdict. */
import { join } from 'node:path';
import t from 'tap';
import { firewall } from '../../src/service/functions/firewall.js';
import type { ServiceFunction } from '../../src/service/service-function.js';
import { ENDS, NFT, RULES, scenarios, walks } from '../support/firewall-packets.js';
import { ROOT, must, run } from '../support/lab.js';
import { FunctionUnderTest } from '../support/service-function.js';
import type { Built } from '../support/segments.js';

const spaces = new Set<string>();
const inside = (space: string, ...command: string[]): string[] => ['ip', 'netns', 'exec', space, ...command];
t.teardown(async () => {
  for (const space of spaces) await run(['ip', 'netns', 'delete', space]);
});

let made = 0;

/** wires:a1 ── a0 [router: nftables] b0 ── wires:b1; nobody answers on the wires. New for each run: no connection is known. */
async function nftables(packets: readonly Built[], loose: boolean): Promise<boolean[]> {
  const [router, wires] = ['r', 'w'].map((name) => `weir-nft-${process.pid}-${made}${name}`) as [string, string];
  made++;
  for (const space of [router, wires]) {
    spaces.add(space);
    await must(['ip', 'netns', 'add', space]);
  }
  await must(inside(wires, 'sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1'));
  await must(inside(router, 'sysctl', '-qw', 'net.ipv6.conf.all.accept_dad=0', 'net.ipv6.conf.default.accept_dad=0', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1'));
  const macs: string[] = [];
  for (const [side, net] of [['a', 1], ['b', 2]] as const) {
    await must(['ip', 'link', 'add', `${side}0`, 'netns', router, 'type', 'veth', 'peer', 'name', `${side}1`, 'netns', wires]);
    for (const [space, device] of [[router, `${side}0`], [wires, `${side}1`]] as const) await must(['ip', '-n', space, 'link', 'set', device, 'up']);
    await must(['ip', '-n', router, 'addr', 'add', `10.${net}.0.1/24`, 'dev', `${side}0`]);
    await must(['ip', '-n', router, 'addr', 'add', `fd0${net}::1/64`, 'dev', `${side}0`, 'nodad']);
    for (const host of ['2', '250', '66', '77']) {
      for (const address of [`10.${net}.0.${host}`, `fd0${net}::${host === '66' ? '42' : host}`]) {
        await must(['ip', '-n', router, 'neighbour', 'add', address, 'lladdr', '02:00:00:00:00:07', 'dev', `${side}0`, 'nud', 'permanent']);
      }
    }
    const [link] = JSON.parse(await must(['ip', '-n', router, '-j', 'link', 'show', 'dev', `${side}0`])) as { address: string }[];
    macs.push(link?.address ?? '');
  }
  await must(inside(router, 'nft', '-f', '-'), NFT);
  // What the setting pick_up is to the firewall.
  await must(inside(router, 'sysctl', '-qw', `net.netfilter.nf_conntrack_tcp_loose=${Number(loose)}`));
  const lines = packets.map(({ fromA, bytes }) => `${fromA ? 0 : 1} ${Buffer.from(bytes).toString('hex')}\n`).join('');
  const answer = await must(inside(wires, 'python3', join(ROOT, 'test/support/through-router.py'), 'a1', 'b1', ...macs), lines);
  return answer.trim().split('\n').map((line) => line === '1');
}

function ours(packets: readonly Built[], pickUp: boolean): boolean[] {
  const test = new FunctionUnderTest(firewall() as ServiceFunction, { ...RULES, pick_up: pickUp });
  return test.handle(packets).map((answer) => answer === 'forward');
}

/** Our own policy (docs/service-nodes.md): a reset outside of the window never passes; nftables lets it once a side has closed. */
const stricter = (packet: string): boolean => / RST(\+ACK)? seq/.test(packet);

for (const [i, ends] of ENDS.entries()) {
  const version = i === 0 ? 'IPv4' : 'IPv6';
  const seed = Number(process.env['WEIR_SEED'] ?? 20_261_121 + i);
  for (const pickUp of [false, true]) {
    for (const [what, packets] of [['scenarios', scenarios(ends)], ['random walks', walks(ends, seed + Number(pickUp), 60, 14)]] as const) {
      await t.test(`${version}, ${what}${pickUp ? ', connections picked up in the middle' : ''}: the verdicts of nftables`, async (t) => {
        const [theirs, own] = [await nftables(packets, pickUp), ours(packets, pickUp)];
        t.equal(theirs.length, packets.length);
        t.ok(theirs.includes(true) && theirs.includes(false), `${theirs.filter(Boolean).length} of ${theirs.length} packets pass`);
        const differences = packets.flatMap(({ what: packet }, n) => (theirs[n] === own[n] || (stricter(packet) && own[n] === false) ? [] : [`packet ${n} ${packet}: nftables ${theirs[n] === true ? 'accepts' : 'drops'}`]));
        t.strictSame(differences, [], `seed ${seed}`);
      });
    }
  }
}
