/** Whether this process may do what weir does, and whether it may do more than that. */
import { CAPABILITIES, effectiveCapabilities } from '../dataplane/capabilities.js';
import { fail, ok, read, warn, type Finding } from './finding.js';

const LEAST_FILES = 256;

/** How to start a command with CAP_NET_RAW and nothing else as another user. */
export const AS_A_USER = 'sudo setpriv --reuid=weir --regid=weir --init-groups --inh-caps=-all,+net_raw --ambient-caps=-all,+net_raw --bounding-set=-all,+net_raw weir run --config FILE';

export function privileges(): Finding[] {
  const held = effectiveCapabilities();
  const findings: Finding[] = [];
  if (held.includes('net_raw')) findings.push(ok('privileges', 'CAP_NET_RAW is there'));
  else findings.push(fail('privileges', 'CAP_NET_RAW is missing, and packet sockets need it', `systemd: AmbientCapabilities=CAP_NET_RAW (examples/systemd/weir.service); by hand: ${AS_A_USER}`));
  const more = held.filter((name) => name !== 'net_raw');
  if (more.length > 0) {
    const which = more.length === CAPABILITIES.length - 1 ? 'every other one' : more.slice(0, 5).join(', ') + (more.length > 5 ? ` and ${more.length - 5} more` : '');
    findings.push(warn('privileges', `weir needs no capability but CAP_NET_RAW, and this process has ${which} too`, `run weir as a user of its own: ${AS_A_USER}`));
  }
  const files = Number(/^Max open files\s+(\d+)/m.exec(read('/proc/self/limits') ?? '')?.[1] ?? Infinity);
  if (files < LEAST_FILES) findings.push(warn('privileges', `at most ${files} files may be open: rings, sockets and control connections need more`, 'ulimit -n 1024; systemd: LimitNOFILE=1024'));
  return findings;
}
