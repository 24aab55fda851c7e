// Replay without JavaScript around it, for profilers: a capture through one chain of one service, what comes out to a file.
#include "engine_calls.h"
#include "replay/replay.h"
#include "run_time.h"

using namespace weir;
using namespace weir::bench;

namespace {

constexpr const char* kUsage =
    "replay_bench CAPTURE out|write FILE [WORKLOAD-IPV4-PREFIX-LENGTH]\n"
    "Like `weir replay --read CAPTURE --out FILE` (or --write FILE) of a configuration that steers everything; the workload is 10.1.0.0\n"
    "with a prefix of that length (default 16).";

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4 || argc > 5) usage(kUsage);
  const std::string_view what = argv[2];
  if (what != "out" && what != "write") usage(kUsage);
  const uint32_t length = uint32_t(number_argument(argc == 5 ? argv[4] : "16", kUsage));
  if (length > 32) usage(kUsage);
  auto program = make_program(Encapsulation::nsh, {{.action = Action::chain}}, Action::pass);
  compile(*program);
  const RunTime time(0);
  Replay replay({}, program);
  ReplayFiles files{.read = argv[1], .workload = {{ipv4(0x0a010000), 96 + length}}};
  (what == "out" ? files.out : files.write) = argv[3];
  if (const std::string error = replay.open(files); !error.empty()) return std::fprintf(stderr, "%s\n", error.c_str()), 1;
  const ReplayProgress* progress;
  do progress = &replay.step(1'000'000);
  while (!progress->done);
  std::string error = replay.close();
  if (error.empty()) error = progress->error;
  if (!error.empty()) return std::fprintf(stderr, "%s\n", error.c_str()), 1;
  const Counters& counters = replay.engine().counters();
  Report("replay_bench")
      .count("packets", progress->packets).count("delivered", counters.delivered.packets.get()).number("packet_ns", time.elapsed() * 1e9 / double(progress->packets))
      .print(time);
}
