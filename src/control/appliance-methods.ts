/** The methods of a manager's control socket. */
import type { PlainDocument } from '../config/configuration.js';
import { ChangeRefused } from '../config/refused.js';
import type { ManagerServer } from '../appliance/server.js';
import type { ApplianceStatus } from '../appliance/status.js';
import type { Logger } from '../observe/log.js';
import { ACCEPTED, type Who } from '../observe/who.js';
import type { AnyMethod } from './method.js';

export interface ManagerContext {
  readonly server: ManagerServer;
  readonly log: Logger;
  readonly who: Who;
  readonly shutdown: (who: Who) => void;
}

/** With what this manager has refused, by reason. */
export type StatusAnswer = ApplianceStatus & { readonly refused: Readonly<Record<string, number>> };

export const APPLIANCE_METHODS: Readonly<Record<string, AnyMethod<ManagerContext>>> = {
  'appliance.apply': {
    description: 'Puts the document of an appliance in force.',
    params: { type: 'object', required: ['document'], properties: { document: { type: 'object' }, dry_run: { type: 'boolean' } }, additionalProperties: false },
    run: async ({ document, dry_run: dryRun = false }: { document: PlainDocument; dry_run?: boolean }, { server, log, who }: ManagerContext) => {
      const applied = await server.manager.apply(document, dryRun);
      if (!dryRun && applied.changes.length > 0) log.info({ who, [ACCEPTED]: true }, `appliance applied by ${who}: ${applied.changes.slice(0, 5).join('; ')}`);
      return { ...applied, who: String(who) };
    },
  },
  'appliance.scale': {
    description: 'Has so many units serve.',
    params: { type: 'object', required: ['units'], properties: { units: { type: 'integer', minimum: 1, maximum: 256 } }, additionalProperties: false },
    run: ({ units }: { units: number }, { server, who }: ManagerContext) => server.manager.scale(units, `asked for by ${who}`),
  },
  'appliance.status': {
    description: 'Managers, dispatchers and units, and which maps there are.',
    params: { type: 'object', properties: {}, additionalProperties: false },
    run: (_: never, { server }: ManagerContext): StatusAnswer => {
      const status = server.manager.status();
      if (status === null) throw new ChangeRefused('there is no appliance yet: `weir appliance apply FILE` first', 'appliance');
      return { ...status, refused: server.refusals.counts as Record<string, number> };
    },
  },
  shutdown: {
    description: 'Ends the manager as SIGTERM does. Dispatchers and units go on.',
    params: { type: 'object', properties: {}, additionalProperties: false },
    run: (_: never, { shutdown, who }: ManagerContext) => {
      shutdown(who);
      return { stopping: true, who: String(who) };
    },
  },
};
