// Enough of TCP's life (RFC 9293 section 3.3.2) for idle timeouts and for telling a new stream from an old one.
#pragma once
#include <cstdint>

#include "wire/transport.h"

namespace weir {

enum class TcpState : uint8_t {
  none,
  opening,  // SYN
  established,
  closing_by_opener,
  closing_by_answerer,
  closed,
  // No answer was seen so far, but what only an answered opener sends: answers take another way.
  half_seen,
  half_closed,
  half_open,  // SYN, and SYN with ACK, which a made-up sender gets too
  midstream,  // met in its midst: which end opened it is a guess
  // By a RST that may be forged (RFC 5961): whoever has ended a connection says nothing more in it.
  reset_by_opener,
  reset_by_answerer,
};

inline constexpr TcpState kLastTcpState = TcpState::reset_by_answerer;

inline bool is_bare_syn(uint8_t flags) { return (flags & (Tcp::kSyn | Tcp::kAck | Tcp::kRst)) == Tcp::kSyn; }

// True if a packet with these flags opens a stream anew though an entry with its tuple is still there. One that was not seen to
// open is never what decides about a connection.
inline bool tcp_reopens(TcpState state, uint8_t flags) {
  if (!is_bare_syn(flags)) return false;
  switch (state) {
    case TcpState::opening:
    case TcpState::half_open:
    case TcpState::half_seen:
    case TcpState::established:
    case TcpState::closing_by_opener:
    case TcpState::closing_by_answerer: return false;
    default: return true;
  }
}

// True if one end opened it, and the other was not seen to go along.
inline bool tcp_unanswered(TcpState state) { return state == TcpState::opening || state == TcpState::half_open || state == TcpState::half_seen; }

// `data`: the packet has a payload.
inline TcpState tcp_next(TcpState state, uint8_t flags, bool answer, bool data) {
  const TcpState reset = answer ? TcpState::reset_by_answerer : TcpState::reset_by_opener;
  const bool is_reset = state == TcpState::reset_by_opener || state == TcpState::reset_by_answerer;
  if (flags & Tcp::kRst) {
    if (state == TcpState::none || state == TcpState::closed || state == TcpState::half_closed) return TcpState::closed;
    return is_reset && state != reset ? TcpState::closed : reset;
  }
  if (is_reset) {
    if (state != reset) return state;
    state = TcpState::established;
  }
  const bool unanswered = tcp_unanswered(state) || state == TcpState::midstream;
  if (flags & Tcp::kFin) {
    const TcpState mine = answer ? TcpState::closing_by_answerer : TcpState::closing_by_opener;
    const TcpState other = answer ? TcpState::closing_by_opener : TcpState::closing_by_answerer;
    // The first that is seen of a stream: the late end of one that has been forgotten.
    if (state == other || state == TcpState::closed || state == TcpState::none) return TcpState::closed;
    if (state == TcpState::half_closed) return answer ? TcpState::closed : state;
    return !answer && unanswered ? TcpState::half_closed : mine;
  }
  // One that is met in its midst counts as answered only when it is seen to be: anybody can make up an acknowledgement.
  if (state == TcpState::none) return is_bare_syn(flags) ? TcpState::opening : TcpState::midstream;
  if (!unanswered || !(flags & Tcp::kAck)) return state;
  if (answer) {
    // A listener answers any SYN: its opener has to be heard once more, or the other end to send what it only sends to one that was.
    const bool heard = !(flags & Tcp::kSyn) && (data || state == TcpState::half_seen || state == TcpState::midstream);
    return heard ? TcpState::established : TcpState::half_open;
  }
  if (flags & Tcp::kSyn) return state;
  return state == TcpState::half_open ? TcpState::established : state == TcpState::opening ? TcpState::half_seen : state;
}

}  // namespace weir
