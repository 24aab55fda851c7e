// Target: the reader of frames and packets from outside. Whatever it steers lies within the bytes that there are.
#include "engine/flow_key.h"
#include "engine/packet.h"
#include "fuzz_input.h"

using namespace weir;
using namespace weir::fuzz;

namespace {

void check(const Packet& p, uint32_t length) {
  if (p.verdict != Packet::Verdict::steer) return;
  CLAIM(p.version == 4 || p.version == 6);
  CLAIM(p.ip + (p.version == 4 ? kIpv4Header : kIpv6Header) <= p.transport);
  CLAIM(p.transport <= p.payload);
  CLAIM(p.payload <= p.end);
  CLAIM(p.end <= length);
  CLAIM(!p.first_fragment || p.fragment);
  // Both directions of a stream are one stream.
  Tuple back = p.tuple;
  std::swap(back.source, back.destination);
  std::swap(back.source_port, back.destination_port);
  CLAIM(flow_key(p.tuple) == flow_key(back));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  Input input(bytes, size);
  const uint8_t kind = input.u8();
  const ExactFrame copy(input.bytes(input.left()), 0, kind & 2 ? 1 : 0);
  Packet packet;
  if (kind & 1) {
    parse_ip(copy.frame.bytes, copy.frame.length, copy.frame.wire_length, packet);
  } else {
    parse_frame(copy.frame, packet);
  }
  check(packet, copy.frame.length);
  return 0;
}
