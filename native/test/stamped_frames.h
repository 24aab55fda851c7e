// Stamped frames as they are on the underlay, and a port that keeps what is sent.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>

#include "frames.h"
#include "port/port.h"

namespace weir::test {

class KeepingPort final : public Port {
 public:
  std::vector<Bytes> sent;
  std::span<const int> descriptors() const override { return {}; }
  uint32_t receive(PortId, Receiver&) override { return 0; }
  void release() override {}
  void send(const OutFrame& frame) override {
    Bytes& bytes = sent.emplace_back();
    for (const Piece& piece : frame.pieces) bytes.insert(bytes.end(), piece.bytes, piece.bytes + piece.length);
  }
  void flush() override {}
  PortCounters counters() const override { return {}; }
};

// 10.20.0.1 or fd20::1 is the forwarder; members are at .11, .12, .13.
inline Address at(bool ipv6, uint8_t last) {
  if (!ipv6) return ip(10, 20, 0, last);
  uint8_t bytes[16] = {0xfd, 0x20};
  bytes[15] = last;
  return Address::from_ipv6(bytes);
}
inline Mac mac(uint8_t last) { return {{2, 0, 0, 0, 0, last}}; }

inline Bytes stamped(bool ipv6, uint8_t from, uint8_t to, uint32_t code, uint8_t si = 255,
                     const Bytes& inner = hex("0200000000bb0200000000aa08004500002000010000401160ba0a01000208080808cf84270f000c0e5877656972")) {
  const Address source = at(ipv6, from), destination = at(ipv6, to);
  const Mac source_mac = mac(from), destination_mac = mac(to);
  const Tunnel tunnel{&source, &destination, &source_mac, &destination_mac, code, Encapsulation::nsh};
  Bytes stamp(stamp_length(Encapsulation::nsh));
  write_stamp(stamp.data(), Encapsulation::nsh, {.spi = 5, .si = si, .code = code}, 4);
  const Piece pieces[2] = {{stamp.data(), uint32_t(stamp.size())}, {inner.data(), uint32_t(inner.size())}};
  Bytes out(tunnel.outer_length());
  write_outer(out.data(), tunnel, pieces);
  out.insert(out.end(), stamp.begin(), stamp.end());
  out.insert(out.end(), inner.begin(), inner.end());
  return out;
}

inline StampedFrame outer_of(Bytes& bytes) {
  const Frame frame{bytes.data(), uint32_t(bytes.size()), uint32_t(bytes.size()), 0, {}, false};
  const StampedFrame outer = read_outer(frame);
  CHECK(outer.result == StampedFrame::Result::ok);
  CHECK(outer_checksum_ok(frame, outer));
  return outer;
}

inline bool goes_to(const Bytes& frame, const Mac& mac) { return std::equal(mac.bytes.begin(), mac.bytes.end(), frame.begin()); }

}  // namespace weir::test
