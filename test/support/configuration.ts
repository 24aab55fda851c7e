/** Configurations for tests. */
import { parseConfiguration } from '../../src/config/load.js';
import { formatErrors } from '../../src/config/errors.js';
import type { Configuration } from '../../src/config/configuration.js';

/** DESIGN's example: two services with two instances each, a chain, three actions. */
export const EXAMPLE = `
underlay:
  interface: eth1
captures:
  - {name: web, in: veth-web, out: eth0}
services:
  firewall:
    instances:
      - {name: fw-1, address: 10.20.0.11}
      - {name: fw-2, address: 10.20.0.12, weight: 2}
    affinity: 5-tuple
    on_failure: rebalance
    fail: closed
    health: {tcp: 8080, interval: 1s, timeout: 500ms, rise: 2, fall: 3}
  ids:
    instances: [{name: ids-1, address: 10.20.0.21}, {name: ids-2, address: 10.20.0.22}]
chains:
  inspect: [firewall, ids]
policies:
  - name: web-out
    match: {capture: web, protocol: tcp, source: 10.0.0.0/24, destination_port: [80, 443, 8000-8100]}
    chain: inspect
  - {name: no-telnet, priority: 100, match: {protocol: tcp, destination_port: 23}, action: drop}
default: pass
`;

/** Everything through firewall and ids. `more` is appended. */
export function steerAll(encapsulation: 'nsh' | 'geneve' = 'nsh', more = ''): string {
  return `
underlay: {interface: eth1}
captures: [{name: web, in: a, out: b}]
services:
  firewall: {instances: [{name: fw-1, address: 10.20.0.11}, {name: fw-2, address: 10.20.0.12}]}
  ids: {instances: [{name: ids-1, address: 10.20.0.21}, {name: ids-2, address: 10.20.0.22}]}
  added: {instances: [{name: add-1, address: 10.20.0.31}]}
chains: {inspect: {services: [firewall, ids], encapsulation: ${encapsulation}}}
policies: [{name: all, match: {}, chain: inspect}]
${more}
`;
}

export function valid(text: string): Configuration {
  const loaded = parseConfiguration(text, 'test.yaml');
  if (!loaded.ok) throw new Error(formatErrors(loaded.errors));
  return loaded.configuration;
}
