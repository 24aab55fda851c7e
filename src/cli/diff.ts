/** `weir diff`: what a configuration would change for the live streams, or for those of a capture. Changes nothing. */
import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { parsePrefix } from '../config/address.js';
import type { Configuration } from '../config/configuration.js';
import { PROTOCOLS } from '../config/normalise.js';
import { ControlClient } from '../control/client.js';
import type { FlowsAnswer, FlowView } from '../dataplane/views.js';
import { streamsOf } from '../explain/capture.js';
import { diff, type Diff, type DiffStream, type Outcome } from '../explain/diff.js';
import { known, type ExplainFacts } from '../explain/facts.js';
import { withMembers } from '../scale/members.js';
import { stillSubject } from '../explain/subject.js';
import { asVariant, requireVariant } from '../explain/variant.js';
import { Failure } from '../failure.js';
import { endpoint, table } from '../observe/print.js';
import { DEFAULT_SOCKET, type Globals } from './control.js';
import { parseNumber } from './ends.js';
import { configurationFrom } from './documents.js';

const PAGE_STREAMS = 10_000;

interface Options extends Globals {
  readonly config?: string;
  readonly read?: string;
  readonly workload: string[];
  readonly capture?: string;
  readonly variant?: string;
  readonly examples: number;
  readonly exitCode?: boolean;
}

const ofView = (flow: FlowView): DiffStream => ({
  capture: flow.capture,
  vlan: flow.vlan,
  protocol: PROTOCOLS[flow.protocol] ?? Number(flow.protocol),
  source: flow.source,
  sourcePort: flow.sourcePort,
  destination: flow.destination,
  destinationPort: flow.destinationPort,
  direction: flow.opened,
  pinned: flow.instances,
});

/** All live streams, a page at a time; they come and go meanwhile. */
async function liveStreams(client: ControlClient): Promise<DiffStream[]> {
  const streams: DiffStream[] = [];
  for (let cursor = 0; ; ) {
    const page = await client.call<FlowsAnswer>('flows', { limit: PAGE_STREAMS, cursor });
    for (const flow of page.flows) streams.push(ofView(flow));
    if (page.next === undefined) return streams;
    cursor = page.next;
  }
}

async function captureStreams(file: string, options: Options, { captures }: Pick<Configuration, 'captures'>): Promise<{ streams: DiffStream[]; error: string | null }> {
  const capture = options.capture ?? captures[0]?.name ?? '';
  if (!captures.some(({ name }) => name === capture)) throw new Failure(`--capture: there is no capture "${capture}"; there are: ${captures.map(({ name }) => name).join(', ')}.`, 2);
  const { streams, error } = await streamsOf(file, options.workload);
  return { streams: streams.map((flow) => ({ ...flow, capture, direction: flow.opened })), error };
}

function checkOptions({ config, read, workload }: Options): void {
  if (config !== undefined && read === undefined) throw new Failure('--config compares without a running weir, which has no live streams: add --read CAPTURE.', 2);
  if (read !== undefined && !existsSync(read)) throw new Failure(`--read: there is no file ${read}.`, 2);
  for (const prefix of workload) {
    const parsed = parsePrefix(prefix);
    if (typeof parsed === 'string') throw new Failure(`--workload: ${parsed}.`, 2);
  }
}

/** What is in force: of the running weir, or a file. */
async function inForce(options: Options): Promise<{ configuration: Configuration; facts: ExplainFacts | null; live: DiffStream[] }> {
  if (options.config !== undefined) return { configuration: asVariant(configurationFrom(options.config), options.variant ?? null), facts: null, live: [] };
  const client = await ControlClient.connect(options.socket ?? DEFAULT_SOCKET);
  try {
    const facts = await client.call<ExplainFacts>('explain.facts');
    const live = options.read === undefined ? await liveStreams(client) : [];
    return { configuration: { ...facts.configuration, source: { file: '', document: {} } }, facts, live };
  } finally {
    client.close();
  }
}

