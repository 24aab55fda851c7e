/** `weir doctor`: what of this host keeps weir from its work, and the command that mends it. */
import type { Command } from 'commander';
import type { Configuration, PlainDocument } from '../config/configuration.js';
import { formatErrors } from '../config/errors.js';
import { checkDocument } from '../config/load.js';
import { ControlClient } from '../control/client.js';
import { examine, worst } from '../doctor/doctor.js';
import type { Finding } from '../doctor/finding.js';
import { Failure } from '../failure.js';
import { DEFAULT_SOCKET, type Globals } from './control.js';
import { configurationFrom } from './documents.js';

const MARKS = { ok: 'ok  ', warn: 'warn', fail: 'FAIL' } as const;

export function showFindings(findings: readonly Finding[]): string {
  const lines = findings.flatMap(({ level, subject, text, fix }) => [`${MARKS[level]}  ${subject}: ${text}`, ...(fix === null ? [] : [`      fix: ${fix}`])]);
  const count = (level: Finding['level']): number => findings.filter((finding) => finding.level === level).length;
  return [...lines, '', `${count('fail')} failures, ${count('warn')} warnings, ${count('ok')} fine`].join('\n');
}

/** What runs already, if anything answers on the socket. */
async function runningDocument(socket: string): Promise<PlainDocument | null> {
  let client: ControlClient;
  try {
    client = await ControlClient.connect(socket);
  } catch {
    return null;
  }
  try {
    return (await client.call<{ document: PlainDocument }>('config.get')).document;
  } finally {
    client.close();
  }
}

async function doctor({ config: file }: { readonly config?: string }, { socket, json = false }: Globals): Promise<void> {
  const given = file === undefined ? null : configurationFrom(file);
  const path = socket ?? given?.control.socket ?? DEFAULT_SOCKET;
  const document = await runningDocument(path);
  let configuration: Configuration | null = given;
  if (given === null && document !== null) {
    const loaded = checkDocument(document, 'weir.yaml');
    if (!loaded.ok) throw new Failure(formatErrors(loaded.errors));
    configuration = loaded.configuration;
  }
  const findings = await examine({ configuration, running: document === null ? null : path });
  if (json) console.log(JSON.stringify({ worst: worst(findings), findings }, null, 2));
  else {
    if (configuration === null) console.log('No configuration was given (--config FILE) and no weir runs: only the host is looked at.\n');
    console.log(showFindings(findings));
  }
  if (worst(findings) === 'fail') process.exitCode = 1;
}

export function registerDoctor(program: Command): void {
  program
    .command('doctor')
    .description('look for what keeps weir from its work on this host, with a fix for each finding; 1 if it could not start or would leak')
    .option('-c, --config <file>', 'configuration to look with (YAML); default: that of the weir that runs')
    .action((options: { config?: string }, command: Command) => doctor(options, command.optsWithGlobals<Globals>()));
}
