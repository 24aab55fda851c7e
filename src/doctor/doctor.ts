/** All checks of `weir doctor`: of the host alone, or for a configuration. */
import type { Configuration } from '../config/configuration.js';
import { native } from '../dataplane/native.js';
import type { Finding, Level } from './finding.js';
import { interfaces } from './interfaces.js';
import { kernel } from './kernel.js';
import { privileges } from './privileges.js';
import { files, hostStack, memory, neighbours, ports } from './resources.js';

export interface Subject {
  /** Null: what can be said without one. */
  readonly configuration: Configuration | null;
  /** The control socket on which a weir answers, if one does: ports are taken then, and that is right. */
  readonly running: string | null;
}

export async function examine({ configuration, running }: Subject): Promise<Finding[]> {
  const general = [...privileges(), ...kernel(native.probeKernel()), ...hostStack()];
  if (configuration === null) return general;
  return [
    ...general,
    ...interfaces(configuration),
    ...files(configuration, running),
    ...(running === null ? await ports(configuration) : []),
    ...(await neighbours(configuration)),
    ...memory(configuration),
  ];
}

export function worst(findings: readonly Finding[]): Level {
  return (['fail', 'warn'] as const).find((level) => findings.some((finding) => finding.level === level)) ?? 'ok';
}
