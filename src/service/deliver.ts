/**
 * The function `deliver`: the instance that ends a chain. The packets go to this host's own network stack, to a server that has the
 * virtual address and answers the client by itself. All of it in native code.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { requireInterface } from '../dataplane/host.js';
import { native, type NativeDeliverNode } from '../dataplane/native.js';
import { holdStampPorts } from '../dataplane/udp-sink.js';
import { Failure } from '../failure.js';
import type { Logger } from '../observe/log.js';

const NO_MAC = '00:00:00:00:00:00';
const ETHERNET = '1';
const LOOPBACK = '772';

export interface DeliverOptions {
  readonly interface: string;
  readonly address: string;
  /** Interface that the packets are put on: a loopback, or one end of a veth pair. */
  readonly to: string;
  /** Of the other end; default: looked up. */
  readonly toMac?: string | undefined;
}

interface Link {
  readonly fromMac: string;
  readonly toMac: string;
  /** Interface that the kernel receives the packets on, if it is one of this namespace. */
  readonly receiver: string | null;
}

const ofInterface = (name: string, what: string): string => {
  try {
    return readFileSync(`/sys/class/net/${name}/${what}`, 'utf8').trim();
  } catch {
    return '';
  }
};

/** The other end of a veth pair, if it is in this namespace. */
function peerOf(name: string): string | null {
  const [own, link] = [ofInterface(name, 'ifindex'), ofInterface(name, 'iflink')];
  if (link === '' || link === own) return null;
  return readdirSync('/sys/class/net').find((other) => other !== name && ofInterface(other, 'ifindex') === link && ofInterface(other, 'iflink') === own) ?? null;
}

function linkTo(to: string, toMac: string | undefined): Link {
  const info = requireInterface(to, '--to');
  if (info.loopback) return { fromMac: NO_MAC, toMac: NO_MAC, receiver: to };
  const type = ofInterface(to, 'type');
  if (type !== ETHERNET && type !== LOOPBACK) throw new Failure(`--to: interface "${to}" is no Ethernet and no loopback; take \`lo\`, or one end of a veth pair.`, 2);
  const peer = peerOf(to);
  const mac = toMac ?? (peer === null ? undefined : native.interfaceInfo(peer)?.mac);
  if (mac === undefined) throw new Failure(`--to: can't tell who is at the other end of "${to}"; give its address with --to-mac, or take \`lo\`.`, 2);
  return { fromMac: info.mac, toMac: mac, receiver: peer };
}

/** Strict reverse path filtering drops packets whose answers would leave by another interface, and these always are such. */
function warnOfFilter({ receiver }: Link, log: Pick<Logger, 'warn'>): void {
  if (receiver === null) return;
  const value = (name: string): number => {
    try {
      return Number(readFileSync(`/proc/sys/net/ipv4/conf/${name}/rp_filter`, 'utf8'));
    } catch {
      return 0;
    }
  };
  if (Math.max(value('all'), value(receiver)) !== 1) return;
  log.warn(`net.ipv4.conf.{all,${receiver}}.rp_filter is 1, so the kernel drops IPv4 packets that are delivered to it: set both to 0, or to 2`);
}

export class DeliverNode {
  readonly #native: NativeDeliverNode;

  private constructor(
    options: DeliverOptions,
    link: Link,
    private readonly release: () => void,
  ) {
    this.#native = new native.DeliverNode({ interface: options.interface, address: options.address, to: options.to, fromMac: link.fromMac, toMac: link.toMac });
  }

  /** Throws a Failure. */
  static start(options: DeliverOptions, log: Pick<Logger, 'warn'>): DeliverNode {
    const link = linkTo(options.to, options.toMac);
    warnOfFilter(link, log);
    const release = holdStampPorts([options.address]);
    try {
      return new DeliverNode(options, link, release);
    } catch (error) {
      release();
      throw new Failure((error as Error).message);
    }
  }

  counters(): ReturnType<NativeDeliverNode['counters']> {
    return this.#native.counters();
  }

  get finished(): Promise<void> {
    return this.#native.finished;
  }

  async stop(): Promise<void> {
    await this.#native.stop().catch(() => undefined); // `finished` says why it could not go on
    this.release();
  }
}
