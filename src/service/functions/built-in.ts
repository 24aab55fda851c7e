/** The functions that come with weir. Each is loaded and made anew by the thread that runs it. */
import type { ServiceFunction } from '../service-function.js';

/** Done wholly in native code. */
export const PASS = 'pass';

export const BUILT_IN: Readonly<Record<string, () => Promise<ServiceFunction>>> = {
  meter: async () => (await import('./meter.js')).meter() as ServiceFunction,
  firewall: async () => (await import('./firewall.js')).firewall() as ServiceFunction,
  ids: async () => (await import('./ids.js')).ids() as ServiceFunction,
  mark: async () => (await import('./mark.js')).mark() as ServiceFunction,
};
