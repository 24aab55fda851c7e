/** Parts that several schemas have. */
export const name = { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$', description: 'A name of at most 63 letters, digits, ".", "_" and "-".' } as const;
export const duration = { type: 'string', pattern: '^[0-9]+(ms|s|m|h)$', description: 'A duration with its unit: 500ms, 350s, 5m, 2h.' } as const;
