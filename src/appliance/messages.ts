/** What members of an appliance say to a manager and a manager to them. Reading says what is wrong instead of throwing. */
import type { ValidateFunction } from 'ajv';
import { OWN_SCHEMA } from '../config/own-schema.js';
import { validatorOf } from '../validator.js';
import type { Message } from './channel.js';
import type { Rollout } from './rollout.js';

/** Of a manager's words: newer ones have a higher term, or the same and a higher revision. */
export interface Edition {
  readonly term: number;
  readonly revision: number;
}
export const NO_EDITION: Edition = { term: 0, revision: 0 };
export const isNewer = (a: Edition, b: Edition): boolean => a.term > b.term || (a.term === b.term && a.revision > b.revision);
export const sameEdition = (a: Edition, b: Edition): boolean => a.term === b.term && a.revision === b.revision;

export interface UnitReport extends Edition {
  readonly type: 'unit';
  readonly name: string;
  readonly service: string;
  readonly address: string;
  /** Of its process: another one begins with no streams. */
  readonly session: string;
  /** Streams that it serves. */
  readonly streams: number;
  /** [version, streams, …]: by the newest map that has them there. */
  readonly needs: readonly number[];
  /** Null: not known. */
  readonly cpu: number | null;
  readonly packetsPerSecond: number | null;
  readonly opened: number;
  readonly openedMidstream: number;
  readonly passedOn: number;
  readonly takenUp: number;
}

export interface DispatcherReport extends Edition {
  readonly type: 'dispatcher';
  readonly name: string;
  /** On the underlay. */
  readonly addresses: readonly string[];
  /** Made of the affinity key: members with another key find other units. */
  readonly fingerprint: string;
  /** Why it can't do what it was told; null: it can. */
  readonly error: string | null;
  readonly streams: number;
}

/** A manager's. The newer state counts. */
export interface ManagerReport extends Edition {
  readonly type: 'manager';
  readonly name: string;
  /** Null: it has none. */
  readonly state: ManagerState | null;
}

export interface ManagerState {
  /** As it was applied. */
  readonly document: Readonly<Record<string, unknown>>;
  /** How many units there are to be. */
  readonly count: number;
  readonly rollout: Rollout;
  /** Addresses of units, also of those that are no longer in the document and still have streams. */
  readonly places: Readonly<Record<string, string>>;
}

export interface UnitPart extends Edition {
  readonly type: 'unit_part';
  readonly service: string;
  readonly function: string;
  readonly settings: Readonly<Record<string, unknown>> | null;
  readonly epoch: number;
  readonly opened: number;
  readonly dispatchers: readonly string[];
  readonly units: readonly (readonly [name: string, address: string])[];
  /** Oldest first; members: [index of the unit, weight, …]. */
  readonly maps: readonly { readonly version: number; readonly members: readonly number[] }[];
}

export interface DispatcherPart extends Edition {
  readonly type: 'dispatcher_part';
  readonly service: string;
  readonly instances: readonly { readonly name: string; readonly address: string; readonly weight: number; readonly leaving: boolean }[];
}

/** Said every heartbeat, so that members know that it lives. */
export interface Beat extends Edition {
  readonly type: 'beat';
}

/** It does not take this member; the connection ends. */
export interface Refused {
  readonly type: 'refused';
  readonly why: string;
}

export type Report = UnitReport | DispatcherReport | ManagerReport;
export type Part = UnitPart | DispatcherPart;

const isText = (value: unknown): boolean => typeof value === 'string' && value.length <= 256;
const isCount = (value: unknown): boolean => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
const isLoad = (value: unknown): boolean => value === null || (typeof value === 'number' && Number.isFinite(value) && value >= 0 && value <= 1e12);
const isCounts = (value: unknown): boolean => Array.isArray(value) && value.length <= 1024 && value.every(isCount);

const number = { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER / 2 } as const;
const object = (properties: object): object => ({ type: 'object', required: Object.keys(properties), properties });
const each = (value: object): object => ({ type: 'object', additionalProperties: value });
const member = { type: 'array', minItems: 2, maxItems: 2, prefixItems: [{ type: 'string' }, { type: 'integer', minimum: 1, maximum: 65535 }] } as const;
/** Of what another manager gives to go on from: it may be of another version. */
export const stateSchema = object({
  document: { type: 'object' },
  count: number,
  places: each({ type: 'string' }),
  rollout: object({ term: number, revision: number, opened: number, told: number, leaving: each({ type: 'number' }), epochs: each(number), maps: { type: 'array', items: object({ version: number, members: { type: 'array', items: member } }) } }),
});
let validState: ValidateFunction | undefined;

function isState(value: unknown): boolean {
  validState ??= validatorOf(stateSchema, OWN_SCHEMA);
  return validState(value);
}

const FIELDS: Readonly<Record<Report['type'], Readonly<Record<string, (value: unknown) => boolean>>>> = {
  unit: { name: isText, service: isText, address: isText, session: isText, streams: isCount, needs: isCounts, cpu: isLoad, packetsPerSecond: isLoad, opened: isCount, openedMidstream: isCount, passedOn: isCount, takenUp: isCount },
  dispatcher: { name: isText, addresses: (value) => Array.isArray(value) && value.length <= 16 && value.every(isText), fingerprint: isText, error: (value) => value === null || (typeof value === 'string' && value.length <= 4096), streams: isCount },
  manager: { name: isText, state: (value) => value === null || isState(value) },
};

/** Null, and what is wrong, for what is no report. */
export function readReport(message: Message): { readonly report: Report } | { readonly wrong: string } {
  const fields = Object.hasOwn(FIELDS, message.type) ? FIELDS[message.type as Report['type']] : undefined;
  if (fields === undefined) return { wrong: `a manager takes no message "${message.type.slice(0, 40)}"` };
  for (const [key, good] of Object.entries({ term: isCount, revision: isCount, ...fields })) if (!good(message[key])) return { wrong: `its "${key}" makes no sense` };
  return { report: message as unknown as Report };
}
