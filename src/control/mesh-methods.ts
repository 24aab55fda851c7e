/** The methods of mesh chains and synced services. */
import { ChangeRefused } from '../config/refused.js';
import type { Dataplane } from '../dataplane/dataplane.js';
import type { SyncReport } from '../mesh/hello.js';
import type { Context, Method } from './method.js';

/** What another instance does not have yet of the states that an instance says to it. */
export interface SyncView {
  readonly lag_ms: number;
  readonly waiting_streams: number;
  readonly fill_streams: number;
  readonly unprotected_states: number;
}

export interface MeshView {
  /** Version of the service map in force; 0: none yet. */
  readonly version: number;
  readonly lease_ms: number;
  /** Service nodes: those that are there have a session. `behind`: it has not said yet that it has this map. */
  readonly nodes: readonly { readonly instance: string; readonly session: string | null; readonly heard_ms_ago: number | null; readonly version: number; readonly behind: boolean; readonly sync: SyncView | null }[];
  /** Who serves the streams of each path, by service. */
  readonly paths: readonly { readonly path: number; readonly chain: string; readonly current: boolean; readonly members: Readonly<Record<string, readonly string[]>> }[];
  /** Messages refused, by reason. */
  readonly refused: Readonly<Record<string, number>>;
}

export function meshView(dataplane: Dataplane): MeshView {
  const { mesh } = dataplane;
  const settings = dataplane.configuration.mesh;
  if (mesh === undefined || settings === null) throw new ChangeRefused('this weir has no mesh: add `mesh: {key: {file: FILE}}` to the configuration', 'mesh');
  const version = mesh.map?.version ?? 0;
  return {
    version,
    lease_ms: settings.leaseMs,
    nodes: mesh.view().map(({ instance, session, ageMs, version: has, sync }) => ({ instance, session, heard_ms_ago: ageMs === null ? null : Math.round(ageMs), version: has, behind: session !== null && has !== version, sync: sync === null ? null : syncView(sync) })),
    paths: dataplane.paths.all().flatMap(({ id, chain, current, services, members }) => (members == null ? [] : [{ path: id, chain, current, members: Object.fromEntries(services.map((service, hop) => [service, (members[hop] ?? []).map(({ key }) => key)])) }])),
    refused: mesh.refusals.counts as Record<string, number>,
  };
}

const syncView = ({ lagMs, waitingStreams, fillStreams, unprotected }: SyncReport): SyncView => ({ lag_ms: lagMs, waiting_streams: waitingStreams, fill_streams: fillStreams, unprotected_states: unprotected });

export const MESH_METHODS: Readonly<Record<string, Method>> = {
  mesh: {
    description: 'Service nodes of mesh chains and synced services, the service map that they have, and how far their sync of state is behind.',
    params: { type: 'object', properties: {}, additionalProperties: false },
    run: (_: never, { dataplane }: Context) => meshView(dataplane),
  },
};
