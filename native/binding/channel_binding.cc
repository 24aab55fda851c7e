// A connection between two weirs of one host over which open files change hands (SCM_RIGHTS, unix(7)). Node has no call for that:
// what its own sockets read, descriptors are not among.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "binding/binding.h"
#include "binding/convert.h"

namespace weir {
namespace {

constexpr size_t kMostDescriptors = 200;  // in a message; the kernel takes 253
constexpr size_t kMostBytes = 128 * 1024;

struct Message {
  std::string text;
  std::vector<int> descriptors;
  bool whole = false;
};

socklen_t abstract_address(const std::string& name, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  // A name in the kernel only: nothing to clear away. It stands behind a zero byte.
  const size_t n = std::min(name.size(), sizeof address.sun_path - 1);
  std::memcpy(address.sun_path + 1, name.data(), n);
  return socklen_t(offsetof(sockaddr_un, sun_path) + 1 + n);
}

bool wait_for(int fd, int timeout_ms) {
  pollfd p{fd, POLLIN, 0};
  int n;
  while ((n = poll(&p, 1, timeout_ms)) < 0 && errno == EINTR) {
  }
  return n > 0;
}

Message receive_now(int fd) {
  Message message;
  std::vector<char> bytes(kMostBytes);
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMostDescriptors)];
  iovec io{bytes.data(), bytes.size()};
  msghdr header{};
  header.msg_iov = &io;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t n = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0) return message;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    const size_t before = message.descriptors.size();
    message.descriptors.resize(before + count);
    std::memcpy(&message.descriptors[before], CMSG_DATA(c), count * sizeof(int));
  }
  message.whole = n > 0 && !(header.msg_flags & (MSG_TRUNC | MSG_CTRUNC));
  if (!message.whole) {
    for (const int d : message.descriptors) close(d);
    message.descriptors.clear();
    return message;
  }
  message.text.assign(bytes.data(), size_t(n));
  return message;
}

// Waits on a thread of libuv's pool: as long as it takes, and no longer than it was told.
template <typename Result>
class Waiting final : public Napi::AsyncWorker {
 public:
  using Work = std::function<Result()>;
  using Answer = std::function<Napi::Value(Napi::Env, Result&)>;
  static Napi::Value run(Napi::Env env, Work work, Answer answer) {
    auto* waiting = new Waiting(env, std::move(work), std::move(answer));
    const Napi::Value promise = waiting->deferred_.Promise();
    waiting->Queue();
    return promise;
  }

 private:
  Waiting(Napi::Env env, Work work, Answer answer)
      : AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), work_(std::move(work)), answer_(std::move(answer)) {}
  void Execute() override { result_ = work_(); }
  void OnOK() override { deferred_.Resolve(answer_(Env(), result_)); }

  Napi::Promise::Deferred deferred_;
  Work work_;
  Answer answer_;
  Result result_{};
};

struct Socket {
  int fd;
  explicit Socket(int f) : fd(f) {}
  ~Socket() {
    if (fd >= 0) close(fd);
  }
};

class Channel final : public Napi::ObjectWrap<Channel> {
 public:
  static thread_local Napi::FunctionReference constructor;  // one for each environment: the addon may be loaded by worker threads, too

  static Napi::Function define(Napi::Env env) {
    const Napi::Function function =
        DefineClass(env, "Channel",
                    {StaticMethod("listen", &Channel::listen), StaticMethod("connect", &Channel::connect), InstanceMethod("accept", &Channel::accept),
                     InstanceMethod("send", &Channel::send), InstanceMethod("receive", &Channel::receive), InstanceMethod("peer", &Channel::peer),
                     InstanceMethod("close", &Channel::close_now)});
    constructor = Napi::Persistent(function);
    constructor.SuppressDestruct();
    return function;
  }

  explicit Channel(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    if (info.Length() == 1 && info[0].IsExternal()) socket_ = *info[0].As<Napi::External<std::shared_ptr<Socket>>>().Data();
    else throw_type_error(info.Env(), "Channel: use Channel.listen(name) or Channel.connect(name)");
  }

 private:
  static Napi::Value wrap(Napi::Env env, int fd) {
    auto socket = std::make_shared<Socket>(fd);
    return constructor.New({Napi::External<std::shared_ptr<Socket>>::New(env, &socket)});
  }

