// Ethernet headers and tags: kept with a stream, and put before its packets again where they were lost on the way.
#pragma once
#include "engine/flow.h"
#include "engine/frame.h"
#include "engine/packet.h"

namespace weir {

inline constexpr uint32_t kLongestLink = 14 + 2 * 4;  // of a stream; an instance's own tag may come on top

inline Direction opposite(Direction d) { return d == Direction::out ? Direction::in : Direction::out; }
// Which way packets of a stream go: its opener's, or the answers.
inline Direction travel_of(const Flow& flow, bool answer) { return answer ? opposite(flow.opened) : flow.opened; }
// The port by which they leave in the end.
inline PortId leaving_port(const Flow& flow, bool answer) {
  return travel_of(flow, answer) == Direction::out ? capture_out_port(flow.capture) : capture_in_port(flow.capture);
}

// Whether a packet goes from the answerer to the opener, by its addresses and ports.
inline bool is_answer(const Flow& flow, const Tuple& tuple) { return (flow.opener_is_a != 0) == tuple.swapped(); }

// A stream between two hosts on one side of a capture crosses it twice: out, and turned round by a router in again, with the same
// addresses and ports. Then these don't tell which way a packet goes.
inline constexpr uint16_t kTurnsBack = 0x8000;  // beside the tags in Flow::tags
inline bool turns_back(const Flow& flow) { return shared_load(flow.tags) & kTurnsBack; }

// Keeps what a packet that came from a capture has. Written only when it changes, so that workers share the line in peace.
void remember_link(Flow* flow, const Packet& packet);

// Header and tags of the stream's latest packet that travelled this way. Where none has yet (an instance answers in the
// destination's place), the other way's with its addresses swapped.
Piece write_link(const Flow& flow, Direction travel, uint8_t version, Sink& sink);

// Takes the outermost VLAN tag off. The frame has one.
void pop_tag(Frame& frame);

// Gives the frame another header and tags; `packet` is what parse_frame() made of it.
void replace_link(Frame& frame, Packet& packet, Piece link, Sink& sink);

// The offload header of a frame whose part before the IP header was `from` bytes long and now is `to`.
Offload shifted(Offload offload, uint32_t from, uint32_t to);

}  // namespace weir
