// The floor for small packets: frames from one interface, copied behind 50 bytes of tunnel header, out of another in batches.
// Decides nothing: the header is the same for all but its lengths.
#include <memory>

#include "packet_socket.h"
#include "run_time.h"
#include "wire/ip.h"

using namespace weir;
using namespace weir::bench;

namespace {

constexpr const char* kUsage =
    "forwarder RECEIVE_INTERFACE SEND_INTERFACE SECONDS\n"
    "Copies every received frame behind Ethernet, IPv4, UDP and 8 bytes of tunnel header and sends it. SECONDS 0: until SIGTERM.";

constexpr uint32_t kHeader = 14 + 20 + 8 + 8, kRoom = 2048;

class Tunnel {
 public:
  Tunnel() {
    static constexpr uint8_t kEthernet[14] = {2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 0x77, 8, 0};
    std::memcpy(header_, kEthernet, sizeof kEthernet);
    uint8_t* ip = header_ + 14;
    ip[0] = 0x45;
    store16(ip + 6, Ipv4::kDontFragment);
    ip[8] = 64;
    ip[9] = 17;
    store32(ip + 12, 0x0a140001);  // 10.20.0.1
    store32(ip + 16, 0x0a14000b);  // 10.20.0.11
    store16(ip + 20, 49152);
    store16(ip + 22, 6081);
  }
  void write(uint8_t* at, uint32_t inner) {
    if (inner != inner_) {
      inner_ = inner;
      uint8_t* ip = header_ + 14;
      store16(ip + 2, uint16_t(kHeader - 14 + inner));
      store16(ip + 24, uint16_t(kHeader - 34 + inner));
      Ipv4::finish(ip);
    }
    std::memcpy(at, header_, kHeader);
  }

 private:
  uint8_t header_[kHeader] = {};
  uint32_t inner_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) usage(kUsage);
  RunTime time(number_argument(argv[3], kUsage));
  PacketSocket in(argv[1], kSmallFrames, false), out(argv[2], kSendOnly, false);
  SendBatch batch(out);
  const auto room = std::make_unique<uint8_t[][kRoom]>(SendBatch::kFrames);
  Tunnel tunnel;
  uint64_t too_long = 0;
  say_ready();
  while (!time.over()) {
    const bool any = in.receive(
        [&](const ReceivedFrame& frame) {
          if (frame.length > kRoom - kHeader) return void(too_long++);
          uint8_t* to = room[batch.size()];
          tunnel.write(to, frame.length);
          std::memcpy(to + kHeader, frame.bytes, frame.length);
          batch.add(to, kHeader + frame.length);
        },
        [&] { batch.flush(); });
    if (!any) wait_for({&in});
  }
  Report("forwarder").count("received", in.received).count("sent", out.sent).count("send_errors", out.send_errors).count("dropped", in.dropped()).count("too_long", too_long).print(time);
}
