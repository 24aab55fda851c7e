/* An LD_PRELOAD that makes the kernel look like one that takes no super-frames from packet sockets: sendmmsg() refuses a message
 * whose virtio-net header names a segmentation offload, as older kernels do, with EINVAL. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) {
  static int (*next)(int, struct mmsghdr *, unsigned, int);
  if (!next) *(void **)&next = dlsym(RTLD_NEXT, "sendmmsg");
  unsigned n = 0;
  while (n < count) {
    const struct iovec *header = messages[n].msg_hdr.msg_iov;
    if (header->iov_len == 10 && ((const unsigned char *)header->iov_base)[1] != 0) break;
    n++;
  }
  if (n) return next(fd, messages, n, flags);
  errno = EINVAL;
  return -1;
}
