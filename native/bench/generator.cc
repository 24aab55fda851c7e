// Sends UDP frames of many streams as fast as one core can, or at a rate.
#include <algorithm>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include "packet_socket.h"
#include "run_time.h"
#include "wire/ip.h"
#include "wire/transport.h"

using namespace weir;
using namespace weir::bench;

namespace {

constexpr const char* kUsage =
    "generator INTERFACE LENGTH STREAMS SECONDS [RATE] [round-robin|random] [BURST] [COUNT]\n"
    "Sends UDP frames of LENGTH bytes (60 to 1514, without the checksum of the wire) from STREAMS sources (1 to 16777216) to\n"
    "10.9.1.3, RATE a second (0: as fast as it goes), BURST (1 to 32) of one stream in a row. `random` takes every stream once\n"
    "in order first, so that all are known. Ends after SECONDS (0: never), after COUNT frames (0: never), or on SIGTERM.\n"
    "A burst is one write that the kernel cuts, which is about twice as fast; INTERFACE must not carry super-frames or partial\n"
    "checksums then (ethtool -K INTERFACE tx off), or they would arrive as such.";

constexpr uint32_t kFirstSource = 0x0a400000;  // 10.64.0.0/10
constexpr uint32_t kPorts = 1 << 14;           // of each source
constexpr uint16_t kFirstPort = 16384;
constexpr uint32_t kHeaders = 14 + kIpv4Header + kUdpHeader, kMost = 1 << 16;

// What is written at once: `burst` frames of one stream, behind the offload header that says so.
class Write {
 public:
  Write(uint32_t length, uint32_t burst) : bytes_(new uint8_t[sizeof(Offload) + kMost]()), payload_(burst * (length - kHeaders)) {
    static constexpr uint8_t kEthernet[14] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0};
    std::memcpy(frame(), kEthernet, sizeof kEthernet);
    uint8_t* ip = frame() + 14;
    ip[0] = 0x45;
    store16(ip + 2, uint16_t(kHeaders - 14 + payload_));
    store16(ip + 6, Ipv4::kDontFragment);
    ip[8] = 64;
    ip[9] = kIpUdp;
    store32(ip + 16, 0x0a090103);
    store16(ip + 22, 9);
    store16(ip + 24, uint16_t(kUdpHeader + payload_));
    if (burst == 1) return;
    Offload offload;
    offload.flags = Offload::kNeedsChecksum;
    offload.gso_type = Offload::kGsoUdp;
    offload.gso_size = uint16_t(length - kHeaders);
    offload.header_length = kHeaders;
    offload.checksum_start = 34;
    offload.checksum_offset = Udp::kChecksum;
    std::memcpy(bytes_.get(), &offload, sizeof offload);
  }
  void set_stream(uint32_t stream) {
    uint8_t* ip = frame() + 14;
    store32(ip + 12, kFirstSource + stream / kPorts);
    store16(ip + 20, uint16_t(kFirstPort + stream % kPorts));
    Ipv4::finish(ip);
    if (load16(bytes_.get() + 4)) checksum_store(ip + 26, checksum_fold(checksum_pseudo(ip + 12, 8, kIpUdp, kUdpHeader + payload_)));
  }
  uint8_t* bytes() { return bytes_.get(); }
  size_t length() const { return sizeof(Offload) + kHeaders + payload_; }

 private:
  uint8_t* frame() { return bytes_.get() + sizeof(Offload); }
  std::unique_ptr<uint8_t[]> bytes_;
  uint32_t payload_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5 || argc > 9) usage(kUsage);
  auto number = [&](int i, double otherwise) { return argc > i ? number_argument(argv[i], kUsage) : otherwise; };
  const uint32_t length = uint32_t(number(2, 0)), streams = uint32_t(number(3, 0)), burst = uint32_t(number(7, 1));
  const double seconds = number(4, 0), rate = number(5, 0);
  const std::string_view order = argc > 6 ? argv[6] : "round-robin";
  const uint64_t count = uint64_t(number(8, 0));
  if (length < 60 || length > 1514 || streams < 1 || streams > 1 << 24 || burst < 1 || burst > 32 || (order != "random" && order != "round-robin")) usage(kUsage);
  const bool random = order == "random";

  PacketSocket out(argv[1], kSendOnly, true, burst == 1);
  SendBatch batch(out);
  std::vector<Write> writes;
  for (uint32_t i = 0; i < SendBatch::kFrames; i++) writes.emplace_back(length, burst);

  RunTime time(seconds);
  say_ready();
  std::minstd_rand draw(1);
  // At a rate, a batch holds what 50 µs bring: 64 at once would be no rate.
  const uint32_t per_batch = rate > 0 ? std::max<uint32_t>(1, uint32_t(std::min<double>(SendBatch::kFrames, rate / burst * 50e-6))) : SendBatch::kFrames;
  uint64_t queued = 0;  // writes
  while (!time.over() && (count == 0 || queued * burst < count)) {
    if (rate > 0) {
      const double ahead = double(queued * burst) / rate - time.elapsed();
      if (ahead > 100e-6) usleep(useconds_t(ahead * 1e6) - 60);
      if (ahead > 0) continue;
    }
    for (uint32_t i = 0; i < per_batch && (count == 0 || queued * burst < count); i++, queued++) {
      const bool drawn = random && queued >= streams;
      Write& write = writes[batch.size()];
      write.set_stream(drawn ? uint32_t((uint64_t(draw()) * streams) >> 31) : uint32_t(queued % streams));
      batch.add(write.bytes(), write.length());
    }
    batch.flush();
  }
  Report("generator").count("sent", out.sent * burst).count("send_errors", out.send_errors).count("streams", streams).count("length", length).print(time);
}
