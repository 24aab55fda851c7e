/** The starting weir's side of a takeover; the other side, and the order of things, are in hand-over.ts. */
import { randomBytes } from 'node:crypto';
import { Failure } from '../failure.js';
import { HAND_OVER_FORMAT, type HandOverRequest, type Hello, type Paused } from './hand-over.js';
import { native, type NativeChannel, type RingHeads, type Rings } from './native.js';
import type { HeldPort } from './udp-sink.js';

/** The running weir may be in the middle of a change. */
const ANSWER_MS = 30_000;
const PAUSE_MS = 10_000;

export interface Handed {
  readonly ports: readonly HeldPort[];
  readonly flowFile: { readonly path: string; readonly descriptor: number } | null;
  /** Null where they would not fit: rings of our own are opened then, and what comes meanwhile is lost. */
  readonly rings: Rings | null;
  /** Everything is ready: has the other one stop, and says where its rings go on. */
  paused(): Promise<RingHeads>;
  /** From here on it is ours. False where the other one goes on. */
  commit(): boolean;
}

export class Successor {
  /** The weir that handed over, once it has. */
  pid = 0;
  /** How often its watchdog has to be told; null where it has none, undefined where it does not say. */
  watchdogMs: number | null | undefined;
  #since = 0n;
  #channel: NativeChannel | null = null;
  #unused: number[] = [];

  constructor(
    /** Asks the running weir; its answer is nothing but an error, or the end of the connection. */
    private readonly ask: (request: HandOverRequest) => Promise<unknown>,
    private readonly generation: number,
  ) {}

  /** How long packets waited until now. */
  get waitedMs(): number {
    return Number(process.hrtime.bigint() - this.#since) / 1e6;
  }

  async begin(own: { readonly port: string; readonly workers: number; readonly interfaces: readonly (string | null)[] }): Promise<Handed> {
    const name = `weir-takeover-${randomBytes(16).toString('hex')}`;
    const listening = native.Channel.listen(name);
    const refused = this.ask({ channel: name, generation: this.generation }).then(() => null, (error: unknown) => error as Error);
    const first = await Promise.race([listening.accept(ANSWER_MS), refused]);
    if (first instanceof Error) throw first;
    if (first === null) throw new Failure('the running weir does not answer: it goes on');
    this.#channel = first;
    const peer = first.peer();
    if (peer === null || (peer.uid !== 0 && peer.uid !== process.geteuid?.())) throw new Failure('another user than that of the running weir wants to hand over: nothing was taken');
    const { hello, descriptors } = await this.#hello(first);
    this.pid = hello.pid;
    this.watchdogMs = hello.watchdogMs;
    this.#unused = [...descriptors];
    const take = (): number => this.#unused.shift() ?? -1;
    const flowFile = hello.flowFile === null ? null : { path: hello.flowFile, descriptor: take() };
    const ports = hello.ports.map((port) => ({ ...port, descriptor: take() }));
    const fits = hello.rings !== null && hello.port === own.port && hello.workers === own.workers && JSON.stringify(hello.interfaces) === JSON.stringify(own.interfaces);
    const whole = hello.rings?.every((row) => own.interfaces.every((name, port) => name === null || name === '' || (row[port] ?? null) !== null)) ?? false;
    const rings = fits && whole ? (hello.rings?.map((row) => row.map((port) => port && { ...port, rings: port.rings.map((ring) => ({ ...ring, descriptor: take() })) })) ?? null) : null;
    native.closeDescriptors(this.#unused);
    return {
      ports,
      flowFile,
      rings,
      paused: async () => {
        first.send('ready');
        const message = await first.receive(PAUSE_MS);
        if (message === null) throw new Failure('the running weir did not stop: it goes on');
        const { since, heads } = JSON.parse(message.text) as Paused;
        this.#since = BigInt(since);
        return heads ?? [];
      },
      commit: () => first.send('commit'),
    };
  }

  async #hello(channel: NativeChannel): Promise<{ hello: Hello; descriptors: number[] }> {
    const message = await channel.receive(ANSWER_MS);
    if (message === null) throw new Failure('the running weir hands nothing over: it goes on');
    const descriptors = [...message.descriptors];
    const hello = JSON.parse(message.text) as Hello;
    if (hello.format !== HAND_OVER_FORMAT) {
      native.closeDescriptors(descriptors);
      throw new Failure(`the running weir hands over in format ${hello.format}, and this one knows format ${HAND_OVER_FORMAT}: stop it, and start this one`);
    }
    while (descriptors.length < hello.descriptors) {
      const more = await channel.receive(ANSWER_MS);
      if (more === null) throw new Failure('the running weir is gone while it handed over');
      descriptors.push(...more.descriptors);
    }
    return { hello, descriptors };
  }

  /** The other one goes on, if this one has not. */
  abandon(): void {
    this.#channel?.close();
  }
}
