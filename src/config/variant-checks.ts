/** The checks of `switches:` and `configurations:`. */
import { checkCondition, type Known } from './condition-checks.js';
import type { PathStep } from './document.js';
import { isObject, list, type Report } from './report.js';

export type UnknownName = (path: readonly PathStep[], what: string, name: unknown, known: ReadonlySet<string>) => void;

export interface VariantTools {
  readonly report: Report;
  readonly unknownName: UnknownName;
  readonly duration: Known['duration'];
  readonly unique: (path: readonly PathStep[], value: unknown, owner: string) => void;
  readonly policies: (value: unknown, path: readonly PathStep[]) => void;
}

/** Both forms, a list with names and a mapping, and where each stands. */
export function variantsOf(raw: unknown): { readonly name: unknown; readonly variant: unknown; readonly path: readonly PathStep[] }[] {
  if (Array.isArray(raw)) return raw.map((variant: unknown, i) => ({ name: isObject(variant) ? variant['name'] : undefined, variant, path: ['configurations', i] }));
  return isObject(raw) ? Object.entries(raw).map(([name, variant]) => ({ name, variant, path: ['configurations', name] })) : [];
}

/** At the top level and of each named configuration, with where they stand. */
export function policyLists(raw: Readonly<Record<string, unknown>>): { readonly policies: readonly unknown[]; readonly path: readonly PathStep[] }[] {
  const variants = variantsOf(raw['configurations']);
  return [{ policies: list(raw['policies']), path: ['policies'] }, ...variants.map(({ variant, path }) => ({ policies: list(isObject(variant) ? variant['policies'] : []), path: [...path, 'policies'] }))];
}

export function checkVariants(raw: Readonly<Record<string, unknown>>, tools: VariantTools): void {
  const { captures, services, switches } = raw;
  const names = {
    service: new Set(Object.keys(isObject(services) ? services : {})),
    capture: new Set(list(captures).flatMap((capture) => (isObject(capture) && typeof capture['name'] === 'string' ? [capture['name']] : []))),
    switch: new Set(Object.keys(isObject(switches) ? switches : {})),
  };
  const known: Known = {
    report: tools.report,
    duration: tools.duration,
    unknownName: (path, what, name) => {
      tools.unknownName(path, what, name, names[what as keyof typeof names]);
    },
  };
  for (const { name, variant, path } of variantsOf(raw['configurations'])) {
    if (!isObject(variant)) continue;
    if (Array.isArray(raw['configurations'])) tools.unique([...path, 'name'], name, 'another configuration');
    checkCondition(variant['when'], [...path, 'when'], known);
    tools.policies(variant['policies'], [...path, 'policies']);
  }
}
