/* Short HTTP connections, and the server that they ask: one TCP connection a request, at a steady rate whatever the answers do.
 *
 *   http-load serve PORT COUNT                           serves ports PORT … PORT+COUNT-1 until it is ended
 *   http-load get ADDRESS PORT COUNT RATE SECONDS SEED   opens RATE connections a second, for SECONDS or (0) until SIGTERM
 *
 * GET /SIZE/SEED is answered by SIZE bytes that SEED determines, and their checksum in a header. The client makes the same bytes and
 * compares each. Its last line is JSON: what was opened, completed, failed and why, and how long it took. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kMostBody = 1 << 20, kHead = 1024, kGiveUpMs = 20000, kMostFds = 32768 };

static volatile sig_atomic_t ending;
static void end(int signal) { (void)signal; ending = 1; }

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static uint8_t next_byte(uint32_t *state) {
  *state = *state * 1664525 + 1013904223;
  return *state >> 24;
}
static uint32_t fnv(uint32_t sum, uint8_t byte) { return (sum ^ byte) * 16777619; }
static const uint32_t kFnv = 2166136261;

struct Connection {
  int fd;
  uint64_t due_us;      /* client: when it was to be opened */
  uint64_t opened_us;
  char head[kHead];     /* request (server) or answer's head (client) so far */
  uint32_t head_bytes;
  char *out;            /* server: the answer */
  uint32_t out_bytes, sent;
  uint32_t size, got, state, sum, said_sum;
  int body;             /* client: the head is read */
  struct Connection *next, *previous;
};

static struct Connection *of_fd[kMostFds];
static int poller;

static void watch(int fd, uint32_t events, int how) {
  struct epoll_event event = {.events = events, .data.fd = fd};
  if (epoll_ctl(poller, how, fd, &event)) { perror("epoll_ctl"); exit(1); }
}

static struct Connection *adopt(int fd) {
  if (fd >= kMostFds) { fprintf(stderr, "too many connections at once\n"); exit(1); }
  struct Connection *c = calloc(1, sizeof *c);
  if (!c) { perror("calloc"); exit(1); }
  c->fd = fd;
  of_fd[fd] = c;
  return c;
}

static void drop(struct Connection *c) {
  of_fd[c->fd] = NULL;
  close(c->fd);
  free(c->out);
  free(c);
}

/* ---- server ---- */

static void answer(struct Connection *c) {
  unsigned size = 0, seed = 0;
  int valid = sscanf(c->head, "GET /%u/%u HTTP/1.1", &size, &seed) == 2 && size <= kMostBody;
  c->out = malloc(kHead + size);
  if (!valid || !c->out) { drop(c); return; }
  uint32_t state = seed, sum = kFnv;
  char *body = c->out + kHead;
  for (unsigned i = 0; i < size; i++) sum = fnv(sum, body[i] = next_byte(&state));
  int head = snprintf(c->out, kHead, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\nX-Checksum: %08x\r\nConnection: close\r\n\r\n", size, sum);
  memmove(c->out + head, body, size);
  c->out_bytes = head + size;
}

static void serve_one(struct Connection *c) {
  if (!c->out) {
    ssize_t n = recv(c->fd, c->head + c->head_bytes, kHead - 1 - c->head_bytes, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { drop(c); return; }
    c->head_bytes += n;
    c->head[c->head_bytes] = 0;
    if (!strstr(c->head, "\r\n\r\n")) return;
    int fd = c->fd;
    answer(c);
    if (!of_fd[fd]) return;
  }
  while (c->sent < c->out_bytes) {
    ssize_t n = send(c->fd, c->out + c->sent, c->out_bytes - c->sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) { watch(c->fd, EPOLLOUT, EPOLL_CTL_MOD); return; }
    if (n < 0) { drop(c); return; }
    c->sent += n;
  }
  drop(c);  /* the server ends first: ports that wait are its own */
}

static int serve(int first, int count) {
  static uint8_t listens[kMostFds];
  for (int port = first; port < first + count; port++) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (void *)&any, sizeof any) || listen(fd, 4096)) { perror("listen"); return 1; }
    listens[fd] = 1;
    watch(fd, EPOLLIN, EPOLL_CTL_ADD);
  }
  puts("serving");
  fflush(stdout);
  struct epoll_event events[256];
  while (!ending) {
    int n = epoll_wait(poller, events, 256, 1000);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (!listens[fd]) { if (of_fd[fd]) serve_one(of_fd[fd]); continue; }
      for (int client; (client = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        adopt(client);
        watch(client, EPOLLIN, EPOLL_CTL_ADD);
      }
    }
  }
  return 0;
}

