// Sends stamped frames (nsh) of many streams to a service instance, as fast as one core can.
#include <vector>

#include "packet_socket.h"
#include "run_time.h"
#include "wire/ip.h"
#include "wire/transport.h"
#include "wire/vxlan_nsh.h"

using namespace weir;
using namespace weir::bench;

namespace {

constexpr const char* kUsage =
    "stamper INTERFACE MAC LENGTH STREAMS SECONDS\n"
    "Sends inner UDP frames of LENGTH bytes (60 to 1514) from STREAMS sources (1 to 1048576) behind NSH, from 10.20.0.1 to 10.20.0.11 at\n"
    "MAC (twelve hexadecimal digits). Ends after SECONDS (0: never), or on SIGTERM.";

constexpr uint32_t kOuterHeaders = 14 + kIpv4Header + kUdpHeader, kHeaders = 14 + kIpv4Header + kUdpHeader;

class StampedFrame {
 public:
  StampedFrame(const uint8_t mac[6], uint32_t length) : bytes_(kOuterHeaders + kNshStamp + length), length_(length) {
    uint8_t* f = bytes_.data();
    std::memcpy(f, mac, 6);
    static constexpr uint8_t kFrom[8] = {2, 0, 0, 0, 0, 1, 8, 0};
    std::memcpy(f + 6, kFrom, sizeof kFrom);
    write_ip(f + 14, 0x0a140001, 0x0a14000b, uint32_t(bytes_.size()) - 14);
    store16(f + 36, kVxlanGpePort);
    store16(f + 38, uint16_t(bytes_.size() - 34));
    uint8_t* inner = f + kOuterHeaders + kNshStamp;
    static constexpr uint8_t kInner[14] = {2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 2, 8, 0};
    std::memcpy(inner, kInner, sizeof kInner);
    store16(inner + 36, 9);
    store16(inner + 38, uint16_t(length - 34));
  }
  // The code of a real stream is a keyed hash; here any mixing of its number does.
  void set_stream(uint32_t stream) {
    uint8_t* f = bytes_.data();
    const uint32_t code = (stream + 1) * 2654435761u;
    store16(f + 34, uint16_t(49152 + code % 16384));
    write_nsh(f + kOuterHeaders, {.spi = 10, .si = 255, .ttl = 63, .code = code});
    uint8_t* inner = f + kOuterHeaders + kNshStamp;
    write_ip(inner + 14, 0x0a400000 + (stream >> 12), 0x0a090103, length_ - 14);
    store16(inner + 34, uint16_t(16384 + (stream & 4095)));
  }
  uint8_t* bytes() { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }

 private:
  static void write_ip(uint8_t* ip, uint32_t from, uint32_t to, uint32_t length) {
    ip[0] = 0x45;
    store16(ip + 2, uint16_t(length));
    store16(ip + 6, Ipv4::kDontFragment);
    ip[8] = 64;
    ip[9] = kIpUdp;
    store32(ip + 12, from);
    store32(ip + 16, to);
    Ipv4::finish(ip);
  }
  std::vector<uint8_t> bytes_;
  uint32_t length_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6 || std::strlen(argv[2]) != 12) usage(kUsage);
  uint8_t mac[6];
  for (int i = 0; i < 6; i++) {
    const char digits[3] = {argv[2][2 * i], argv[2][2 * i + 1], 0};
    mac[i] = uint8_t(std::strtoul(digits, nullptr, 16));
  }
  const uint32_t length = uint32_t(number_argument(argv[3], kUsage)), streams = uint32_t(number_argument(argv[4], kUsage));
  const double seconds = number_argument(argv[5], kUsage);
  if (length < 60 || length > 1514 || streams < 1 || streams > 1 << 20) usage(kUsage);
  PacketSocket out(argv[1], kSendOnly, false, true);
  SendBatch batch(out);
  std::vector<StampedFrame> frames;
  for (uint32_t i = 0; i < SendBatch::kFrames; i++) frames.emplace_back(mac, length);
  RunTime time(seconds);
  say_ready();
  uint64_t queued = 0;
  while (!time.over()) {
    for (uint32_t i = 0; i < SendBatch::kFrames; i++, queued++) {
      StampedFrame& frame = frames[i];
      frame.set_stream(uint32_t(queued % streams));
      batch.add(frame.bytes(), frame.size());
    }
    batch.flush();
  }
  Report("stamper").count("sent", out.sent).count("send_errors", out.send_errors).count("streams", streams).count("length", length).print(time);
}
