/** A service function by name or by the path of its module. */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Failure } from '../failure.js';
import { BUILT_IN, PASS } from './functions/built-in.js';
import type { ServiceFunction } from './service-function.js';

/** Throws a Failure if there can't be such a function. */
export function checkFunctionName(name: string): void {
  if (name === PASS || Object.hasOwn(BUILT_IN, name) || /[./]/.test(name)) return;
  throw new Failure(`there is no function "${name}"; built in: ${[PASS, ...Object.keys(BUILT_IN), 'deliver'].join(', ')}; or give the path of a module.`, 2);
}

/** A built-in, or the default export of a module file. */
export async function loadFunction(name: string): Promise<ServiceFunction> {
  checkFunctionName(name);
  if (Object.hasOwn(BUILT_IN, name)) return (BUILT_IN[name] as () => Promise<ServiceFunction>)();
  let module: { default?: ServiceFunction };
  try {
    module = (await import(pathToFileURL(resolve(name)).href)) as typeof module;
  } catch (error) {
    throw new Failure(`can't load the function ${name}: ${error instanceof Error ? error.message : String(error)}`, 2);
  }
  const loaded = module.default;
  if (typeof loaded?.onPacket !== 'function' && typeof loaded?.onBatch !== 'function') {
    throw new Failure(`${name}: expected a default export with onPacket(packet, stream, node) or onBatch(batch, node).`, 2);
  }
  return loaded;
}