/* ---- client ---- */

static struct { unsigned long opened, completed, refused, reset, timeout, wrong, cut_short, other; } tally;
static uint32_t *took_us;
static size_t took_room;
static struct Connection *oldest, *newest;
static unsigned long open_now;

static void forget(struct Connection *c) {
  if (c->previous) c->previous->next = c->next; else oldest = c->next;
  if (c->next) c->next->previous = c->previous; else newest = c->previous;
  open_now--;
  drop(c);
}

static void failed(struct Connection *c, int error) {
  if (error == ECONNREFUSED) tally.refused++;
  else if (error == ECONNRESET || error == EPIPE) tally.reset++;
  else if (error == ETIMEDOUT) tally.timeout++;
  else { tally.other++; fprintf(stderr, "a connection failed: %s\n", strerror(error)); }
  forget(c);
}

static void completed(struct Connection *c) {
  if (!c->body || c->got != c->size) tally.cut_short++;
  else if (c->sum != c->said_sum) tally.wrong++;
  else {
    if (tally.completed == took_room) {
      took_room = took_room ? took_room * 2 : 65536;
      took_us = realloc(took_us, took_room * sizeof *took_us);
      if (!took_us) { perror("realloc"); exit(1); }
    }
    took_us[tally.completed++] = (uint32_t)(now_us() - c->due_us);
  }
  forget(c);
}

/* Body bytes; 0 if one is not the one that was asked for. */
static int take(struct Connection *c, const char *bytes, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (c->got++ >= c->size || (uint8_t)bytes[i] != next_byte(&c->state)) return 0;
    c->sum = fnv(c->sum, bytes[i]);
  }
  return 1;
}

static void get_one(struct Connection *c, uint32_t events) {
  if (!c->sent) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) { failed(c, error); return; }
    if (!(events & EPOLLOUT)) return;
    char request[128];
    int n = snprintf(request, sizeof request, "GET /%u/%u HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n", c->size, c->state);
    if (send(c->fd, request, n, MSG_NOSIGNAL) != n) { failed(c, errno); return; }
    c->sent = n;
    watch(c->fd, EPOLLIN, EPOLL_CTL_MOD);
    return;
  }
  char bytes[65536];
  for (;;) {
    ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) { failed(c, errno); return; }
    if (n == 0) { completed(c); return; }
    const char *rest = bytes;
    if (!c->body) {
      size_t room = kHead - 1 - c->head_bytes, part = (size_t)n < room ? (size_t)n : room;
      memcpy(c->head + c->head_bytes, bytes, part);
      c->head_bytes += part;
      c->head[c->head_bytes] = 0;
      char *end_of_head = strstr(c->head, "\r\n\r\n");
      if (!end_of_head) { if (part < (size_t)n) { tally.wrong++; forget(c); return; } continue; }
      size_t head = end_of_head + 4 - c->head;
      unsigned length = 0, sum = 0;
      char *length_at = strstr(c->head, "Content-Length: "), *sum_at = strstr(c->head, "X-Checksum: ");
      if (strncmp(c->head, "HTTP/1.1 200 ", 13) || !length_at || !sum_at || sscanf(length_at, "Content-Length: %u", &length) != 1 ||
          sscanf(sum_at, "X-Checksum: %x", &sum) != 1 || length != c->size) { tally.wrong++; forget(c); return; }
      c->body = 1;
      c->said_sum = sum;
      rest = bytes + part - (c->head_bytes - head);
    }
    if (!take(c, rest, bytes + n - rest)) { tally.wrong++; forget(c); return; }
  }
}

