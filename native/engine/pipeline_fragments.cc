// Stamped datagrams in fragments: out to an instance whose underlay has no room for the whole (`fragment: true`), and back from one.
#include "engine/pipeline.h"
#include "engine/segment.h"

namespace weir {

// Puts a stamp before each datagram. Those that are longer with it than `most` bytes leave in fragments. Not one with the Stamper of
// pipeline_capture.cc: every packet paid some 20 instructions for that.
class Pipeline::WholeStamper final : public SegmentReceiver {
 public:
  WholeStamper(Pipeline& pipeline, Sink& sink, const Tunnel& tunnel, DatagramBatch::Visit visit, const Stamp& stamp, uint8_t inner_version, uint32_t most)
      : pipeline_(pipeline), sink_(sink), tunnel_(tunnel), stamp_(stamp), visit_(visit), most_(most), inner_version_(inner_version) {}

  void segment(uint8_t* header, uint32_t header_length, Piece payload) override {
    const uint32_t length = stamp_length(tunnel_.encapsulation);
    write_stamp(header - length, tunnel_.encapsulation, stamp_, inner_version_);
    const Piece head{header - length, length + header_length};
    if (head.length + payload.length <= most_) {
      pipeline_.batch_.add(sink_, tunnel_, visit_, head, true, payload);
    } else {
      pipeline_.send_fragmented(sink_, tunnel_, visit_, head, payload);
    }
    segments_++;
    bytes_ += header_length + payload.length;
  }
  uint32_t segments() const { return segments_; }
  uint64_t bytes() const { return bytes_; }  // without stamps

 private:
  Pipeline& pipeline_;
  Sink& sink_;
  const Tunnel& tunnel_;
  const Stamp& stamp_;
  uint32_t segments_ = 0;
  uint64_t bytes_ = 0;
  const DatagramBatch::Visit visit_;
  const uint32_t most_;
  const uint8_t inner_version_;
};

bool Pipeline::stamp_whole(Context& c, const Packet& packet, const Path& path, const StreamTable::Stop& stop, const Tunnel& tunnel, const Stamp& stamp, uint32_t uncut) {
  const Instance& to = *stop.instance;
  const SegmentRequest request{path.encapsulation == Encapsulation::nsh ? 0 : packet.ip, uncut,
                               tunnel.outer_length() + stamp_length(path.encapsulation), true};
  leave_checksum(c.frame);
  WholeStamper stamper(*this, c.sink, tunnel, {to.id, stop.hop}, stamp, packet.version, longest_datagram(to, tunnel));
  if (segment(packet, c.frame, request, c.sink, stamper) != SegmentResult::ok || stamper.segments() == 0) return false;
  counters_.cut.add(stamper.segments() - 1);
  if (stop.final) counters_.hand_over(path.chain, to.id, stamper.segments(), stamper.bytes() - uint64_t(stamper.segments()) * (packet.ip - request.from));
  return true;
}

void Pipeline::send_fragmented(Sink& sink, const Tunnel& tunnel, DatagramBatch::Visit visit, Piece head, Piece payload) {
  batch_.finish(sink);  // what came before leaves before
  const uint32_t outer = tunnel.outer_length(), length = outer + head.length + payload.length;
  uint8_t* headers = sink.scratch(outer);
  const Piece pieces[3] = {{headers, outer}, head, payload};
  const uint32_t n = payload.length ? 3 : 2;
  write_outer(headers, tunnel, {pieces + 1, n - 1});
  counters_.stamped.add(length);
  counters_.instances[visit.instance].sent.add(length);
  counters_.hops[visit.hop].add(1, length);
  const uint32_t id = fragment_ids_.next(program_->affinity_key, *tunnel.destination);
  counters_.fragments_sent.add(cut_outer({tunnel.port, {}, {pieces, n}}, program_->instance(visit.instance)->mtu, id, sink));
  counters_.fragmented++;
}

// In the accounts a datagram counts once, however many fragments it came in, when it is whole or given up.
void Pipeline::lose(DropReason reason, const OuterReassembly::Lost& lost) {
  if (!lost.datagrams) return;
  counters_.returned.add(lost.datagrams, lost.bytes);
  for (uint32_t n = lost.datagrams; n; n--) counters_.drop(reason);
}

bool Pipeline::take_fragment(Context& c) {
  const OuterFragment f = read_outer_fragment(c.frame);
  if (f.kind == OuterFragment::Kind::none) return false;
  const size_t underlay = program_->underlay_of(c.port);
  const std::optional<Address>& own = program_->underlays[underlay].own(f.destination.is_ipv4());
  if (!own || *own != f.destination) return false;
  // Of others nothing is kept: the places are for instances.
  const Instance* from = program_->instance_at(f.source);
  if (!from && program_.refresh()) from = program_->instance_at(f.source);
  if (!from || from->underlay != underlay) return false;
  counters_.fragments_received++;
  if (f.kind == OuterFragment::Kind::malformed) {
    lose(DropReason::return_malformed, {1, c.frame.length});
    return true;
  }
  OuterReassembly::Result result = reassembly_.add(f, c.frame, c.now_ns, c.sink);
  lose(DropReason::return_fragment_overflow, result.pushed_out);
  switch (result.outcome) {
    case OuterReassembly::Outcome::kept:
    case OuterReassembly::Outcome::left_out: break;
    case OuterReassembly::Outcome::overlap: lose(DropReason::return_fragment_overlap, result.lost); break;
    case OuterReassembly::Outcome::too_long: lose(DropReason::return_fragment_overflow, result.lost); break;
    case OuterReassembly::Outcome::whole: {
      counters_.reassembled++;
      Context whole{c.now_ns, c.port, result.frame, c.sink};
      Prepared prepared;
      prepare_return(result.frame, prepared);
      from_underlay(whole, prepared);
    }
  }
  return true;
}

void Pipeline::expire_fragments(uint64_t now_ns) { lose(DropReason::return_fragment_timeout, reassembly_.expire(now_ns)); }

}  // namespace weir
