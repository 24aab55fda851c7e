/* An LD_PRELOAD that makes a worker hang: while the file named by WEIR_HANG is there, sendmmsg() does not come back. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) {
  static int (*next)(int, struct mmsghdr *, unsigned, int);
  if (!next) *(void **)&next = dlsym(RTLD_NEXT, "sendmmsg");
  const char *file = getenv("WEIR_HANG");
  while (file && access(file, F_OK) == 0) usleep(10000);
  return next(fd, messages, count, flags);
}
