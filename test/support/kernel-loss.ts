/**
 * Packets that the kernel itself threw away, at places where weir has no part: a machine with other work to do overflows its receive
 * backlog (net.core.netdev_max_backlog, counted by a veth pair's sender as tx_dropped), and a program that is not scheduled in time the
 * buffer of its socket (UDP's RcvbufErrors). It counts frames, and a super-frame of datagrams (GSO) that is thrown away is one of them.
 */
import { must, type Lab } from './lab.js';

const COUNTERS = 'cat /sys/class/net/*/statistics/tx_dropped; sed -n "s/^Udp: //p" /proc/net/snmp';

async function lostSoFar(lab: Lab): Promise<number> {
  const namespaces = (await must(['ip', 'netns', 'list'])).match(new RegExp(`^${lab.prefix}-\\S+`, 'gm')) ?? [];
  const each = namespaces.map(async (namespace) => {
    const lines = (await must(['ip', 'netns', 'exec', namespace, 'sh', '-c', COUNTERS])).trim().split('\n');
    const [names = [], values = []] = lines.splice(-2).map((line) => line.split(' '));
    return lines.reduce((sum, dropped) => sum + Number(dropped), Number(values[names.indexOf('RcvbufErrors')]));
  });
  return (await Promise.all(each)).reduce((sum, lost) => sum + lost, 0);
}

const SUPER_FRAME_BYTES = 65_535;
/** How many datagrams of so many bytes one frame may hold. */
export const datagramsInFrame = (bytes: number): number => Math.floor(SUPER_FRAME_BYTES / bytes);

/**
 * Begins to count in all namespaces of the lab. What it returns says how many datagrams of so many bytes may have been lost since: none
 * where no frame was, else as many as such frames may have held.
 */
export async function kernelLoss(lab: Lab, datagram: number): Promise<() => Promise<number>> {
  const before = await lostSoFar(lab);
  return async () => ((await lostSoFar(lab)) - before) * datagramsInFrame(datagram);
}
