/** `weir node`: one service instance in this process. */
import { networkInterfaces } from 'node:os';
import type { Command } from 'commander';
import { parseAddress } from '../config/address.js';
import { requireInterface, requireNetRaw } from '../dataplane/host.js';
import { native } from '../dataplane/native.js';
import { Failure } from '../failure.js';
import { createLogger } from '../observe/log.js';
import { ServiceNode, loadFunction } from '../service/node.js';

interface Options {
  readonly service: string;
  readonly name: string;
  readonly listen: string;
  readonly function: string;
  readonly interface?: string;
}

/** The interface that has the address, or through which the kernel reaches it (127.0.0.11 is on `lo` without being listed). */
function interfaceOf(address: string): string {
  for (const name of Object.keys(networkInterfaces())) {
    const info = native.interfaceInfo(name);
    if (info !== null && [...info.ipv4, ...info.ipv6].includes(address)) return name;
  }
  if (address.startsWith('127.')) return 'lo';
  throw new Failure(`no interface of this host has the address ${address}: add it with \`ip address add\`, or name the interface with --interface.`);
}

async function node(options: Options): Promise<void> {
  if (parseAddress(options.listen) === null) throw new Failure(`--listen: expected an IP address, found "${options.listen}".`, 2);
  const service = await loadFunction(options.function);
  requireNetRaw();
  const name = options.interface ?? interfaceOf(options.listen);
  requireInterface(name, '--interface');
  const log = createLogger().child({ instance: `${options.service}/${options.name}` });
  const running = await ServiceNode.start({ service: options.service, name: options.name, interface: name, address: options.listen, function: service }, log);
  let stopping = false;
  const stop = async (why: string): Promise<void> => {
    if (stopping) return;
    stopping = true;
    const { received, returned, dropped } = running.counters();
    const drops = Object.fromEntries(Object.entries(dropped).filter(([, n]) => n > 0));
    log.info({ received, returned, dropped: drops }, `stopping: ${why}`);
    await running.stop();
  };
  process.on('SIGTERM', () => void stop('SIGTERM'));
  process.on('SIGINT', () => void stop('SIGINT'));
  log.info({ address: options.listen, interface: name, function: options.function, pid: process.pid }, 'ready');
  try {
    await running.finished;
  } catch (error) {
    throw new Failure((error as Error).message);
  }
}

export function registerNode(program: Command): void {
  program
    .command('node')
    .description('run one service instance in the foreground')
    .requiredOption('--service <name>', 'the service it performs')
    .requiredOption('--name <name>', 'its name')
    .requiredOption('--listen <address>', 'its address on the underlay')
    .option('--function <name>', 'pass, mark, or the path of a module', 'pass')
    .option('--interface <name>', 'default: the one that has the address')
    .action((options: Options) => node(options));
}