  static Napi::Value open(const Napi::CallbackInfo& info, bool listening) {
    const Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsString()) return throw_type_error(env, "Channel: expected a name");
    sockaddr_un address;
    const socklen_t size = abstract_address(info[0].As<Napi::String>(), address);
    const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    const auto* a = reinterpret_cast<const sockaddr*>(&address);
    if (fd < 0 || (listening ? bind(fd, a, size) != 0 || ::listen(fd, 1) != 0 : ::connect(fd, a, size) != 0)) {
      Napi::Error::New(env, std::strerror(errno)).ThrowAsJavaScriptException();
      if (fd >= 0) ::close(fd);
      return env.Undefined();
    }
    return wrap(env, fd);
  }
  static Napi::Value listen(const Napi::CallbackInfo& info) { return open(info, true); }
  static Napi::Value connect(const Napi::CallbackInfo& info) { return open(info, false); }

  static int timeout_of(const Napi::CallbackInfo& info) { return info.Length() > 0 && info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : 0; }

  // The first one that connects, or null when the time is over.
  Napi::Value accept(const Napi::CallbackInfo& info) {
    return Waiting<int>::run(
        info.Env(), [socket = socket_, timeout = timeout_of(info)] { return wait_for(socket->fd, timeout) ? accept4(socket->fd, nullptr, nullptr, SOCK_CLOEXEC) : -1; },
        [](Napi::Env env, int& fd) -> Napi::Value { return fd < 0 ? env.Null() : wrap(env, fd); });
  }

  // False when nobody is there to read it: then nobody ever will.
  Napi::Value send(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsString()) return throw_type_error(env, "send: expected (text, descriptors)");
    const std::string text = info[0].As<Napi::String>();
    std::vector<int> descriptors;
    if (info.Length() > 1 && info[1].IsArray()) {
      const Napi::Array list = info[1].As<Napi::Array>();
      for (uint32_t i = 0; i < list.Length(); i++) descriptors.push_back(list.Get(i).ToNumber().Int32Value());
    }
    if (text.empty() || text.size() > kMostBytes || descriptors.size() > kMostDescriptors) return throw_type_error(env, "send: a message is too long");
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMostDescriptors)];
    iovec io{const_cast<char*>(text.data()), text.size()};
    msghdr header{};
    header.msg_iov = &io;
    header.msg_iovlen = 1;
    if (!descriptors.empty()) {
      std::memset(control, 0, sizeof control);
      header.msg_control = control;
      header.msg_controllen = CMSG_SPACE(sizeof(int) * descriptors.size());
      cmsghdr* c = CMSG_FIRSTHDR(&header);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int) * descriptors.size());
      std::memcpy(CMSG_DATA(c), descriptors.data(), sizeof(int) * descriptors.size());
    }
    return Napi::Boolean::New(env, sendmsg(socket_->fd, &header, MSG_NOSIGNAL) == ssize_t(text.size()));
  }

  // The next message, or null when the other one is gone or the time is over; after that it can send none any more.
  Napi::Value receive(const Napi::CallbackInfo& info) {
    return Waiting<Message>::run(
        info.Env(),
        [socket = socket_, timeout = timeout_of(info)] {
          const bool something = wait_for(socket->fd, timeout);
          // Nothing that the other side believes to have said may come too late: from here on its send() fails.
          if (!something) shutdown(socket->fd, SHUT_RD);
          return receive_now(socket->fd);
        },
        [](Napi::Env env, Message& message) -> Napi::Value {
          if (!message.whole) return env.Null();
          Napi::Object o = Napi::Object::New(env);
          o["text"] = Napi::String::New(env, message.text);
          Napi::Array list = Napi::Array::New(env, message.descriptors.size());
          for (uint32_t i = 0; i < message.descriptors.size(); i++) list[i] = Napi::Number::New(env, message.descriptors[i]);
          o["descriptors"] = list;
          return o;
        });
  }

  // As peerCredentials().
  Napi::Value peer(const Napi::CallbackInfo& info) {
    ucred who{};
    socklen_t size = sizeof who;
    if (getsockopt(socket_->fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) return info.Env().Null();
    Napi::Object o = Napi::Object::New(info.Env());
    o["pid"] = Napi::Number::New(info.Env(), who.pid);
    o["uid"] = Napi::Number::New(info.Env(), who.uid);
    o["gid"] = Napi::Number::New(info.Env(), who.gid);
    return o;
  }

  Napi::Value close_now(const Napi::CallbackInfo& info) {
    shutdown(socket_->fd, SHUT_RDWR);
    return info.Env().Undefined();
  }

  std::shared_ptr<Socket> socket_;
};

thread_local Napi::FunctionReference Channel::constructor;

// Lets go of what came with a message and nobody took.
Napi::Value close_descriptors(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsArray()) return throw_type_error(info.Env(), "closeDescriptors: expected a list");
  const Napi::Array list = info[0].As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) close(list.Get(i).ToNumber().Int32Value());
  return info.Env().Undefined();
}

}  // namespace

void register_channel(Napi::Env env, Napi::Object exports) {
  exports["Channel"] = Channel::define(env);
  exports["closeDescriptors"] = Napi::Function::New(env, close_descriptors, "closeDescriptors");
}

}  // namespace weir
