// A packet socket that only sends whole Ethernet frames out of one interface, in batches: frames of a process that takes nothing in
// there.
#pragma once
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <memory>
#include <string>
#include <variant>

#include "engine/counters.h"
#include "engine/frame.h"

namespace weir {

class FrameSender {
 public:
  // Needs CAP_NET_RAW. On failure: a sentence that names the interface, the call and the reason.
  static std::variant<std::unique_ptr<FrameSender>, std::string> open(const std::string& interface);
  ~FrameSender();

  // Both pieces must last until flush().
  void send(Piece link, Piece packet);
  void flush();
  const Traffic& sent() const { return sent_; }
  const Counter& errors() const { return errors_; }

 private:
  static constexpr uint32_t kBatch = 64;

  FrameSender() = default;

  int fd_ = -1;
  uint32_t queued_ = 0;
  std::array<mmsghdr, kBatch> messages_;
  std::array<std::array<iovec, 2>, kBatch> pieces_;
  Traffic sent_;
  Counter errors_;
};

}  // namespace weir
