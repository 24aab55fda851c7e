/** Editors that race: random valid edits on the control socket, each meant for the generation that its editor read. Reproducible from a seed. */
import { ControlClient } from '../../src/control/client.js';
import { OTHER_GENERATION, RpcError } from '../../src/control/protocol.js';
import type { KnownPath } from './path-proof.js';

/** mulberry32 */
export function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let x = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

type Chain = readonly string[] | { readonly services: readonly string[] };

export interface EditedDocument {
  readonly services: Readonly<Record<string, { readonly instances: readonly { readonly name: string; readonly weight?: number }[] }>>;
  readonly chains: Readonly<Record<string, Chain>>;
  readonly policies: readonly { readonly name: string }[];
}

export type AnyEdit = readonly [method: string, params: object];

const servicesOf = (chain: Chain | undefined): readonly string[] => (chain === undefined ? [] : 'services' in chain ? chain.services : chain);
const MOST_POLICIES = 20;

/** An insertion, a removal, a swap of two, a replacement, a weight, a policy more or less, or several of these in one patch. `ports`: that traffic goes to. */
export function anyEdit(document: EditedDocument, ports: readonly number[], dice: () => number): AnyEdit {
  const upTo = (n: number): number => Math.floor(dice() * n);
  const pick = <T>(list: readonly T[]): T => list[upTo(list.length)] as T;
  const existing = pick(['keep', 'move']);
  const chain = pick(Object.keys(document.chains));
  const services = servicesOf(document.chains[chain]);
  const absent = Object.keys(document.services).filter((service) => !services.includes(service));
  const service = pick(Object.keys(document.services));
  const weight = (): number => 1 + upTo(9);
  const extra = document.policies.filter(({ name }) => name !== 'all').map(({ name }) => name);
  const policy = (): object => ({
    name: `p${upTo(1e9)}`,
    priority: upTo(5),
    match: { protocol: 'tcp', destination_port: pick(ports), ...(dice() < 0.5 ? { source_port: `${pick([1024, 20_000, 40_000])}-${pick([50_000, 65_535])}` } : {}) },
    ...(dice() < 0.2 ? { action: 'pass' } : { chain: pick(Object.keys(document.chains)) }),
  });
  const swapped = (): readonly string[] => {
    const [i, j] = [upTo(services.length), upTo(services.length)];
    return services.with(i, services[j] ?? '').with(j, services[i] ?? '');
  };
  const edits: AnyEdit[] = [
    ['chain.set', { chain, services: swapped(), existing }],
    ['instance.weight', { service, instance: pick(document.services[service]?.instances ?? []).name, weight: weight() }],
  ];
  if (absent.length > 0) {
    edits.push(['chain.insert', { chain, service: pick(absent), [pick(['after', 'before'])]: pick(services), existing }]);
    edits.push(['chain.replace', { chain, service: pick(services), with: pick(absent), existing }]);
  }
  if (services.length > 1) edits.push(['chain.remove', { chain, service: pick(services), existing }]);
  if (extra.length < MOST_POLICIES) edits.push(['policy.add', { policy: policy(), before: pick(document.policies).name }]);
  if (extra.length > 0) {
    edits.push(['policy.remove', { policy: pick(extra) }]);
    edits.push(['config.patch', { patch: { policies: document.policies.toSorted(() => dice() - 0.5), chains: { [chain]: Array.isArray(document.chains[chain]) ? swapped() : { services: swapped() } } }, existing }]);
  }
  return pick(edits);
}

export interface Race {
  /** `METHOD PARAMS`, in the order in which they came into force. */
  readonly made: readonly string[];
  /** Edits that another one had overtaken. */
  readonly outrun: number;
  /** Whatever else was refused. */
  readonly refused: readonly string[];
  /** Every path that there was, by id. */
  readonly paths: ReadonlyMap<number, KnownPath>;
}

interface ChainView {
  readonly paths: readonly KnownPath[];
}

/** Two editors; both make an edit at each turn, of the document that they read, and again if the other one was faster. */
export async function race(options: { readonly socket: string; readonly edits: number; readonly everyMs: number; readonly seed: number; readonly ports: readonly number[] }): Promise<Race> {
  const made: string[] = [];
  const refused: string[] = [];
  const paths = new Map<number, KnownPath>();
  let outrun = 0;
  const clients = await Promise.all([ControlClient.connect(options.socket), ControlClient.connect(options.socket)]);
  const learn = async (client: ControlClient): Promise<void> => {
    for (const chain of await client.call<ChainView[]>('chains')) {
      for (const { id, services } of chain.paths) {
        const before = paths.get(id);
        if (before !== undefined && before.services.join() !== services.join()) refused.push(`path ${id} was [${before.services.join(', ')}] and is [${services.join(', ')}]`);
        paths.set(id, { id, services });
      }
    }
  };
  const edit = async (client: ControlClient, dice: () => number): Promise<void> => {
    while (refused.length === 0) {
      const { generation, document } = await client.call<{ generation: number; document: EditedDocument }>('config.get');
      const [method, params] = anyEdit(document, options.ports, dice);
      try {
        const answer = await client.call<{ generation: number }>(method, { ...params, if_generation: generation });
        if (answer.generation === generation) continue; // it said what was so already
        made.push(`${method} ${JSON.stringify(params)}`);
        // Before the next one: a path without streams is forgotten after two seconds.
        return await learn(client);
      } catch (error) {
        if (error instanceof RpcError && error.code === OTHER_GENERATION) outrun++;
        else refused.push(`${method} ${JSON.stringify(params)}: ${(error as Error).message}`);
      }
    }
  };
  const begun = Date.now();
  const dice = [random(options.seed), random(options.seed + 1)] as const;
  await learn(clients[0]);
  for (let turn = 0; made.length < options.edits && refused.length === 0; turn++) {
    const early = begun + turn * options.everyMs - Date.now();
    if (early > 0) await new Promise((due) => setTimeout(due, early));
    await Promise.all(clients.map((client, i) => edit(client, dice[i as 0 | 1])));
  }
  clients.forEach((client) => client.close());
  return { made, outrun, refused, paths };
}
