/**
 * The `pcap` port: libpcap (npm `cap`) captures, `raw-socket` sends stamped IPv4 packets through the kernel's routing where there is one
 * underlay, `cap` injects everything else. For devices that rings don't do, and as a second opinion on the ring port. Slower: each packet
 * passes JavaScript.
 *
 * What comes from libpcap has no virtio-net header: the pipeline is told so, completes checksums and cuts super-frames.
 */
import cap, { type CapHandle } from 'cap';
import raw from 'raw-socket';
import { native, type Adoption, type EmittedFrame, type NativeEngine, type NativeProgram } from '../native.js';
import { roleOf } from '../../program/port-numbers.js';
import type { Runner, RunnerOptions } from '../runner.js';

const KERNEL_BUFFER_BYTES = 16 * 1024 * 1024;
/** `cap` fixes its snap length at this. */
const SNAP_BYTES = 65_535;
const ETHERNET_HEADER = 14;
/** Stamped packets, and "unreachable" and "too big" about them. */
const UNDERLAY_FILTER = 'inbound and (udp dst port 4790 or udp dst port 6081 or icmp[icmptype] == icmp-unreach or (icmp6 and (ip6[40] == 1 or ip6[40] == 2)))';

const withFragments = (filter: string): string => `${filter.slice(0, -1)} or (ip proto 17 and ip[6:2] & 0x3fff != 0) or (ip6[6] == 44 and ip6[40] == 17))`;

interface PortState {
  readonly interface: string;
  readonly cap: CapHandle;
  rxFrames: number;
  rxBytes: number;
  rxDropped: number;
  txFrames: number;
  txBytes: number;
  txErrors: number;
  readonly cuts: false;
  open: boolean;
}

export class PcapRunner implements Runner {
  readonly finished: Promise<void>;
  readonly adopted: Adoption | null;
  readonly #engine: NativeEngine;
  readonly #ports: (PortState | null | undefined)[];
  /** Captures and underlays stay what they are. */
  readonly #numbered: NativeProgram;
  readonly #raw: ReturnType<typeof raw.createSocket>;
  #finish: () => void = () => undefined;
  #stopped = false;
  #paused = false;
  #due: NodeJS.Timeout | null = null;
  readonly #onProbeNews: () => void;

