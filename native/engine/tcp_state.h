// Enough of TCP's life (RFC 9293 section 3.3.2) for idle timeouts and for telling a new stream from an old one.
#pragma once
#include <cstdint>

#include "wire/transport.h"

namespace weir {

enum class TcpState : uint8_t { none, opening, established, closing_by_opener, closing_by_answerer, closed,
                                // No answer was seen so far, but what only an answered opener sends: answers take another way.
                                half_seen, half_closed };

inline constexpr TcpState kLastTcpState = TcpState::half_closed;

// True if this packet opens a stream anew though an entry with its tuple is still there.
inline bool tcp_reopens(TcpState state, uint8_t flags) {
  return (state == TcpState::closed || state == TcpState::half_closed) && (flags & (Tcp::kSyn | Tcp::kAck | Tcp::kRst)) == Tcp::kSyn;
}

inline TcpState tcp_next(TcpState state, uint8_t flags, bool answer) {
  if (flags & Tcp::kRst) return TcpState::closed;
  if (flags & Tcp::kFin) {
    const TcpState mine = answer ? TcpState::closing_by_answerer : TcpState::closing_by_opener;
    const TcpState other = answer ? TcpState::closing_by_opener : TcpState::closing_by_answerer;
    // The first that is seen of a stream: the late end of one that has been forgotten.
    if (state == other || state == TcpState::closed || state == TcpState::none) return TcpState::closed;
    if (state == TcpState::half_closed) return answer ? TcpState::closed : state;
    if (!answer && (state == TcpState::opening || state == TcpState::half_seen)) return TcpState::half_closed;
    return mine;
  }
  // One that is met in its midst counts as answered only when it is seen to be: anybody can make up an acknowledgement.
  if (state == TcpState::none) return (flags & Tcp::kSyn) && !(flags & Tcp::kAck) ? TcpState::opening : TcpState::half_seen;
  if ((state == TcpState::opening || state == TcpState::half_seen) && answer && (flags & Tcp::kAck)) return TcpState::established;
  if (state == TcpState::opening && !answer && (flags & Tcp::kAck) && !(flags & Tcp::kSyn)) return TcpState::half_seen;
  return state;
}

}  // namespace weir
