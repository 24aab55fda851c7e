/** `10.20.0.1`, `10.20.0.1:4793`, `[fd20::1]:4793`: where on the underlay somebody listens. */
import { canonical, parseAddress } from './address.js';

/** Null where it is neither an address nor an address and a port. */
export function parsePlace(text: string, port: number): { readonly address: string; readonly port: number } | null {
  const [, bracketed, plain, portText] = /^(?:\[([^\]]+)\]|([^:]+|[^:]*:[^:]*:.*?))(?::([0-9]{1,5}))?$/.exec(text) ?? [];
  const whole = parseAddress(text) === null ? (bracketed ?? plain ?? '') : text;
  const given = whole === text ? port : Number(portText ?? port);
  return parseAddress(whole) === null || given < 1 || given > 65_535 ? null : { address: canonical(whole), port: given };
}
