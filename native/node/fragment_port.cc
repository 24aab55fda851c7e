#include "node/fragment_port.h"

#include <random>

#include "wire/ethernet.h"
#include "wire/ip.h"

namespace weir {

FragmentPort::FragmentPort(Port& port, const Address& own) : port_(port), own_(own) {
  std::random_device random;
  for (uint64_t& half : key_) half = uint64_t(random()) << 32 | random();
}

FragmentPort::Taken FragmentPort::take(const Frame& frame, uint64_t now_ns) {
  Taken taken;
  const OuterFragment f = read_outer_fragment(frame);
  if (f.kind == OuterFragment::Kind::none || f.destination != own_) return taken;
  fragments_.received++;
  if (f.kind == OuterFragment::Kind::malformed) {
    taken.way = Way::malformed;
    taken.lost = {1, frame.length};
    return taken;
  }
  const OuterReassembly::Result result = reassembly_.add(f, frame, now_ns, *this);
  taken.lost = result.lost;
  taken.pushed_out = result.pushed_out;
  taken.way = Way::kept;
  switch (result.outcome) {
    case OuterReassembly::Outcome::kept:
    case OuterReassembly::Outcome::left_out: break;
    case OuterReassembly::Outcome::overlap: taken.way = Way::overlap; break;
    case OuterReassembly::Outcome::too_long: taken.way = Way::too_long; break;
    case OuterReassembly::Outcome::whole:
      taken.way = Way::whole;
      taken.frame = result.frame;
      taken.longest = result.longest;
      fragments_.reassembled++;
  }
  return taken;
}

void FragmentPort::send(const OutFrame& frame) {
  if (frame.length() - kEthernetHeader <= mtu_) return port_.send(frame);
  const uint8_t* ip = frame.pieces[0].bytes + kEthernetHeader;
  const Address to = load16(frame.pieces[0].bytes + 12) == kEtherIpv6 ? Address::from_ipv6(ip + 24) : Address::from_ipv4(ip + 16);
  const uint32_t sent = cut_outer(frame, mtu_, ids_.next(key_, to), *this);
  if (sent == 0) return port_.send(frame);  // too long for anybody: the kernel counts it
  fragments_.fragmented++;
  fragments_.sent.add(sent);
}

}  // namespace weir
