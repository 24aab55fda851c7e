/** Every packet that came in has gone somewhere: out, dropped for a reason, or it is held. From `stats`; see NativeCounters. */
export interface Accounts {
  readonly captured: { readonly packets: number };
  readonly returned: { readonly packets: number };
  readonly stamped: { readonly packets: number };
  readonly proxied: { readonly packets: number };
  readonly delivered: { readonly packets: number };
  readonly crossed: { readonly packets: number };
  readonly cut: number;
  readonly held: number;
  readonly neighbourAnswers: number;
  readonly probesAnswered: number;
  readonly dropped: Readonly<Record<string, number>>;
}

export const came = (s: Accounts): number => s.captured.packets + s.returned.packets + s.cut;
export const droppedOf = ({ dropped }: Accounts): number => Object.values(dropped).reduce((sum, n) => sum + n, 0);
export const went = (s: Accounts): number =>
  s.stamped.packets + s.proxied.packets + s.delivered.packets + s.crossed.packets + s.neighbourAnswers + s.probesAnswered + droppedOf(s) + s.held;
/** Packets of which nothing is known; below 0: that came from nowhere. */
export const unaccounted = (s: Accounts): number => came(s) - went(s);
export const reasons = ({ dropped }: Accounts): string =>
  Object.entries(dropped)
    .filter(([, n]) => n > 0)
    .map(([reason, n]) => `${reason} ${n}`)
    .join(', ') || 'none';