static void open_one(struct in_addr to, int port, uint64_t due_us, uint32_t size, uint32_t seed) {
  tally.opened++;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd < 0) { perror("socket"); exit(1); }
  struct Connection *c = adopt(fd);
  c->due_us = due_us;
  c->opened_us = now_us();
  c->size = size;
  c->state = seed;
  c->sum = kFnv;
  c->previous = newest;
  if (newest) newest->next = c; else oldest = c;
  newest = c;
  open_now++;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = to};
  if (connect(fd, (void *)&address, sizeof address) && errno != EINPROGRESS) { failed(c, errno); return; }
  watch(fd, EPOLLOUT, EPOLL_CTL_ADD);
}

static int by_time(const void *a, const void *b) { return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : *(const uint32_t *)a > *(const uint32_t *)b; }

static void report(double seconds) {
  unsigned long n = tally.completed, over_200ms = 0, over_1s = 0;
  qsort(took_us, n, sizeof *took_us, by_time);
  for (size_t i = 0; i < n; i++) { over_200ms += took_us[i] > 200000; over_1s += took_us[i] > 1000000; }
  printf("{\"opened\":%lu,\"completed\":%lu,\"failed\":{\"refused\":%lu,\"reset\":%lu,\"timeout\":%lu,\"wrong\":%lu,\"short\":%lu,\"other\":%lu},"
         "\"seconds\":%.2f,\"ms\":{\"median\":%.2f,\"p99\":%.2f,\"max\":%.2f},\"over200ms\":%lu,\"over1s\":%lu}\n",
         tally.opened, n, tally.refused, tally.reset, tally.timeout, tally.wrong, tally.cut_short, tally.other, seconds, n ? took_us[n / 2] / 1e3 : 0.0,
         n ? took_us[n * 99 / 100] / 1e3 : 0.0, n ? took_us[n - 1] / 1e3 : 0.0, over_200ms, over_1s);
}

static int get(struct in_addr to, int port, int count, double rate, double seconds, uint32_t dice) {
  const uint64_t begun = now_us();
  uint64_t told = begun, last_open = begun;
  puts("started");
  fflush(stdout);
  struct epoll_event events[256];
  for (;;) {
    uint64_t now = now_us();
    const int opening = !ending && (seconds == 0 || now - begun < seconds * 1e6);
    if (!opening && open_now == 0) break;
    for (uint64_t due; opening && (due = begun + (uint64_t)(tally.opened * 1e6 / rate)) <= now; last_open = now) {
      const uint32_t which = next_byte(&dice), kind = next_byte(&dice);
      /* Mostly small answers, some of many segments. */
      const uint32_t size = kind < 200 ? 100 + kind * 8 : kind < 250 ? 4000 : 20000;
      open_one(to, port + which % count, due, size, (uint32_t)tally.opened * 2654435761u + dice);
    }
    while (oldest && oldest->opened_us + kGiveUpMs * 1000ull < now) failed(oldest, ETIMEDOUT);
    if (now - told > 500000) {
      told = now;
      printf("so far %lu of %lu\n", tally.completed, tally.opened);
      fflush(stdout);
    }
    const double wait_ms = opening ? (begun + tally.opened * 1e6 / rate - now) / 1e3 : 100;
    const int n = epoll_wait(poller, events, 256, wait_ms < 0 ? 0 : wait_ms > 100 ? 100 : (int)wait_ms + 1);
    for (int i = 0; i < n; i++) if (of_fd[events[i].data.fd]) get_one(of_fd[events[i].data.fd], events[i].events);
  }
  report((last_open - begun) / 1e6);
  return 0;
}

int main(int argc, char **argv) {
  struct rlimit files = {kMostFds, kMostFds};
  setrlimit(RLIMIT_NOFILE, &files);
  struct sigaction action = {.sa_handler = end};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  poller = epoll_create1(0);
  struct in_addr to;
  if (argc == 4 && !strcmp(argv[1], "serve")) return serve(atoi(argv[2]), atoi(argv[3]));
  if (argc == 8 && !strcmp(argv[1], "get") && inet_aton(argv[2], &to)) return get(to, atoi(argv[3]), atoi(argv[4]), atof(argv[5]), atof(argv[6]), strtoul(argv[7], NULL, 10));
  fprintf(stderr, "usage: http-load serve PORT COUNT | get ADDRESS PORT COUNT RATE SECONDS SEED\n");
  return 2;
}
