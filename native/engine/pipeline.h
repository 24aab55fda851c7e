// The packet's way: a frame from a capture is parsed, its stream found or opened, stamped and sent to its first instance; a
// frame from the underlay is checked, and sent to the next instance or, unstamped, out of the other side of the capture.
//
// Pure but for the state it is given: it opens nothing, reads no clock and allocates nothing.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "engine/counters.h"
#include "engine/datagram_batch.h"
#include "engine/fragment_table.h"
#include "engine/frame.h"
#include "engine/outer_reassembly.h"
#include "engine/packet.h"
#include "engine/probes.h"
#include "engine/program_cell.h"
#include "engine/segment_join.h"
#include "engine/stamp.h"
#include "engine/stream_table.h"
#include "engine/tagged_links.h"
#include "wire/ethernet.h"

namespace weir {

class Pipeline {
 public:
  // Frames that are read together before any of them is handled, so that their streams' entries are in the cache by then.
  static constexpr uint32_t kGroup = 32;

  // What is known of fragments, which all workers share.
  struct Fragments {
    FragmentTable& inner;
    OuterReassembly& outer;
    FragmentIds& ids;
  };

  Pipeline(ProgramUse& program, Counters& counters, StreamTable& streams, Fragments fragments, TaggedLinks& tagged_links, Probes& probes)
      : program_(program),
        counters_(counters),
        streams_(streams),
        fragments_(fragments.inner),
        reassembly_(fragments.outer),
        fragment_ids_(fragments.ids),
        tagged_links_(tagged_links),
        probes_(probes),
        batch_(counters) {}

  // At most kGroup frames.
  void process(uint64_t now_ns, PortId port, std::span<Frame> frames, Sink& sink);

  // For frames that come at times of their own and must each be through before the next one begins (replay): look_ahead() reads at
  // most kGroup frames of captures and brings their streams into the cache; process_ahead() then handles each in its turn, and
  // process() what becomes of it. The program must not change in between.
  void look_ahead(std::span<Frame> frames, std::span<const PortId> ports);
  void process_ahead(uint64_t now_ns, PortId port, uint32_t number, Frame& frame, Sink& sink);

  // Gives up what came back from the underlay in fragments and is not whole in time.
  void expire_fragments(uint64_t now_ns);

 private:
  class WholeStamper;

  // Everything about the frame at hand that several steps need.
  struct Context {
    uint64_t now_ns;
    PortId port;
    Frame& frame;
    Sink& sink;
  };

  // What can be read of a frame before its turn comes. From the underlay: of its first datagram.
  struct Prepared {
    StampedFrame outer;
    ReturnedStamp stamp;
    Packet packet;
    uint32_t datagram = 0;  // from the underlay: bytes of each datagram behind the outer headers; the last may be shorter
    FlowKey key;
    uint64_t hash = 0;  // of what an instance sent: only the low half, as the stamp has it
    bool indexed = false;
    uint16_t vlan = 0;  // tag that told an instance without stamps, taken off

    void index(const Program& program) {
      key = flow_key(packet.tuple);
      hash = affinity_hash(program.affinity_key, key, Affinity::five_tuple);
      indexed = true;
    }
    // By the code that the stamp claims: if that is wrong nothing is found by it.
    void index_by(uint32_t code) {
      key = flow_key(packet.tuple);
      hash = code;
      indexed = true;
    }
  };

  // One datagram that an instance sent back, judged.
  struct Returned {
    uint8_t* datagram = nullptr;
    uint32_t length = 0;
    const Prepared* read = nullptr;  // its stamp and packet
    Flow* flow = nullptr;
    const Path* path = nullptr;
    bool answer = false;
    StreamTable::Stop stop;
  };

  // Hashes the keys of what has been read, and brings the streams into the cache.
  void fetch_streams(std::span<Prepared> group, bool hashed);

  // pipeline_capture.cc
  // All but the hash.
  void prepare_capture(PortId port, const Frame& frame, Prepared& prepared);
  void from_capture(Context& c, Prepared& prepared);
  void cross(Context& c, const Packet& packet, CrossReason reason);
  bool answer_for_virtual(Context& c, const Packet& packet);
  void steer(Context& c, Prepared& prepared);
  // To the next instance, stamped or not. `limit`: the longest IP packet that its attached instances and the way out carry.
  void to_instance(Context& c, const Packet& packet, Flow* flow, const Path& path, const StreamTable::Stop& stop, bool answer, uint32_t limit);
  // `way_out`: the longest IP packet that the capture it leaves by carries.
  void clamp(Context& c, const Packet& packet, const Path& path, uint32_t way_out);
  void release_held(Context& c, const FragmentKey& key);
  void answer_too_big(Context& c, const Packet& packet, uint32_t mtu);

