/** Commands as a user of its own with one capability, or with none; without tap's module for child processes, which writes to the checkout. */

/** Nobody's, so that nothing on the machine is theirs by accident. */
export const UID = 63_217;
export const STRANGER = 63_218;

const caps = (which: string): string[] => ['inh', 'ambient'].map((set) => `--${set}-caps=${which}`).concat(`--bounding-set=${which}`);

export const withNetRaw = (uid = UID, gid = UID): string[] => ['env', '-u', 'NODE_OPTIONS', 'setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', ...caps('-all,+net_raw'), '--no-new-privs'];
export const withNothing = (uid = UID, gid = UID): string[] => ['env', '-u', 'NODE_OPTIONS', 'setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', ...caps('-all'), '--no-new-privs'];
