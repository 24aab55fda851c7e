/** `weir replay`: a capture through the pipeline, without a network. */
import { existsSync, statSync } from 'node:fs';
import { Option, type Command } from 'commander';
import { SingleBar } from 'cli-progress';
import { parsePrefix } from '../config/address.js';
import { Failure } from '../failure.js';
import { replay } from '../replay/replay.js';
import { formatReport, makeReport } from '../replay/report.js';
import { configurationFrom } from './run.js';

/** Below this a bar would only flicker. */
const BAR_FROM_BYTES = 10_000_000;

interface Options {
  readonly config: string;
  readonly read: string;
  readonly write?: string;
  readonly out?: string;
  readonly workload: string[];
  readonly report: 'text' | 'json';
  readonly json?: boolean;
}

function sameFile(a: string, b: string): boolean {
  if (!existsSync(a) || !existsSync(b)) return a === b;
  const [x, y] = [statSync(a), statSync(b)];
  return x.ino === y.ino && x.dev === y.dev;
}

function checkFiles({ read, write, out }: Options): void {
  if (!existsSync(read)) throw new Failure(`--read: there is no file ${read}.`, 2);
  const written = [write, out].filter((file) => file !== undefined);
  for (const file of written) if (sameFile(read, file)) throw new Failure(`${file} is the file that is read: give the output another name.`, 2);
  if (written.length === 2 && sameFile(written[0] ?? '', written[1] ?? '')) throw new Failure('--write and --out name the same file.', 2);
}

async function run(options: Options): Promise<void> {
  const configuration = configurationFrom(options.config);
  checkFiles(options);
  for (const prefix of options.workload) {
    const parsed = parsePrefix(prefix);
    if (typeof parsed === 'string') throw new Failure(`--workload: ${parsed}.`, 2);
  }
  const total = statSync(options.read).size;
  const bar = process.stderr.isTTY && total >= BAR_FROM_BYTES ? new SingleBar({ format: '{bar} {percentage} % | {eta} s left', clearOnComplete: true, stream: process.stderr }) : null;
  bar?.start(total, 0);
  let result;
  try {
    result = await replay(
      { configuration, read: options.read, write: options.write ?? null, out: options.out ?? null, workload: options.workload },
      (progress) => bar?.update(progress.bytesRead),
    );
  } catch (error) {
    throw new Failure(`${(error as Error).message}.`);
  } finally {
    bar?.stop();
  }
  const report = makeReport(options.read, configuration, result);
  console.log(options.report === 'json' || options.json === true ? JSON.stringify(report, null, 2) : formatReport(report));
  if (report.error !== null) process.exitCode = 1;
}

export function registerReplay(program: Command): void {
  program
    .command('replay')
    .description('run a capture through the pipeline with emulated instances')
    .requiredOption('-c, --config <file>', 'configuration (YAML)')
    .requiredOption('--read <file>', 'capture to replay (pcap or pcapng)')
    .option('--write <file>', 'write the stamped frames that go to instances')
    .option('--out <file>', 'write the frames that leave the captures')
    .option('--workload <prefix...>', "the workload's addresses; default: whoever opens a stream", [])
    .addOption(new Option('--report <form>', 'what to print').choices(['text', 'json']).default('text'))
    .action((options: Options) => run(options));
}
