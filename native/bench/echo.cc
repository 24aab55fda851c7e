// The bare service instance that `hub` sends to: turns stamped frames round, one service done, and sends them back as they came.
#include <algorithm>

#include "hub_frames.h"
#include "packet_socket.h"
#include "run_time.h"

using namespace weir;
using namespace weir::bench;

namespace {

constexpr const char* kUsage =
    "echo INTERFACE SECONDS\n"
    "Sends VXLAN-GPE frames back to where they came from, the service index of each datagram less one. SECONDS 0: until SIGTERM.";

// False if it is none of ours.
bool turn(const ReceivedFrame& frame) {
  uint8_t* f = frame.bytes;
  if (frame.length < kOuter + kNshStamp || load16(f + 12) != 0x0800 || f[23] != kIpUdp || load16(f + 36) != kVxlanGpePort) return false;
  std::swap_ranges(f, f + 6, f + 6);
  std::swap_ranges(f + 26, f + 30, f + 30);
  const uint32_t total = load16(f + 38) - kUdpHeader;
  if (kOuter + total > frame.length) return false;
  const uint32_t size = frame.offload->gso_type == Offload::kGsoUdp && frame.offload->gso_size ? frame.offload->gso_size : total;
  for (uint32_t at = 0; at + kNshStamp <= total; at += size) f[kOuter + at + kVxlanGpeHeader + 7]--;
  if (!(frame.offload->flags & Offload::kNeedsChecksum)) store16(f + 40, 0);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) usage(kUsage);
  RunTime time(number_argument(argv[2], kUsage));
  PacketSocket socket(argv[1], kSuperFrames, true);
  SendBatch batch(socket);
  say_ready();
  while (!time.over()) {
    const bool any = socket.receive(
        [&](const ReceivedFrame& frame) {
          if (turn(frame)) batch.add(frame.offload, sizeof(Offload) + frame.length);
        },
        [&] { batch.flush(); });
    if (!any) wait_for({&socket});
  }
  Report("echo").count("received", socket.received).count("sent", socket.sent).count("send_errors", socket.send_errors).count("dropped", socket.dropped()).print(time);
}
