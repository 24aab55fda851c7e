/** The methods of conditional configurations. */
import { conditionsView } from '../conditions/view.js';
import type { Context, Method } from './method.js';

export const CONDITION_METHODS: Readonly<Record<string, Method>> = {
  conditions: {
    description: 'Named configurations and their conditions: what holds, since when, and what switches next.',
    params: { type: 'object', properties: {}, additionalProperties: false },
    run: (_: never, { dataplane }: Context) => conditionsView(dataplane.conditions, dataplane.configuration),
  },
  'condition.switch': {
    description: 'Turns a switch that conditions ask for.',
    params: { type: 'object', required: ['name', 'on'], properties: { name: { type: 'string', minLength: 1, maxLength: 255 }, on: { type: 'boolean' } }, additionalProperties: false },
    run: ({ name, on }: { name: string; on: boolean }, { dataplane, who }: Context) => dataplane.setSwitch(name, on, who),
  },
};
