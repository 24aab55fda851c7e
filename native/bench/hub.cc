// The floor for weir's main job: every IPv4 TCP and UDP frame of a capture goes, stamped, to one instance and comes back to
// leave on the other side. Super-frames stay super-frames all the way. Decides nothing, knows no streams.
#include "hub_join.h"
#include "hub_stamp.h"
#include "run_time.h"

using namespace weir;
using namespace weir::bench;

namespace {

constexpr const char* kUsage =
    "hub IN OUT UNDERLAY INSTANCE_MAC SECONDS\n"
    "Stamps what comes from IN and OUT, sends it to the instance (run `echo` there), and what comes back out of the other\n"
    "side. All but IPv4 TCP and UDP crosses as it is. SECONDS 0: until SIGTERM.";

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) usage(kUsage);
  unsigned digits[6];
  uint8_t mac[6];
  if (std::sscanf(argv[4], "%2x:%2x:%2x:%2x:%2x:%2x", &digits[0], &digits[1], &digits[2], &digits[3], &digits[4], &digits[5]) != 6) usage(kUsage);
  for (int i = 0; i < 6; i++) mac[i] = uint8_t(digits[i]);
  RunTime time(number_argument(argv[5], kUsage));

  PacketSocket in(argv[1], kSuperFrames, true), out(argv[2], kSuperFrames, true), underlay(argv[3], kSuperFrames, true);
  HubStamper stamper(underlay, mac);
  HubJoiner joiner(in, out);
  auto capture = [&](PacketSocket& from, PacketSocket& other, bool from_workload) {
    return from.receive(
        [&](const ReceivedFrame& frame) {
          if (const Lengths l = read_lengths(frame.bytes, frame.length); l.ok) return stamper.send(frame, l, from_workload);
          const iovec whole{frame.offload, sizeof(Offload) + frame.length};
          other.send({&whole, 1});
        },
        [] {});
  };
  say_ready();
  while (!time.over()) {
    const bool forth = capture(in, out, true), back = capture(out, in, false);
    const bool returned = underlay.receive([&](const ReceivedFrame& frame) { joiner.unstamp(frame); }, [] {});
    if (!forth && !back && !returned) wait_for({&in, &out, &underlay});
  }
  Report("hub")
      .count("received_in", in.received).count("received_out", out.received).count("received_underlay", underlay.received)
      .count("sent_in", in.sent).count("sent_out", out.sent).count("sent_underlay", underlay.sent)
      .count("send_errors", in.send_errors + out.send_errors + underlay.send_errors)
      .count("dropped", in.dropped() + out.dropped() + underlay.dropped())
      .count("joined", joiner.joined).count("single", joiner.single)
      .print(time);
}
