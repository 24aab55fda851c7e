/** What the checks of a document share: how an error is said, and looking into values of unknown shape. */
import type { PathStep } from './document.js';

export type Report = (path: readonly PathStep[], message: string, expected: string, found: unknown) => void;

export const isObject = (value: unknown): value is Record<string, unknown> => value !== null && typeof value === 'object' && !Array.isArray(value);
export const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
export const entries = (value: unknown): [string, unknown][] => (isObject(value) ? Object.entries(value) : []);