async function run(file: string, options: Options): Promise<void> {
  checkOptions(options);
  const given = requireVariant(configurationFrom(file), options.variant);
  const { configuration, facts, live } = await inForce(options);
  const { streams, error } = options.read === undefined ? { streams: live, error: null } : await captureStreams(options.read, options, configuration);
  // A named configuration that is in force stays so, if it is still there.
  const chosen = options.variant === undefined ? asVariant(given, facts?.variant ?? null) : given;
  // What hooks started stays, whatever document comes.
  const wanted = withMembers(chosen, facts?.elastic ?? []);
  const same = facts === null ? {} : known(facts);
  const result = await diff(stillSubject(configuration, same), stillSubject(wanted, same), streams, options.examples);
  const what = options.read === undefined ? 'live streams' : `streams of ${options.read}`;
  console.log(options.json === true ? JSON.stringify({ of: what, error, ...result }, null, 2) : show(what, result, error));
  if (error !== null || (options.exitCode === true && result.changed > 0)) process.exitCode = 1;
}

function show(what: string, d: Diff, error: string | null): string {
  const lines = [`${d.streams} ${what}: ${d.changed} would change (action ${d.action}, chain ${d.chain}, path ${d.path}, instance ${d.instance}), ${d.streams - d.changed} would not`];
  if (d.uncaptured > 0) lines.push(`${d.uncaptured} are of a capture that the new configuration does not have`);
  if (d.pinnedElsewhere > 0) lines.push(`${d.pinnedElsewhere} are pinned otherwise than a new stream would be already now; pins stay until their streams end`);
  if (error !== null) lines.push(`the file is cut short or broken: ${error}; what was readable is in the figures`);
  const name = (policy: string | null): string => policy ?? '(default)';
  const becomes = (row: Diff['policies'][number]): string => row.becomes.slice(0, 3).map((b) => `${name(b.policy)} ${b.streams}`).join(', ') + (row.becomes.length > 3 ? ', …' : '');
  lines.push('', table(['policy', 'streams', 'changed', 'action', 'chain', 'path', 'instance', 'would be decided by'], d.policies.map((p) => [name(p.policy), p.streams, p.changed, p.action, p.chain, p.path, p.instance, becomes(p)])));
  lines.push('', table(['service', 'streams now', 'then', 'on another instance', 'gained', 'lost'], d.services.map((s) => [s.service, s.before, s.after, s.moved, s.gained, s.lost])));
  if (d.examples.length > 0) lines.push('', 'for example:', ...d.examples.flatMap(showExample));
  return lines.join('\n');
}

function showExample({ stream, changes, before, after }: Diff['examples'][number]): string[] {
  const protocol = Object.entries(PROTOCOLS).find(([, number]) => number === stream.protocol)?.[0] ?? `protocol ${stream.protocol}`;
  const way = (o: Outcome | null): string => (o === null ? 'not captured' : `${o.action === 'chain' ? `${o.chain}: ${o.instances.map((instance, i) => instance ?? `${o.services[i]}/none`).join(' > ') || 'no hop'}` : o.action} (${o.policy ?? 'default'})`);
  return [
    `  ${protocol} ${endpoint(stream.source, stream.sourcePort, protocol)} ${stream.direction === 'out' ? '->' : '<-'} ${endpoint(stream.destination, stream.destinationPort, protocol)}: ${changes.join(', ')}`,
    `    now   ${way(before)}`,
    `    then  ${way(after)}`,
  ];
}

export function registerDiff(program: Command): void {
  program
    .command('diff')
    .description('what a configuration would change for live streams, or those of a capture; changes nothing')
    .argument('<file>', 'the new configuration (YAML)')
    .option('-c, --config <file>', 'compare with this configuration, not with a running weir; needs --read')
    .option('--read <file>', 'the streams of this capture (pcap or pcapng) instead of the live ones')
    .option('--workload <prefix...>', "with --read: the workload's addresses; default: whoever opens a stream", [])
    .option('--capture <name>', 'with --read: the capture they are of; default: the first')
    .option('--variant <name>', 'with this one of its `configurations:` in force; default: the one that is in force now')
    .option('--examples <number>', 'streams to show', parseNumber, 5)
    .option('--exit-code', 'end with 1 if anything would change')
    .action((file: string, _: object, command: Command) => run(file, command.optsWithGlobals<Options>()));
}
