/** Libraries that few of those who could need them do: read when they are first used, for reading them is most of what a short command does. */
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/** `name`: of a CommonJS package. */
export function lazily<Package>(name: string): () => Package {
  let read: Package | undefined;
  return () => (read ??= require(name) as Package);
}

export const yaml = lazily<typeof import('yaml')>('yaml');
