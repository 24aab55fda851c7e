// From an instance to the next one.
#include <algorithm>
#include <cstring>

#include "engine/pipeline.h"

namespace weir {

// The stamp and the packet behind it. `stamp.refused` and `packet.verdict` say what is wrong with them.
bool Pipeline::read_datagram(const StampedFrame& outer, uint8_t* datagram, uint32_t length, ReturnedStamp& stamp, Packet& packet) {
  packet.verdict = Packet::Verdict::malformed;
  stamp = read_returned_stamp(datagram, length, outer.encapsulation);
  if (stamp.refused) return false;
  uint8_t* inner = datagram + stamp.length;
  const uint32_t inner_length = length - stamp.length;
  if (stamp.ethernet) {
    parse_frame({inner, inner_length, inner_length, 0, {}, false}, packet);
  } else {
    parse_ip(inner, inner_length, inner_length, packet);
  }
  if (packet.verdict != Packet::Verdict::steer) return false;
  const int capture = program_->capture_of_tenant(stamp.tenant);
  if (capture < 0) return false;
  for (Tuple* t : {&packet.tuple, &packet.icmp_tuple}) {
    t->tenant = stamp.tenant;
    t->capture = uint16_t(capture);
    t->vlan_outer = uint16_t(stamp.ethernet ? packet.outer_tci & 0xfff : stamp.vlans >> 12);
    t->vlan_inner = uint16_t(stamp.ethernet ? packet.inner_tci & 0xfff : stamp.vlans & 0xfff);
  }
  return true;
}

void Pipeline::prepare_return(Context& c, Prepared& prepared) {
  prepared.indexed = false;
  prepared.outer = read_outer(c.frame);
  if (prepared.outer.result != StampedFrame::Result::ok) return;
  const uint32_t length = prepared.outer.payload_end - prepared.outer.payload;
  const bool batch = c.frame.offload.gso() == Offload::kGsoUdp && c.frame.offload.gso_size > 0;
  const uint32_t first = batch ? std::min<uint32_t>(c.frame.offload.gso_size, length) : length;
  if (!read_datagram(prepared.outer, c.frame.bytes + prepared.outer.payload, first, prepared.stamp, prepared.packet)) return;
  if (!prepared.packet.fragment) prepared.index(*program_);
}

void Pipeline::from_underlay(Context& c, Prepared& prepared) {
  const StampedFrame& outer = prepared.outer;
  if (outer.result == StampedFrame::Result::not_ours) return counters_.ignored++;
  const std::optional<Address>& own = outer.destination.is_ipv4() ? program_->underlay_ipv4 : program_->underlay_ipv6;
  if (!own || *own != outer.destination) return counters_.ignored++;
  if (outer.result == StampedFrame::Result::malformed) return counters_.drop(DropReason::return_malformed);

  const uint32_t total = outer.payload_end - outer.payload;
  // One frame of many datagrams (UDP_L4) is split where it lies. The kernel has verified or made its checksum.
  const bool batch = c.frame.offload.gso() == Offload::kGsoUdp && c.frame.offload.gso_size > 0 && c.frame.offload.gso_size < total;
  const uint32_t size = batch ? c.frame.offload.gso_size : total;
  if (!batch && !outer_checksum_ok(c.frame, outer)) {
    counters_.returned.add(c.frame.length);
    return counters_.drop(DropReason::return_checksum);
  }
  Returned returned[2];  // the datagram at hand and the one before it
  const Returned* before = nullptr;
  uint32_t done = 0;
  for (uint32_t n = 0; done < total || n == 0; n++, done += size) {
    Returned& now = returned[n & 1];
    now.datagram = c.frame.bytes + outer.payload + done;
    now.length = std::min(size, total - done);
    counters_.returned.add(outer.payload + now.length);
    if (n) {
      prepared.indexed = false;
      read_datagram(outer, now.datagram, now.length, prepared.stamp, prepared.packet);
    }
    const bool good = judge(c, outer, prepared, before, now);
    before = good ? &now : nullptr;
    if (!good) continue;
    if (now.stop.kind == StreamTable::Stop::Kind::instance) {
      forward(c, outer, now);
    } else {
      deliver(c, now);
    }
  }
}

Flow* Pipeline::stream_of(Context& c, Prepared& prepared) {
  Packet& packet = prepared.packet;
  for (const bool quoted : {true, false}) {  // an ICMP error: first the stream it quotes, then its own
    if (!quoted) {
      if (!packet.icmp_error) return nullptr;
      packet.tuple = packet.icmp_tuple;
      prepared.indexed = false;
    }
    if (packet.fragment && !packet.first_fragment) {
      // Recorded when the first fragment came from the capture; either direction may have been the stream's first.
      FragmentKey key;
      packet.tuple.direction = Direction::out;
      if (!complete_fragment(c, packet, key)) {
        packet.tuple.direction = Direction::in;
        if (!complete_fragment(c, packet, key)) return nullptr;
      }
    }
    if (!prepared.indexed) prepared.index(*program_);
    if (Flow* flow = streams_.find_surely(prepared.key, prepared.hash)) return flow;
  }
  return nullptr;
}

bool Pipeline::judge(Context& c, const StampedFrame& outer, Prepared& prepared, const Returned* before, Returned& now) {
  auto refuse = [&](DropReason reason) {
    counters_.drop(reason);
    return false;
  };
  const ReturnedStamp& stamp = prepared.stamp;
  now.stamp = stamp;
  if (stamp.refused) return refuse(*stamp.refused);
  now.answer = stamp.spi & 1;
  // Another worker may have sent this by a program that is newer than ours.
  const Path* path = program_->path(stamp.spi / 2);
  const Instance* from = program_->instance_at(outer.source);
  if ((!path || !from) && program_.refresh()) {
    path = program_->path(stamp.spi / 2);
    from = program_->instance_at(outer.source);
  }
  if (!path || path->encapsulation != outer.encapsulation) return refuse(DropReason::return_unknown_path);
  if (stamp.step > path->hops()) return refuse(DropReason::return_bad_index);
  if (!from || from->service != path->services[path->position(stamp.step - 1, now.answer)]) return refuse(DropReason::return_wrong_instance);
  counters_.instances[from->id].received.add(now.length);
  if (program_->capture_of_tenant(stamp.tenant) < 0) return refuse(DropReason::return_unknown_stream);
  Packet& packet = prepared.packet;
  if (packet.verdict != Packet::Verdict::steer) return refuse(DropReason::return_malformed);

  // The datagram behind one of the same stream needs no looking up of its own.
  const bool known = before && stamp.same(before->stamp) && !packet.fragment && !before->packet.fragment && !packet.icmp_error &&
                     !before->packet.icmp_error && packet.tuple.same_stream(before->packet.tuple);
  if (known) {
    now.flow = before->flow;
    now.stop = before->stop;
  } else {
    now.flow = stream_of(c, prepared);
    if (!now.flow || now.flow->action != Action::chain) return refuse(DropReason::return_unknown_stream);
    if (now.flow->code != stamp.code) return refuse(DropReason::return_wrong_code);
    path = program_->path(stamp.spi / 2);  // the stream may have brought a newer program with it
    if (!path) return refuse(DropReason::return_unknown_path);
    now.stop = streams_.next_stop(now.flow, streams_.table().route(now.flow), *path, stamp.step, now.answer);
    if (now.stop.kind == StreamTable::Stop::Kind::drop) return refuse(now.stop.reason);
    // Stamps of unusual length can be delivered, but not rewritten.
    if (now.stop.kind == StreamTable::Stop::Kind::instance && outer.encapsulation == Encapsulation::geneve && stamp.length != kGeneveStamp)
      return refuse(DropReason::return_malformed);
  }
  now.packet = packet;
  return true;
}

// On to the next instance: the stamp is changed where it lies, the outer headers are new.
void Pipeline::forward(Context& c, const StampedFrame& outer, const Returned& r) {
  const Instance& to = *r.stop.instance;
  const std::optional<Address>& source = to.address.is_ipv4() ? program_->underlay_ipv4 : program_->underlay_ipv6;
  if (!source) return counters_.drop(DropReason::no_underlay_address);
  advance_stamp(r.datagram, outer.encapsulation, r.stamp, r.stop.step);
  const uint8_t* ip = r.packet.bytes + r.packet.ip;
  const uint8_t dscp = uint8_t((r.packet.version == 4 ? ip[1] : load16(ip) >> 4 & 255) >> 2);
  const Tunnel tunnel{&*source, &to.address, &program_->underlay_mac, &to.mac, r.stamp.code, outer.encapsulation, dscp};
  // What begins its frame has room for new headers right before it; with any other, its neighbour is there, which may still wait
  // to be sent.
  const bool room = r.datagram == c.frame.bytes + outer.payload && outer.payload + c.frame.headroom >= tunnel.outer_length();
  batch_.add(c.sink, tunnel, to.id, {r.datagram, r.length}, room, {});
}

}  // namespace weir
