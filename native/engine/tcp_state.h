// Enough of TCP's life (RFC 9293 section 3.3.2) for idle timeouts and for telling a new stream from an old one.
#pragma once
#include <cstdint>

#include "wire/transport.h"

namespace weir {

enum class TcpState : uint8_t { none, opening, established, closing_by_opener, closing_by_answerer, closed };

// True if this packet opens a stream anew though an entry with its tuple is still there.
inline bool tcp_reopens(TcpState state, uint8_t flags) {
  return state == TcpState::closed && (flags & (Tcp::kSyn | Tcp::kAck | Tcp::kRst)) == Tcp::kSyn;
}

inline TcpState tcp_next(TcpState state, uint8_t flags, bool answer) {
  if (flags & Tcp::kRst) return TcpState::closed;
  if (flags & Tcp::kFin) {
    const TcpState mine = answer ? TcpState::closing_by_answerer : TcpState::closing_by_opener;
    const TcpState other = answer ? TcpState::closing_by_opener : TcpState::closing_by_answerer;
    if (state == other || state == TcpState::closed) return TcpState::closed;
    return mine;
  }
  if (state == TcpState::none) return (flags & Tcp::kSyn) && !(flags & Tcp::kAck) ? TcpState::opening : TcpState::established;
  if (state == TcpState::opening && answer && (flags & Tcp::kAck)) return TcpState::established;
  return state;
}

}  // namespace weir
