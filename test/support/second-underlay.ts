/**
 * A second underlay of the lab, on a switch of its own: und1 of weir's host (10.30.0.1, fd30::1), eth1 of add1 (…31) and of add2 (…32),
 * which are on the first one, too.
 */
import { must, type Lab } from './lab.js';

export const MEMBERS = [
  { host: 'fwd', device: 'und1', port: 'q0', last: '1' },
  { host: 'add1', device: 'eth1', port: 'q1', last: '31' },
  { host: 'add2', device: 'eth1', port: 'q2', last: '32' },
] as const;

const space = (lab: Lab, host: string): string => `${lab.prefix}-${host}`;

/** The cable of one of them, and its addresses. */
export async function layCable(lab: Lab, { host, device, port, last }: (typeof MEMBERS)[number]): Promise<void> {
  await must(['ip', 'link', 'add', device, 'netns', space(lab, host), 'type', 'veth', 'peer', 'name', port, 'netns', space(lab, 'sw')]);
  await lab.must('sw', 'ip', 'link', 'set', port, 'master', 'br1', 'up');
  await lab.must(host, 'ip', 'link', 'set', device, 'up');
  await addresses(lab, host, device, last);
}

/** Puts those back that the kernel took with the interface. */
export async function addresses(lab: Lab, host: string, device: string, last: string): Promise<void> {
  await lab.exec(host, 'ip', 'address', 'add', `10.30.0.${last}/24`, 'dev', device);
  await lab.exec(host, 'ip', 'address', 'add', `fd30::${last}/64`, 'dev', device, 'nodad');
}

export async function layUnderlay(lab: Lab): Promise<void> {
  await lab.must('sw', 'ip', 'link', 'add', 'br1', 'type', 'bridge', 'mcast_snooping', '0');
  await lab.must('sw', 'ip', 'link', 'set', 'br1', 'up');
  for (const member of MEMBERS) await layCable(lab, member);
}

/** Of everything on it; a bridge has the least of its ports. */
export async function setMtu(lab: Lab, mtu: number): Promise<void> {
  for (const { host, device, port } of MEMBERS) {
    await lab.must('sw', 'ip', 'link', 'set', port, 'mtu', String(mtu));
    await lab.must(host, 'ip', 'link', 'set', device, 'mtu', String(mtu));
  }
  await lab.must('sw', 'ip', 'link', 'set', 'br1', 'mtu', String(mtu));
}
