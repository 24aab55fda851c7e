/** Limits that configuration and control share with native code (native/engine/program.h). */
export const MAX_HOPS = 32;
