/** Which port number is which interface: the first underlay, then `in` and `out` of each capture, then the other underlays, then what instances are attached to. */

/** A configuration or a program. */
export interface Numbered {
  readonly captures: readonly unknown[];
  readonly underlays: readonly unknown[];
}

export type PortRole =
  | { readonly kind: 'underlay'; readonly underlay: number }
  | { readonly kind: 'in' | 'out'; readonly capture: number }
  | { readonly kind: 'attached' };

/** Port 0 is kept for an underlay also where there is none. */
export const firstProxyPort = ({ captures, underlays }: Numbered): number => 2 * captures.length + Math.max(1, underlays.length);

export const underlayPort = (underlay: number, { captures }: Pick<Numbered, 'captures'>): number => (underlay === 0 ? 0 : 2 * captures.length + underlay);

export function roleOf(port: number, numbered: Numbered): PortRole {
  if (port === 0) return { kind: 'underlay', underlay: 0 };
  const captured = 2 * numbered.captures.length;
  if (port <= captured) return { kind: port % 2 === 1 ? 'in' : 'out', capture: (port - 1) >> 1 };
  return port < firstProxyPort(numbered) ? { kind: 'underlay', underlay: port - captured } : { kind: 'attached' };
}

export const isUnderlayPort = (port: number, numbered: Numbered): boolean => roleOf(port, numbered).kind === 'underlay';
