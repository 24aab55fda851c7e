/** What `meter` may be told. */
const duration = { type: 'string', pattern: '^[0-9]+(ms|s|m|h)$', description: 'A duration with its unit: 500ms, 350s, 5m, 2h.' } as const;

export interface MeterSettings {
  readonly export?: { readonly directory: string; readonly format?: 'csv' | 'json'; readonly interval?: string };
  readonly max_hosts?: number;
}

export const schema = {
  type: 'object',
  additionalProperties: false,
  properties: {
    export: {
      type: 'object',
      additionalProperties: false,
      required: ['directory'],
      description: 'Where accounts are written.',
      properties: {
        directory: { type: 'string', minLength: 1, description: 'Made if it is not there.' },
        format: { enum: ['csv', 'json'], description: 'csv: streams.csv and hosts.csv. json: meter.json. Default csv.' },
        interval: { ...duration, description: 'A duration with its unit: 10s, 5m. Default: on SIGUSR2 and at the end only.' },
      },
    },
    max_hosts: { type: 'integer', minimum: 1, maximum: 10000000, description: 'Hosts with an account of their own; all others share one. Default 10000.' },
  },
} as const;
