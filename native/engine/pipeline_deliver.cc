// The end of the path: a packet leaves on the side it was travelling to, with the Ethernet header and tags it had, and together
// with the TCP segments that it continues.
#include "engine/link.h"
#include "engine/pipeline.h"

namespace weir {

void Pipeline::deliver(Context& c, const Returned& r) {
  const Packet& packet = r.read->packet;
  Piece link{packet.bytes, packet.ip};
  const uint32_t mtu = program_->captures[r.flow->capture].mtu;
  if (!r.read->stamp.ethernet) link = write_link(*r.flow, travel_of(*r.flow, r.answer), packet.version, c.sink);
  if (packet.ip_length() > mtu) {  // the instance made it longer
    Frame inner{packet.bytes, packet.end, packet.end, 0, {}, false};
    Context again{c.now_ns, c.port, inner, c.sink};
    send_out(again, leaving_port(*r.flow, r.answer), {kNoInstance}, packet, r.flow, link, mtu);
    return;
  }
  join(c, leaving_port(*r.flow, r.answer), {kNoInstance}, packet, r.flow, link);
}

void Pipeline::join(Context& c, PortId port, DatagramBatch::Visit visit, const Packet& packet, const void* stream, Piece link) {
  const uint8_t gso = packet.version == 4 ? Offload::kGsoTcp4 : Offload::kGsoTcp6;
  const bool joins = c.sink.carries(port, gso);
  if (!join_.empty() && port == join_port_ && visit.instance == join_visit_.instance && visit.hop == join_visit_.hop && joins && join_.append(packet, stream)) return;
  finish_join(c.sink);
  if (!joins && visit.instance == kNoInstance) {  // nothing will be joined to it
    const Piece pieces[2] = {link, {packet.bytes + packet.ip, packet.ip_length()}}, whole{packet.bytes, packet.end};
    counters_.delivered.add(link.length + packet.ip_length());
    c.sink.emit({port, {}, link.bytes == packet.bytes ? std::span<const Piece>(&whole, 1) : std::span<const Piece>(pieces)});
    return;
  }
  join_.start(packet, stream, link);
  join_port_ = port;
  join_visit_ = visit;
}

void Pipeline::finish_join(Sink& sink) {
  if (join_.empty()) return;
  std::span<const Piece> pieces;
  const Offload offload = join_.finish(pieces);
  if (join_visit_.instance == kNoInstance) {
    counters_.delivered.add(join_.packets(), join_.bytes());
  } else {
    counters_.proxied.add(join_.packets(), join_.bytes());
    counters_.instances[join_visit_.instance].sent.add(join_.packets(), join_.bytes());
    counters_.hops[join_visit_.hop].add(join_.packets(), join_.bytes());
  }
  sink.emit({join_port_, offload, pieces});
  join_.clear();
}

}  // namespace weir