  // pipeline_fragments.cc
  // To an instance: a packet that can't be cut and does not fit. False where it is longer than `uncut`.
  bool stamp_whole(Context& c, const Packet& packet, const Path& path, const StreamTable::Stop& stop, const Tunnel& tunnel, const Stamp& stamp, uint32_t uncut);
  // One datagram that is longer than the way to its instance carries, in fragments. `head` begins with the stamp.
  void send_fragmented(Sink& sink, const Tunnel& tunnel, DatagramBatch::Visit visit, Piece head, Piece payload);
  // A fragment from an instance; false if it is none.
  bool take_fragment(Context& c);
  void lose(DropReason reason, const OuterReassembly::Lost& lost);

  // pipeline_return.cc
  void prepare_return(const Frame& frame, Prepared& prepared);
  void from_underlay(Context& c, Prepared& prepared);
  bool read_datagram(const StampedFrame& outer, uint8_t* datagram, uint32_t length, ReturnedStamp& stamp, Packet& packet);
  // Notes an ICMP error about a stamped packet of ours for the instance that the packet went to. False if it is none.
  bool note_error(const Context& c);
  // Gives up (false) after it has counted the reason.
  bool judge(Context& c, const StampedFrame& outer, Prepared& prepared, const Returned* before, Returned& now);
  Flow* stream_of(Context& c, Prepared& prepared);
  void forward(Context& c, const StampedFrame& outer, const Returned& returned);
  void unstamp(Context& c, const Returned& returned);

  // pipeline_proxy.cc
  struct Place {
    Flow* flow = nullptr;
    StreamTable::Visit visit;
    DropReason refused = DropReason::proxy_no_stream;
  };
  void prepare_proxied(Context& c, Prepared& prepared);
  void from_proxied(Context& c, Prepared& prepared);
  Place place_of(Context& c, Prepared& prepared, const Instance& from);
  // These two say false where the packet is too long for the way, after counting that. `uncut`: how long it may be if it can't be cut.
  bool to_proxied(Context& c, const Packet& packet, Flow* flow, const StreamTable::Stop& stop, bool answer, uint32_t limit, uint32_t uncut = 0);
  bool send_out(Context& c, PortId port, DatagramBatch::Visit visit, const Packet& packet, const void* stream, Piece link, uint32_t mtu, uint32_t uncut = 0);

  // pipeline_deliver.cc
  void deliver(Context& c, const Returned& returned);
  // Sends a packet that needs no offload, together with those that it continues. `instance`: whom to, or kNoInstance.
  void join(Context& c, PortId port, DatagramBatch::Visit visit, const Packet& packet, const void* stream, Piece link);
  void finish_join(Sink& sink);

  // Finds the ports of a later fragment, over IPv6 also its protocol and verdict; true if the tuple is complete now.
  bool complete_fragment(Context& c, Packet& packet, FragmentKey& key);
  // Of a first fragment, whose key complete_fragment() has made.
  void remember_fragment(Context& c, const Packet& packet, const FragmentKey& key);

  ProgramUse& program_;
  Counters& counters_;
  StreamTable& streams_;
  FragmentTable& fragments_;
  OuterReassembly& reassembly_;
  FragmentIds& fragment_ids_;
  TaggedLinks& tagged_links_;
  Probes& probes_;
  std::array<Prepared, kGroup> prepared_, ahead_;
  Prepared second_;  // of a frame of several datagrams: every other one of them
  // What frames of the group at hand have become so far and may still be continued by the next one.
  DatagramBatch batch_;
  SegmentJoin join_;
  PortId join_port_ = 0;
  DatagramBatch::Visit join_visit_{kNoInstance, 0};
  uint64_t icmp_allowance_ns_ = 0;  // token bucket of answer_too_big(), in time
};

// What a tunnel's UDP datagram may hold so that its packet fits the way to the instance.
inline uint32_t longest_datagram(const Instance& to, const Tunnel& tunnel) {
  const uint32_t headers = tunnel.outer_length() - kEthernetHeader;
  return to.mtu > headers ? to.mtu - headers : 0;
}
// Longest inner IP packet that leaves `outer_room` bytes behind the outer IP header for it and what stands before it, `l2` being its
// Ethernet header and tags.
uint32_t inner_limit(uint32_t outer_room, Encapsulation encapsulation, uint32_t l2);
// Longest IP packet that every instance of a path can be sent. Any may be reached over IPv6, so where there is a choice this
// reckons with its longer header.
uint32_t path_limit(const Path& path, uint32_t l2);
// The same of one that can't be cut, where the path fragments.
inline uint32_t uncut_limit(const Path& path, uint32_t l2) { return std::min(path.proxy_mtu, inner_limit(path.uncut_room, path.encapsulation, l2)); }

}  // namespace weir
