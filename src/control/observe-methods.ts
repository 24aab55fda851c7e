/** The methods of those who watch: metrics, and what a capture of an instance's traffic needs to know. */
import type { ServiceConfig } from '../config/configuration.js';
import { underlayLabel } from '../config/underlays.js';
import { ChangeRefused } from '../config/refused.js';
import { metricsText } from '../dataplane/metrics.js';
import { VERSION } from '../version.js';
import type { Dataplane } from '../dataplane/dataplane.js';
import type { Context, Method } from './method.js';

export interface CaptureTarget {
  /** That of the underlay that all of them are reached by. */
  readonly interface: string;
  /** Names (`service/instance`) and addresses of what is captured. */
  readonly instances: readonly { readonly name: string; readonly address: string }[];
}

/** `service/instance`, or a service for all of its instances. Throws a ChangeRefused. */
function instancesOf(services: readonly ServiceConfig[], wanted: string): CaptureTarget['instances'] {
  const [serviceName = '', instanceName] = wanted.split('/');
  const service = services.find(({ name }) => name === serviceName);
  if (service === undefined) throw new ChangeRefused(`there is no service "${serviceName}"; there are: ${services.map(({ name }) => name).join(', ') || 'none'}`, 'instance');
  const named = service.instances.map(({ name, address, attach }) => ({ name: `${service.name}/${name}`, address, attach }));
  const meant = instanceName === undefined ? named : named.filter(({ name }) => name === wanted);
  const found = meant.flatMap(({ name, address, attach }) => (address === null || attach !== null ? [] : [{ name, address }]));
  const [attached] = meant.flatMap(({ name, attach }) => (attach === null ? [] : [{ name, attach }]));
  if (found.length === 0 && attached !== undefined) {
    const { name, attach } = attached;
    throw new ChangeRefused(`${name} is attached and gets no stamps, so its packets are those of the workload: ${attach.kind === 'bump' ? `tcpdump -i ${attach.in}` : `tcpdump host ${attach.in}`} shows them`, 'instance');
  }
  if (found.length === 0) throw new ChangeRefused(`service "${serviceName}" has no instance "${instanceName ?? ''}"; it has: ${service.instances.map(({ name }) => name).join(', ') || 'none'}`, 'instance');
  return found;
}

/** Those of one underlay: a capture looks at one interface. Throws a ChangeRefused. */
function onOne({ configuration: { underlays }, program }: Dataplane, instances: CaptureTarget['instances'], wanted: string | undefined): { readonly underlay: number; readonly instances: CaptureTarget['instances'] } {
  const reached = new Map(program.instances.map(({ address, underlay = 0 }) => [address, underlay]));
  const labels = underlays.map(underlayLabel);
  const named = wanted === undefined ? null : labels.indexOf(wanted);
  if (named !== null && named < 0) throw new ChangeRefused(`there is no underlay "${wanted}"; there are: ${labels.join(', ')}`, 'underlay');
  const by = (underlay: number): CaptureTarget['instances'] => instances.filter(({ address }) => (reached.get(address) ?? 0) === underlay);
  const used = labels.flatMap((label, i) => (by(i).length === 0 ? [] : [{ label, underlay: i, instances: by(i) }]));
  const [first, second] = named === null ? used : used.filter(({ underlay }) => underlay === named);
  if (first === undefined) throw new ChangeRefused(`none of them is reached by underlay ${wanted}: ${used.map(({ label, instances: own }) => `${own.map(({ name }) => name).join(', ')} by ${label}`).join('; ')}`, 'underlay');
  if (second !== undefined) throw new ChangeRefused(`they are reached by several underlays, and a capture looks at one: ${used.map(({ label, instances: own }) => `${label} (${own.map(({ name }) => name).join(', ')})`).join(', ')}; say which, with --underlay NAME`, 'underlay');
  return first;
}

export const OBSERVE_METHODS: Readonly<Record<string, Method>> = {
  metrics: {
    description: 'Every counter in the Prometheus text format.',
    params: { type: 'object', properties: {}, additionalProperties: false },
    run: (_: never, { dataplane }: Context) => metricsText(dataplane, VERSION),
  },
  'capture.open': {
    description: 'Where the traffic of an instance passes; until this connection ends, other packet sockets of the host see it.',
    params: { type: 'object', required: ['instance'], properties: { instance: { type: 'string', minLength: 1, maxLength: 255 }, underlay: { type: 'string', minLength: 1, maxLength: 63 } }, additionalProperties: false },
    run: ({ instance, underlay: wanted }: { instance: string; underlay?: string }, { dataplane, who, log, atEnd }: Context): CaptureTarget => {
      const { underlays, services } = dataplane.configuration;
      if (underlays.length === 0) throw new ChangeRefused('this weir has no underlay, so nothing goes to instances', 'instance');
      const { underlay, instances } = onOne(dataplane, instancesOf(services, instance), wanted);
      const hide = dataplane.showUnderlay(underlay);
      log.info({ who, instance }, `capture of ${instance} begins (${who})`);
      atEnd(() => {
        hide();
        log.info({ who, instance }, `capture of ${instance} ends (${who})`);
      });
      return { interface: underlays[underlay]?.interface ?? '', instances };
    },
  },
};
