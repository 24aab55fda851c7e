// Messages to one socket, in as few system calls as its kernel takes.
#pragma once
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>

namespace weir {

// `sent(messages, bytes)` says what the kernel took, `lost(errno)` what it refused: that message is gone, the next may do better.
// `full()`, at most once a message, is asked whether to try again when the socket `fd` holds as much as it may; it may change `fd`.
template <typename Full, typename Sent, typename Lost>
void send_batch(const int& fd, mmsghdr* messages, uint32_t count, Full&& full, Sent&& sent, Lost&& lost) {
  uint32_t asked = count;
  for (uint32_t done = 0; done < count;) {
    const int n = sendmmsg(fd, messages + done, count - done, MSG_DONTWAIT);
    if (n > 0) {
      uint64_t bytes = 0;
      for (int i = 0; i < n; i++) bytes += messages[done + uint32_t(i)].msg_len;
      sent(uint64_t(n), bytes);
      done += uint32_t(n);
      continue;
    }
    const int error = errno;
    if (error == EINTR) continue;
    if (error == EAGAIN && asked != done) {
      asked = done;
      if (full()) continue;
    }
    lost(error);
    done++;
  }
}

}  // namespace weir
