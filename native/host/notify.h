// The service manager's notification socket (sd_notify(3)): one datagram a message. Node's core has no Unix datagram sockets.
#pragma once
#include <string>

namespace weir {

// `path` as in $NOTIFY_SOCKET: a path, or @ and an abstract name. Never waits. 0, or an errno.
int notify(const std::string& path, const std::string& message);

}  // namespace weir
