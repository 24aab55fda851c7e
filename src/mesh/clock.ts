/** Milliseconds of the epoch as they were when the process began, and steady since: whoever sets the clock ends no lease. */
export const steadyMs = (): number => performance.timeOrigin + performance.now();
