/**
 * The `pcap` port: libpcap (npm `cap`) captures, `raw-socket` sends stamped IPv4 packets through the kernel's routing, `cap`
 * injects everything else. For devices that rings don't do, and as a second opinion on the ring port. Slower: each packet
 * passes JavaScript.
 *
 * What comes from libpcap has no virtio-net header: the pipeline is told so, completes checksums and cuts super-frames.
 */
import cap, { type CapHandle } from 'cap';
import raw from 'raw-socket';
import { native, type NativeEngine, type NativeProgram } from '../native.js';
import type { Runner, RunnerOptions } from '../runner.js';

const KERNEL_BUFFER_BYTES = 16 * 1024 * 1024;
/** `cap` fixes its snap length at this. */
const SNAP_BYTES = 65_535;
const ETHERNET_HEADER = 14;
const UNDERLAY_FILTER = 'inbound and udp and (dst port 4790 or dst port 6081)';

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
}

export class PcapRunner implements Runner {
  readonly finished: Promise<void>;
  readonly #engine: NativeEngine;
  readonly #ports: (PortState | null)[];
  readonly #raw: ReturnType<typeof raw.createSocket>;
  #settle: { resolve: () => void; reject: (error: Error) => void };
  #stopped = false;

  constructor(options: RunnerOptions) {
    let settle: { resolve: () => void; reject: (error: Error) => void } | undefined;
    this.finished = new Promise((resolve, reject) => (settle = { resolve, reject }));
    if (settle === undefined) throw new Error('a promise runs its executor at once');
    this.#settle = settle;
    this.#engine = new native.Engine({ flowsMax: options.flowsMax });
    this.#engine.install(options.program);
    this.#raw = raw.createSocket({ addressFamily: raw.AddressFamily.IPv4, protocol: raw.Protocol.UDP });
    this.#raw.setOption(raw.SocketLevel.IPPROTO_IP, raw.SocketOption.IP_HDRINCL, 1);
    this.#raw.on('error', () => undefined); // each send reports its own
    this.#ports = [];
    options.interfaces.forEach((name, port) => this.#ports.push(name === null ? null : this.#open(name, port)));
  }

  #open(name: string, port: number): PortState {
    const handle = new cap.Cap();
    const buffer = Buffer.alloc(SNAP_BYTES);
    const link = handle.open(name, port === 0 ? UNDERLAY_FILTER : 'inbound', KERNEL_BUFFER_BYTES, buffer);
    if (link !== 'ETHERNET') throw new Error(`interface ${name}: the pcap port needs Ethernet, this is ${link}`);
    handle.setMinBytes?.(0);
    const state: PortState = { interface: name, cap: handle, rxFrames: 0, rxBytes: 0, rxDropped: 0, txFrames: 0, txBytes: 0, txErrors: 0, cuts: false };
    // The buffer is overwritten by the next packet: everything happens before the handler returns.
    handle.on('packet', (bytes, truncated) => {
      state.rxFrames++;
      state.rxBytes += bytes;
      if (truncated) state.rxDropped++;
      else this.#process(port, buffer.subarray(0, bytes));
    });
    handle.on('error', (error) => this.#fail(`interface ${name}: ${error.message}`));
    return state;
  }

  #process(port: number, frame: Buffer): void {
    for (const out of this.#engine.process(process.hrtime.bigint(), port, frame, true)) {
      const state = this.#ports[out.port];
      if (!state) continue;
      const bytes = Buffer.from(out.bytes.buffer, out.bytes.byteOffset, out.bytes.byteLength);
      const ipv4 = bytes.readUInt16BE(12) === 0x0800;
      if (out.port === 0 && ipv4) this.#sendRouted(state, bytes.subarray(ETHERNET_HEADER));
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
      if (state === null) return [];
      const { cap: _, ...counts } = state;
      return [{ port, ...counts }];
    });
    return { ...this.#engine.counters(), ports };
  }

  #close(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    for (const state of this.#ports) state?.cap.close();
    this.#raw.close();
  }

  #fail(reason: string): void {
    this.#close();
    this.#settle.reject(new Error(reason));
  }

  stop(): Promise<void> {
    this.#close();
    this.#settle.resolve();
    return this.finished;
  }
}
