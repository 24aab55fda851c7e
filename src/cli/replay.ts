/** `weir replay`: a capture through the pipeline, without a network. */
import { existsSync, statSync } from 'node:fs';
import { Option, type Command } from 'commander';
import { SingleBar } from 'cli-progress';
import { parsePrefix } from '../config/address.js';
import type { Configuration } from '../config/configuration.js';
import { requireVariant } from '../explain/variant.js';
import { Failure } from '../failure.js';
import { EXPECT_FORMATS, type ExpectFormat } from '../replay/expect-report.js';
import { replay } from '../replay/replay.js';
import { formatReport, makeReport, type Report } from '../replay/report.js';
import { expect, expectationsFrom, type ExpectOptions } from './expect.js';
import { configurationFrom } from './documents.js';

/** Below this a bar would only flicker. */
const BAR_FROM_BYTES = 10_000_000;

interface Options {
  readonly config: string;
  readonly read?: string;
  readonly write?: string;
  readonly out?: string;
  readonly workload: string[];
  readonly report: 'text' | 'json';
  readonly json?: boolean;
  readonly variant?: string;
  readonly expect?: string;
  readonly expectFormat: ExpectFormat;
  readonly expectOut?: string;
}

const wanted = (options: Options): options is Options & ExpectOptions => options.expect !== undefined;

function sameFile(a: string, b: string): boolean {
  if (!existsSync(a) || !existsSync(b)) return a === b;
  const [x, y] = [statSync(a), statSync(b)];
  return x.ino === y.ino && x.dev === y.dev;
}

function checkFiles({ read, write, out, expect, expectOut }: Options): void {
  const written = Object.entries({ '--write': write, '--out': out, '--expect-out': expectOut }).flatMap(([option, file]) => (file === undefined ? [] : [{ option, file }]));
  if (read === undefined) {
    if (expect === undefined) throw new Failure('--read CAPTURE is missing: what is to be replayed? (--expect FILE alone asks the classifier.)', 2);
    const useless = written.find(({ option }) => option !== '--expect-out');
    if (useless !== undefined) throw new Failure(`${useless.option} needs --read CAPTURE.`, 2);
  } else if (!existsSync(read)) {
    throw new Failure(`--read: there is no file ${read}.`, 2);
  }
  for (const [i, { option, file }] of written.entries()) {
    for (const source of [read, expect]) if (source !== undefined && sameFile(source, file)) throw new Failure(`${file} is the file that is read: give the output another name.`, 2);
    const other = written.slice(0, i).find((before) => sameFile(before.file, file));
    if (other !== undefined) throw new Failure(`${other.option} and ${option} name the same file.`, 2);
  }
}

/** What says how expectations are told is of no use without any: a CI that forgot `--expect` would be green for ever. */
function checkExpectWords(options: Options, command: Command): void {
  if (wanted(options)) return;
  const useless = (['expectFormat', 'expectOut'] as const).find((key) => command.getOptionValueSource(key) === 'cli');
  if (useless !== undefined) throw new Failure(`--${useless === 'expectOut' ? 'expect-out' : 'expect-format'} needs --expect FILE: what is expected?`, 2);
}

async function run(options: Options, command: Command): Promise<void> {
  checkExpectWords(options, command);
  const configuration = requireVariant(configurationFrom(options.config), options.variant);
  checkFiles(options);
  for (const prefix of options.workload) {
    const parsed = parsePrefix(prefix);
    if (typeof parsed === 'string') throw new Failure(`--workload: ${parsed}.`, 2);
  }
  const json = options.report === 'json' || options.json === true;
  if (json && wanted(options) && options.expectFormat !== 'text' && options.expectOut === undefined) throw new Failure(`JSON and ${options.expectFormat} can't both stand on standard output: add --expect-out FILE.`, 2);
  const expectations = wanted(options) ? expectationsFrom(options.expect, configuration, options.read !== undefined) : [];
  const report = options.read === undefined ? null : await replayed(options, options.read, configuration);
  if (report !== null && report.error !== null) process.exitCode = 1;
  const verdicts = wanted(options) ? await expect(options, configuration, expectations) : null;
  if (json) {
    console.log(JSON.stringify({ ...report, ...(verdicts === null ? {} : { expectations: verdicts.result }) }, null, 2));
    return;
  }
  const text = verdicts?.text ?? null;
  // Harnesses read standard output: TAP and JUnit stand there alone.
  const alone = text !== null && options.expectFormat !== 'text';
  if (report !== null && !alone) console.log(formatReport(report) + (text === null ? '' : '\n'));
  if (text !== null) process.stdout.write(text);
}

/** What the capture does, with a bar while that takes long. */
async function replayed(options: Options, read: string, configuration: Configuration): Promise<Report> {
  const total = statSync(read).size;
  const bar = process.stderr.isTTY && total >= BAR_FROM_BYTES ? new SingleBar({ format: '{bar} {percentage} % | {eta} s left', clearOnComplete: true, stream: process.stderr }) : null;
  bar?.start(total, 0);
  try {
    const result = await replay(
      { configuration, read, write: options.write ?? null, out: options.out ?? null, workload: options.workload },
      (progress) => bar?.update(progress.bytesRead),
    );
    return makeReport(read, configuration, result);
  } catch (error) {
    // 1 is for what was replayed and missed.
    throw new Failure(`${(error as Error).message}.`, 2);
  } finally {
    bar?.stop();
  }
}

export function registerReplay(program: Command): void {
  program
    .command('replay')
    .description('run a capture through the pipeline with emulated instances')
    .requiredOption('-c, --config <file>', 'configuration (YAML)')
    .option('--variant <name>', 'while this one of its `configurations:` is in force')
    .option('--read <file>', 'capture to replay (pcap or pcapng)')
    .option('--write <file>', 'write the stamped frames that go to instances')
    .option('--out <file>', 'write the frames that leave the captures')
    .option('--workload <prefix...>', "the workload's addresses; default: whoever opens a stream", [])
    .option('--expect <file>', 'check these expectations (YAML); 1 if one is missed. Without --read: 5-tuples, by the classifier alone')
    .addOption(new Option('--expect-format <form>', 'how to say it').choices([...EXPECT_FORMATS]).default('text'))
    .option('--expect-out <file>', 'where to write it; default: standard output')
    .addOption(new Option('--report <form>', 'what to print').choices(['text', 'json']).default('text'))
    .action((_: object, command: Command) => run(command.optsWithGlobals<Options>(), command));
}
