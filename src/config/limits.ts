/** Limits that configuration and control share with native code (native/engine/program.h). */
export const MAX_HOPS = 32;
/** Rules that all policies together may become: 64 MB of rows. */
export const MAX_RULES = 1_000_000;
/** UDP port of load reports, unless the document says another. */
export const REPORT_PORT = 4793;
/** A year, as native code takes it for an idle timeout. */
export const MAX_DURATION_MS = 31_536_000_000;

/** A chain without services would let streams past every inspection: whoever wants that says so in the policy. */
export const AT_LEAST_ONE_SERVICE = 'at least one service (for streams that are to cross unchanged, a policy has `action: pass` instead of a chain)';
