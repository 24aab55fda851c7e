/** How long a stamped packet may be on its way to an instance. */
import type { NativeInstance, NativeProgram } from '../dataplane/native-program.js';

/** As native code reckons it: by the instance's underlay and by what is known of the way behind that. Null: it gets no stamped packets, or is not found yet. */
export function wayMtu({ underlays }: Pick<NativeProgram, 'underlays'>, instance: Pick<NativeInstance, 'mac' | 'attach' | 'underlay' | 'mtu'> | undefined): number | null {
  if (instance === undefined || instance.attach !== null || instance.mac === null) return null;
  return Math.min(underlays[instance.underlay ?? 0]?.mtu ?? 65_535, instance.mtu ?? 65_535);
}
