// The floor for bulk traffic that nothing is done to: frames and super-frames both ways between two interfaces, carried with
// their virtio-net header.
#include "packet_socket.h"
#include "run_time.h"

using namespace weir;
using namespace weir::bench;

namespace {

constexpr const char* kUsage =
    "bump INTERFACE INTERFACE SECONDS\n"
    "Carries every frame from each interface to the other, with its offload state. SECONDS 0: until SIGTERM.";

bool carry(PacketSocket& from, SendBatch& to) {
  return from.receive([&](const ReceivedFrame& frame) { to.add(frame.offload, sizeof(Offload) + frame.length); }, [&] { to.flush(); });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) usage(kUsage);
  RunTime time(number_argument(argv[3], kUsage));
  PacketSocket a(argv[1], kSuperFrames, true), b(argv[2], kSuperFrames, true);
  SendBatch to_a(a), to_b(b);
  say_ready();
  while (!time.over()) {
    const bool forth = carry(a, to_b), back = carry(b, to_a);
    if (!forth && !back) wait_for({&a, &b});
  }
  Report("bump")
      .count("received_a", a.received).count("received_b", b.received)
      .count("sent_a", a.sent).count("sent_b", b.sent)
      .count("send_errors", a.send_errors + b.send_errors).count("truncated", a.truncated + b.truncated)
      .count("dropped", a.dropped() + b.dropped())
      .print(time);
}
