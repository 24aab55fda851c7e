/** What can't change while weir runs: sockets are open, tables allocated, keys in use. */
import type { Configuration } from './configuration.js';
import { PathsOnly } from './document.js';
import type { ConfigError } from './errors.js';
import { same } from './share.js';

const FIXED: readonly { readonly path: readonly string[]; readonly of: (configuration: Configuration) => unknown }[] = [
  { path: ['captures'], of: ({ captures }) => captures },
  { path: ['underlay'], of: ({ underlays }) => underlays },
  { path: ['port'], of: ({ port }) => port },
  { path: ['workers'], of: ({ workers }) => workers },
  { path: ['flows', 'max'], of: ({ flows }) => flows.max },
  { path: ['control'], of: ({ control }) => control },
  { path: ['metrics'], of: ({ metrics }) => metrics },
  { path: ['state_dir'], of: ({ stateDir }) => stateDir },
  { path: ['load'], of: ({ load }) => load },
  { path: ['mesh'], of: ({ mesh }) => mesh },
  { path: ['affinity_key'], of: ({ affinityKeyFile }) => affinityKeyFile },
];

export function checkFixed(before: Configuration, after: Configuration): ConfigError[] {
  const places = new PathsOnly('document');
  return FIXED.filter(({ of }) => !same(of(before), of(after))).map(({ path, of }) => {
    const [was, is] = [of(before), of(after)];
    const change = typeof was === 'object' || typeof is === 'object' ? '' : ` from ${JSON.stringify(was)} to ${JSON.stringify(is)}`;
    return places.error(path, `can't change${change} while weir runs, it needs a restart: put it into the file and start weir with that (\`weir run --config FILE --force-config\`)`, JSON.stringify(was), is);
  });
}