  constructor(options: RunnerOptions) {
    this.finished = new Promise((resolve) => (this.#finish = resolve));
    this.#onProbeNews = options.onProbeNews ?? ((): void => undefined);
    this.#engine = new native.Engine({ flowsMax: options.flowsMax, flowFile: options.flowFile, tenants: options.tenants });
    this.#engine.install(options.program);
    this.#numbered = options.program;
    this.adopted = this.#engine.adopt(process.hrtime.bigint());
    this.#raw = raw.createSocket({ addressFamily: raw.AddressFamily.IPv4, protocol: raw.Protocol.UDP });
    this.#raw.setOption(raw.SocketLevel.IPPROTO_IP, raw.SocketOption.IP_HDRINCL, 1);
    this.#raw.on('error', () => undefined); // each send reports its own
    this.#ports = [];
    options.interfaces.forEach((name, port) => this.#ports.push(name === null ? null : this.#open(name, port)));
    this.#probe();
  }

  #open(name: string, port: number): PortState {
    const handle = new cap.Cap();
    const buffer = Buffer.alloc(SNAP_BYTES);
    const link = handle.open(name, this.#filter(port), KERNEL_BUFFER_BYTES, buffer);
    if (link !== 'ETHERNET') throw new Error(`interface ${name}: the pcap port needs Ethernet, this is ${link}`);
    handle.setMinBytes?.(0);
    const state: PortState = { interface: name, cap: handle, rxFrames: 0, rxBytes: 0, rxDropped: 0, txFrames: 0, txBytes: 0, txErrors: 0, cuts: false, open: true };
    // The buffer is overwritten by the next packet: everything happens before the handler returns.
    handle.on('packet', (bytes, truncated) => {
      state.rxFrames++;
      state.rxBytes += bytes;
      if (truncated) state.rxDropped++;
      else this.#process(port, buffer.subarray(0, bytes));
    });
    // The interface is gone: whoever looks at the counters opens the port again when it is back.
    handle.on('error', () => this.#lose(state));
    return state;
  }

  #filter(port: number): string {
    const role = roleOf(port, this.#numbered);
    if (role.kind !== 'underlay') return 'inbound';
    return this.#numbered.underlays[role.underlay]?.fragment === true ? withFragments(UNDERLAY_FILTER) : UNDERLAY_FILTER;
  }

  #lose(state: PortState): void {
    if (!state.open) return;
    state.open = false;
    state.cap.close();
  }

  open(port: number, name: string): Promise<void> {
    const before = this.#ports[port];
    if (before) this.#lose(before);
    if (name === '') {
      this.#ports[port] = null;
      return Promise.resolve();
    }
    try {
      const { rxFrames = 0, rxBytes = 0, rxDropped = 0, txFrames = 0, txBytes = 0, txErrors = 0 } = before ?? {};
      this.#ports[port] = Object.assign(this.#open(name, port), { rxFrames, rxBytes, rxDropped, txFrames, txBytes, txErrors });
      return Promise.resolve();
    } catch (error) {
      return Promise.reject(error as Error);
    }
  }

  #process(port: number, frame: Buffer): void {
    if (this.#paused) return;
    this.#send(this.#engine.process(process.hrtime.bigint(), port, frame, true));
    if (this.#engine.takeProbeNews()) this.#onProbeNews();
  }

  /** Sends the probes that are due, and waits for the next ones. */
  #probe(): void {
    if (this.#stopped || this.#paused) return;
    if (this.#due !== null) clearTimeout(this.#due);
    this.#send(this.#engine.probe(process.hrtime.bigint()));
    if (this.#engine.takeProbeNews()) this.#onProbeNews();
    const due = this.#engine.probeDue();
    this.#due = due === null ? null : setTimeout(() => this.#probe(), Math.max(1, Number(due - process.hrtime.bigint()) / 1e6));
  }

  #send(frames: readonly EmittedFrame[]): void {
    for (const out of frames) {
      const state = this.#ports[out.port];
      if (!state) continue;
      if (!state.open) {
        state.txErrors++;
        continue;
      }
      const bytes = Buffer.from(out.bytes.buffer, out.bytes.byteOffset, out.bytes.byteLength);
      const ipv4 = bytes.readUInt16BE(12) === 0x0800;
      // With several underlays the kernel's route may lead by another one than the instance's.
      if (out.port === 0 && ipv4 && this.#numbered.underlays.length === 1) this.#sendRouted(state, bytes.subarray(ETHERNET_HEADER));
      else this.#inject(state, bytes);
    }
  }

  #sendRouted(state: PortState, packet: Buffer): void {
    const destination = packet.subarray(16, 20).join('.');
    this.#raw.send(packet, 0, packet.length, destination, (error) => {
      if (error) state.txErrors++;
      else this.#sent(state, packet.length + ETHERNET_HEADER);
    });
  }

  #inject(state: PortState, frame: Buffer): void {
    try {
      state.cap.send(frame, frame.length);
      this.#sent(state, frame.length);
    } catch {
      state.txErrors++; // the device refused it: too long, or down
    }
  }

  #sent(state: PortState, bytes: number): void {
    state.txFrames++;
    state.txBytes += bytes;
  }

  install(program: NativeProgram): Promise<void> {
    this.#engine.install(program);
    this.#probe();
    return Promise.resolve();
  }

  flows(cursor: number, max: number): ReturnType<Runner['flows']> {
    return Promise.resolve(this.#engine.flows(cursor, max));
  }

  describe(tuple: Parameters<Runner['describe']>[0]): ReturnType<Runner['describe']> {
    return Promise.resolve(this.#engine.describe(tuple));
  }

  counters(): ReturnType<Runner['counters']> {
    const ports = this.#ports.flatMap((state, port) => {
      if (!state) return [];
      const { cap: _, ...counts } = state;
      return [{ port, ...counts }];
    });
    return { ...this.#engine.counters(), ports };
  }

  pause(): Promise<void> {
    this.#paused = true;
    return Promise.resolve();
  }

  resume(): void {
    this.#engine.adopt(process.hrtime.bigint());
    this.#paused = false;
    this.#probe();
  }

  signals(): Float64Array {
    return this.#engine.signals();
  }
  probes(): Float64Array {
    return this.#engine.probes();
  }

  #close(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    if (this.#due !== null) clearTimeout(this.#due);
    for (const state of this.#ports) if (state) this.#lose(state);
    this.#raw.close();
  }

  stop(): Promise<void> {
    this.#close();
    this.#finish();
    return this.finished;
  }
}
