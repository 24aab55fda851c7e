import type { Options } from 'ajv';

/**
 * Of schemas that are our own and used for little data: that they are schemas is for tests to see, and making the validators faster
 * takes longer than they run. Together that is two thirds of what a start spends on them.
 */
export const OWN_SCHEMA: Options = { strict: false, allowUnionTypes: true, validateSchema: false, code: { optimize: false } };

/** For people: everything that is wrong, with the rule that says so. */
export const ALL_ERRORS: Options = { ...OWN_SCHEMA, allErrors: true, verbose: true };
