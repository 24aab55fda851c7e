/**
 * `mark`: writes its name into test packets, so that the receiver sees who handled them and in which order. A test packet is
 * UDP with a payload that begins with `weir-test`; each node appends `|name`. Everything else is forwarded as it is.
 */
import { UDP } from '../packet.js';
import type { ServiceFunction } from '../service-function.js';

const MARKER = Buffer.from('weir-test');

export const mark = (): ServiceFunction<null> => ({
  name: 'mark',
  newStream: () => null,
  onPacket(packet, _stream, node) {
    if (packet.version === 0 || packet.protocol !== UDP || packet.fragment) return 'forward';
    const { payload } = packet;
    if (!MARKER.equals(payload.subarray(0, MARKER.length))) return 'forward';
    return { replace: packet.withPayload(Buffer.concat([payload, Buffer.from(`|${node.name}`)])) };
  },
});
