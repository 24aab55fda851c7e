/** `weir node --function deliver`: an instance that ends a chain. */
import { Failure } from '../failure.js';
import type { Logger } from '../observe/log.js';
import { DeliverNode } from '../service/deliver.js';
import type { startReporting } from '../service/reporting.js';

export interface DeliverWords {
  readonly to?: string;
  readonly toMac?: string;
  readonly settings?: string | undefined;
}

/** Throws a Failure where they go with no other function, or are wrong. */
export function checkDeliverWords(name: string, { to, toMac, settings }: DeliverWords): void {
  if (name === 'deliver' && settings !== undefined) throw new Failure('--settings: the function deliver takes no settings.', 2);
  if (name !== 'deliver' && (to !== undefined || toMac !== undefined)) throw new Failure('--to and --to-mac go with --function deliver.', 2);
  if (toMac !== undefined && !/^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$/.test(toMac)) throw new Failure(`--to-mac: expected a MAC address, found "${toMac}".`, 2);
}

function counted(node: DeliverNode): Record<string, unknown> {
  const { dropped, port: _, ...counts } = node.counters();
  return { ...counts, dropped: Object.fromEntries(Object.entries(dropped).filter(([, n]) => n > 0)) };
}

type Reporting = Awaited<ReturnType<typeof startReporting>>;

/** Until a signal ends it. */
export async function deliver(interfaceName: string, address: string, { to = 'lo', toMac }: DeliverWords, log: Logger, report: (source: Parameters<typeof startReporting>[1]) => Promise<Reporting>): Promise<void> {
  const running = DeliverNode.start({ interface: interfaceName, address, to, toMac }, log);
  const reporting = await report({ received: () => running.counters().received }).catch(async (error: unknown) => {
    await running.stop();
    throw error;
  });
  let stopping = false;
  const stop = async (why: string): Promise<void> => {
    if (stopping) return;
    stopping = true;
    await reporting.close();
    await running.stop();
    log.info(counted(running), `stopping: ${why}`);
  };
  process.on('SIGTERM', () => void stop('SIGTERM'));
  process.on('SIGINT', () => void stop('SIGINT'));
  process.on('SIGUSR2', () => log.info(counted(running), 'status'));
  log.info({ address, interface: interfaceName, to, function: 'deliver', pid: process.pid }, 'ready');
  try {
    await running.finished;
  } catch (error) {
    const { message } = error as Error;
    await stop(message);
    throw new Failure(message);
  }
}
