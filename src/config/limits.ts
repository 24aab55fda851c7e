/** Limits that configuration and control share with native code (native/engine/program.h). */
export const MAX_HOPS = 32;
/** Rules that all policies together may become: 64 MB of rows. */
export const MAX_RULES = 1_000_000;
/** A year, as native code takes it for an idle timeout. */
export const MAX_DURATION_MS = 31_536_000_000;
