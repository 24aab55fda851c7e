#include "port/frame_sender.h"

#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "port/send_batch.h"

namespace weir {

std::variant<std::unique_ptr<FrameSender>, std::string> FrameSender::open(const std::string& interface) {
  auto failed = [&](const char* what) { return "interface " + interface + ": " + what + ": " + std::strerror(errno); };
  const unsigned index = if_nametoindex(interface.c_str());
  if (!index) return "interface " + interface + ": there is no such interface";
  std::unique_ptr<FrameSender> sender(new FrameSender());
  // Protocol 0: nothing is received.
  sender->fd_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (sender->fd_ < 0) return errno == EPERM ? "interface " + interface + ": a packet socket needs CAP_NET_RAW" : failed("socket");
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = int(index);
  if (bind(sender->fd_, reinterpret_cast<sockaddr*>(&address), sizeof address)) return failed("bind");
  return sender;
}

FrameSender::~FrameSender() {
  if (fd_ >= 0) close(fd_);
}

void FrameSender::send(Piece link, Piece packet) {
  if (queued_ == kBatch) flush();
  auto& io = pieces_[queued_];
  io[0] = {const_cast<uint8_t*>(link.bytes), link.length};
  io[1] = {const_cast<uint8_t*>(packet.bytes), packet.length};
  msghdr& message = messages_[queued_++].msg_hdr;
  message = {};
  message.msg_iov = io.data();
  message.msg_iovlen = io.size();
}

void FrameSender::flush() {
  bool waited = false;
  auto full = [&] {  // a moment, once a batch
    pollfd wait{fd_, POLLOUT, 0};
    return !std::exchange(waited, true) && poll(&wait, 1, 1) > 0 && (wait.revents & POLLOUT);
  };
  send_batch(fd_, messages_.data(), queued_, full, [this](uint64_t frames, uint64_t bytes) { sent_.add(frames, bytes); }, [this](int) { errors_++; });
  queued_ = 0;
}

}  // namespace weir
