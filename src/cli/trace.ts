/** `weir trace`: what would happen to a stream, or to a packet of a capture, and why. */
import { existsSync } from 'node:fs';
import { InvalidArgumentError, type Command } from 'commander';
import { parsePrefix } from '../config/address.js';
import { ControlClient } from '../control/client.js';
import { traceRequest, type TraceParams } from '../control/explain-methods.js';
import { RpcError } from '../control/protocol.js';
import { packetOf } from '../explain/capture.js';
import { stillSubject } from '../explain/subject.js';
import { trace, type Trace } from '../explain/trace.js';
import { requireVariant } from '../explain/variant.js';
import { Failure } from '../failure.js';
import { DEFAULT_SOCKET, type Globals } from './control.js';
import { parseEnd, parseNumber, type End } from './ends.js';
import { configurationFrom } from './documents.js';
import * as show from './show-trace.js';

const MOST_VLAN = 4094;

interface Options extends Globals {
  readonly capture?: string;
  readonly in?: boolean;
  readonly vlan: number[];
  readonly config?: string;
  readonly variant?: string;
  readonly read?: string;
  readonly packet?: number;
  readonly workload: string[];
}

function collect(value: string, before: number[]): number[] {
  const id = parseNumber(value);
  if (id > MOST_VLAN) throw new InvalidArgumentError(`expected a VLAN id from 0 to ${MOST_VLAN}.`);
  if (before.length === 2) throw new InvalidArgumentError('it can be given at most twice, outer first.');
  return [...before, id];
}

async function ofPacket(read: string, number: number, workload: readonly string[], capture: object): Promise<TraceParams | null> {
  const { frame, stream } = await packetOf(read, number, workload);
  if (stream === null) return null;
  return {
    protocol: stream.protocol,
    source: stream.source,
    source_port: stream.sourcePort,
    destination: stream.destination,
    destination_port: stream.destinationPort,
    vlan: stream.vlan,
    direction: stream.opened,
    frame: Buffer.from(frame.bytes).toString('hex'),
    frame_direction: frame.direction,
    ...capture,
  };
}

function ofTuple(protocol: string, source: End, destination: End, options: Options, capture: object): TraceParams {
  return {
    protocol: /^[0-9]+$/.test(protocol) ? Number(protocol) : protocol,
    source: source.address,
    source_port: source.port ?? 0,
    destination: destination.address,
    destination_port: destination.port ?? 0,
    vlan: options.vlan,
    direction: options.in === true ? 'in' : 'out',
    ...capture,
  };
}

/** By the configuration alone: the facts of replay, no live stream. */
async function offline(file: string, variant: string | undefined, params: TraceParams): Promise<Trace> {
  const configuration = requireVariant(configurationFrom(file), variant);
  try {
    return await trace(stillSubject(configuration), traceRequest(params, configuration));
  } catch (error) {
    throw error instanceof RpcError ? new Failure(error.message, 2) : error;
  }
}

async function online(socket: string, params: TraceParams): Promise<Trace> {
  const client = await ControlClient.connect(socket);
  return client.call<Trace>('trace', params).finally(() => client.close());
}

const WITH_PORTS = /^(tcp|udp|0*6|0*17)$/;
const PROTOCOL = /^(tcp|udp|icmp|icmpv6|[0-9]{1,3})$/;

async function run(protocol: string | undefined, source: End | undefined, destination: End | undefined, options: Options): Promise<void> {
  const capture = options.capture === undefined ? {} : { capture: options.capture };
  if (options.variant !== undefined && options.config === undefined) throw new Failure('--variant needs --config FILE; a running weir decides by what is in force.', 2);
  let params: TraceParams | null;
  if (options.read !== undefined) {
    if (protocol !== undefined) throw new Failure('give either a 5-tuple or --read FILE --packet N, not both.', 2);
    if (options.packet === undefined || options.packet < 1) throw new Failure('--read needs --packet N; the first one is 1.', 2);
    if (!existsSync(options.read)) throw new Failure(`--read: there is no file ${options.read}.`, 2);
    for (const prefix of options.workload) {
      const parsed = parsePrefix(prefix);
      if (typeof parsed === 'string') throw new Failure(`--workload: ${parsed}.`, 2);
    }
    params = await ofPacket(options.read, options.packet, options.workload, capture);
  } else {
    if (protocol === undefined || source === undefined || destination === undefined) throw new Failure('expected PROTOCOL SOURCE DESTINATION, such as `tcp 10.1.0.2:40000 10.2.0.2:80`, or --read FILE --packet N.', 2);
    if (options.packet !== undefined) throw new Failure('--packet needs --read FILE.', 2);
    if (!PROTOCOL.test(protocol) || Number(protocol) > 255) throw new Failure(`expected tcp, udp, icmp, icmpv6 or a number up to 255, found "${protocol}".`, 2);
    if (WITH_PORTS.test(protocol)) {
      for (const { address, port } of [source, destination]) if (port === null) throw new Failure(`a port is missing: ${address.includes(':') ? `[${address}]` : address}:PORT${address.includes(':') ? '' : ', or [IPv6]:PORT'}.`, 2);
    }
    params = ofTuple(protocol, source, destination, options, capture);
  }
  if (params === null) {
    const why = 'no stream that weir steers: it crosses unchanged (not IP, neighbour discovery, or a protocol other than TCP, UDP, ICMP and ICMPv6)';
    console.log(options.json === true ? JSON.stringify({ action: 'pass', final: { sent: false, why } }, null, 2) : `packet ${options.packet} belongs to ${why}`);
    return;
  }
  const answer = options.config === undefined ? await online(options.socket ?? DEFAULT_SOCKET, params) : await offline(options.config, options.variant, params);
  console.log(options.json === true ? JSON.stringify(answer, null, 2) : show.trace(answer));
}

export function registerTrace(program: Command): void {
  program
    .command('trace')
    .description('what would happen to a stream, or to a packet of a capture, and why')
    .argument('[protocol]', 'tcp, udp, icmp, icmpv6 or a number')
    .argument('[source]', 'ADDRESS:PORT or [IPv6]:PORT of who opens it', parseEnd)
    .argument('[destination]', 'ADDRESS:PORT or [IPv6]:PORT', parseEnd)
    .option('-c, --config <file>', 'decide by this configuration, without a running weir')
    .option('--variant <name>', 'with --config: while this one of its `configurations:` is in force')
    .option('--read <file>', 'take the packet from this capture (pcap or pcapng)')
    .option('--packet <number>', 'its number in the capture, from 1', parseNumber)
    .option('--workload <prefix...>', "with --read: the workload's addresses; default: whoever opens a stream", [])
    .option('--capture <name>', 'default: the first')
    .option('--in', 'opened from the network side')
    .option('--vlan <id>', 'VLAN id; twice for QinQ, outer first', collect, [])
    .action((protocol: string | undefined, source: End | undefined, destination: End | undefined, _: object, command: Command) => run(protocol, source, destination, command.optsWithGlobals<Options>()));
}
