/** `weir check`: what is wrong with a configuration, or with the document of an appliance. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { parseAppliance, type ApplianceConfig } from '../appliance/document.js';
import { formatErrors } from '../config/errors.js';
import { Failure } from '../failure.js';
import { configurationFrom } from './documents.js';

/** Null: the file is no document of an appliance. Throws a Failure that lists every error. */
function applianceIn(file: string): ApplianceConfig | null {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return null; // which is said of configurations, too
  }
  if (!/^(\{\s*)?["']?appliance["']?\s*:/m.test(text)) return null;
  const loaded = parseAppliance(text, file);
  if (!loaded.ok) throw new Failure(formatErrors(loaded.errors), 2);
  return loaded.appliance;
}

export function registerCheck(program: Command): void {
  program
    .command('check')
    .description('check a configuration, or the document of an appliance, and say everything that is wrong with it')
    .argument('<file>', 'configuration or appliance (YAML)')
    .action((file: string) => {
      const appliance = applianceIn(file);
      if (appliance !== null) {
        const { name, units, dispatchers, managers } = appliance;
        return console.log(`${file} is valid: appliance ${name}, ${units.length} units, ${dispatchers.length} dispatchers, ${managers.length} managers.`);
      }
      const { captures, chains, policies, services } = configurationFrom(file);
      console.log(`${file} is valid: ${captures.length} captures, ${services.length} services, ${chains.length} chains, ${policies.length} policies.`);
    });
}
