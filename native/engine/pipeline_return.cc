// From an instance to the next one.
#include <algorithm>
#include <cstring>

#include "engine/link.h"
#include "engine/pipeline.h"
#include "wire/ethernet.h"
#include "wire/ip.h"
#include "wire/transport.h"

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

void Pipeline::prepare_return(const Frame& frame, Prepared& prepared) {
  prepared.indexed = false;
  prepared.outer = read_outer(frame);
  if (prepared.outer.result != StampedFrame::Result::ok) return;
  const uint32_t length = prepared.outer.payload_end - prepared.outer.payload;
  const bool batch = frame.offload.gso() == Offload::kGsoUdp && frame.offload.gso_size > 0;
  prepared.datagram = batch ? std::min<uint32_t>(frame.offload.gso_size, length) : length;
  if (!read_datagram(prepared.outer, frame.bytes + prepared.outer.payload, prepared.datagram, prepared.stamp, prepared.packet)) return;
  // libpcap does not say how long the datagrams of a frame are: as long as the first, whose packet knows where it ends.
  if (frame.offload_unknown && outer_checksum_unmade(frame, prepared.outer)) prepared.datagram = std::min(prepared.stamp.length + prepared.packet.end, length);
  if (!prepared.packet.fragment) prepared.index_by(prepared.stamp.code);
}

void Pipeline::from_underlay(Context& c, Prepared& prepared) {
  const StampedFrame& outer = prepared.outer;
  if (outer.result == StampedFrame::Result::not_ours) {
    if (program_->underlays[program_->underlay_of(c.port)].fragment && take_fragment(c)) return;
    if (!note_error(c)) counters_.ignored++;
    return;
  }
  const std::optional<Address>& own = program_->underlays[program_->underlay_of(c.port)].own(outer.destination.is_ipv4());
  if (!own || *own != outer.destination) return counters_.ignored++;
  if (outer.result == StampedFrame::Result::malformed) {
    counters_.returned.add(c.frame.length);
    return counters_.drop(DropReason::return_malformed);
  }

  const uint32_t total = outer.payload_end - outer.payload;
  // One frame of many datagrams (UDP_L4) is split where it lies. The kernel has verified or made its checksum.
  const uint32_t size = prepared.datagram;
  if (size == total && !outer_checksum_ok(c.frame, outer)) {
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
    Prepared& read = n & 1 ? second_ : prepared;
    if (n) {
      read.indexed = false;
      read_datagram(outer, now.datagram, now.length, read.stamp, read.packet);
    }
    if (read.stamp.refused == DropReason::oam) {
      if (probes_.answer(c.now_ns, *program_, c.port, outer.source, now.datagram, now.length, read.stamp.length)) {
        counters_.probes_answered++;
      } else {
        counters_.drop(DropReason::oam);
      }
      before = nullptr;
      continue;
    }
    const bool good = judge(c, outer, read, before, now);
    before = good ? &now : nullptr;
    if (!good) continue;
    if (now.stop.kind == StreamTable::Stop::Kind::instance) {
      now.stop.instance->proxied() ? unstamp(c, now) : forward(c, outer, now);
    } else {
      deliver(c, now);
    }
  }
}

bool Pipeline::note_error(const Context& c) {
  const OuterError error = read_outer_error(c.frame);
  if (error.kind == OuterError::Kind::none) return false;
  const bool ipv4 = error.from.is_ipv4();
  const size_t underlay = program_->underlay_of(c.port);
  const std::optional<Address>& own = program_->underlays[underlay].own(ipv4);
  const Instance* instance = own && *own == error.from ? program_->instance_at(error.to) : nullptr;
  if (!instance || instance->underlay != underlay) return false;
  InstanceTraffic& traffic = counters_.instances[instance->id];
  if (error.kind == OuterError::Kind::unreachable) {
    traffic.unreachable++;
    return true;
  }
  // Less than what every host takes (RFC 791) or every link carries (RFC 8200) is no router's word. One of before RFC 1191 does not
  // say how much its link carries: then it is that least.
  constexpr uint32_t kLeastIpv4 = 576, kLeastIpv6 = 1280;
  const uint32_t mtu = ipv4 && error.mtu == 0 ? kLeastIpv4 : error.mtu;
  if (mtu < (ipv4 ? kLeastIpv4 : kLeastIpv6)) return false;
  if (mtu < instance->mtu) traffic.told_mtu.set(c.now_ns / 1000 << 16 | mtu);
  return true;
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
    if (!prepared.indexed) prepared.index_by(prepared.stamp.code);
    if (Flow* flow = streams_.find(prepared.key, prepared.hash)) return flow;
    prepared.index(*program_);  // there was no stamp, or its code was wrong, or the entry was just being moved
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
  now.read = &prepared;
  if (stamp.refused) return refuse(*stamp.refused);
  now.answer = stamp.spi & 1;
  // What comes back behind Geneve has the header of some packet of its stream, not always of the latest one or one of this
  // direction: appliances keep one for each flow. So only what is the same for all of them counts, and the rest is told by the
  // instance and the inner packet.
  const bool remembered = outer.encapsulation == Encapsulation::geneve;
  // Another worker may have sent this by a program that is newer than ours.
  const size_t underlay = program_->underlay_of(c.port);
  const Path* path = program_->path(stamp.spi / 2);
  const Instance* from = program_->instance_at(outer.source);
  if ((!path || !from || from->underlay != underlay) && program_.refresh()) {
    path = program_->path(stamp.spi / 2);
    from = program_->instance_at(outer.source);
  }
  if (!remembered) {
    if (!path || path->encapsulation != outer.encapsulation) return refuse(DropReason::return_unknown_path);
    if (stamp.step > path->hops()) return refuse(DropReason::return_bad_index);
    if (!from || from->service != path->services[path->position(stamp.step - 1, now.answer)]) return refuse(DropReason::return_wrong_instance);
  } else if (!from) {
    return refuse(DropReason::return_wrong_instance);
  }
  if (from->underlay != underlay) return refuse(DropReason::return_wrong_underlay);
  counters_.instances[from->id].received.add(now.length);
  if (program_->capture_of_tenant(stamp.tenant) < 0) return refuse(DropReason::return_unknown_stream);
  Packet& packet = prepared.packet;
  if (packet.verdict != Packet::Verdict::steer) return refuse(DropReason::return_malformed);

  // The datagram behind one of the same stream needs no looking up of its own.
  const Packet* last = before ? &before->read->packet : nullptr;
  const bool known = last && stamp.same(before->read->stamp) && !packet.fragment && !last->fragment && !packet.icmp_error &&
                     !last->icmp_error && packet.tuple.same_stream(last->tuple);
  if (known) {
    now.flow = before->flow;
    now.stop = before->stop;
    now.answer = before->answer;
    now.path = before->path;
  } else {
    now.flow = stream_of(c, prepared);
    // One that has been taken off its chain meanwhile may still have packets on their way.
    if (!now.flow || now.flow->action == Action::drop) return refuse(DropReason::return_unknown_stream);
    if (now.flow->code != stamp.code) return refuse(DropReason::return_wrong_code);
    uint32_t step = stamp.step;
    if (remembered) {
      const StreamTable::Visit visit = streams_.visit(now.flow, *from);
      if (visit.path) {
        if (visit.path->encapsulation != outer.encapsulation) return refuse(DropReason::return_wrong_instance);
        path = visit.path;
        now.answer = turns_back(*now.flow) ? stamp.spi & 1 : is_answer(*now.flow, packet.tuple);
        step = path->position(visit.position, now.answer) + 1;
      } else {
        // Its stream may have been taken off the chain meanwhile: then the header has to do.
        if (now.flow->action == Action::chain) return refuse(DropReason::return_wrong_instance);
        path = program_->path(stamp.spi / 2);
        if (!path || path->encapsulation != outer.encapsulation || step == 0 || step > path->hops() || from->service != path->services[path->position(step - 1, now.answer)])
          return refuse(DropReason::return_wrong_instance);
      }
    } else {
      path = program_->path(stamp.spi / 2);  // the stream may have brought a newer program with it
      if (!path) return refuse(DropReason::return_unknown_path);
    }
    now.path = path;
    if (step > 0 && program_->service(from->service)->primary) streams_.learn(now.flow, *path, path->position(step - 1, now.answer), *from);
    // What an instance keeps it does not send back, and its answers do not come this way.
    if (path->deliver && (now.answer || path->ends_at(step - 1))) return refuse(DropReason::return_delivered);
    now.stop = streams_.next_stop(now.flow, streams_.table().route(now.flow), *path, step, now.answer);
    if (now.stop.kind == StreamTable::Stop::Kind::drop) return refuse(now.stop.reason);
    // Stamps of unusual length can be delivered, but not rewritten.
    if (now.stop.kind == StreamTable::Stop::Kind::instance && !now.stop.instance->proxied() && outer.encapsulation == Encapsulation::geneve &&
        stamp.length != kGeneveStamp)
      return refuse(DropReason::return_malformed);
  }
  return true;
}

// On to an instance that knows nothing of stamps. What was before the packet is free for its new header.
void Pipeline::unstamp(Context& c, const Returned& r) {
  const Packet& packet = r.read->packet;
  Frame inner{packet.bytes, packet.end, packet.end, r.read->stamp.length, {}, false};
  Context again{c.now_ns, c.port, inner, c.sink};
  to_proxied(again, packet, r.flow, r.stop, r.answer, 65535);
}

// On to the next instance: the stamp is changed where it lies, the outer headers are new.
void Pipeline::forward(Context& c, const StampedFrame& outer, const Returned& r) {
  const Instance& to = *r.stop.instance;
  const Underlay& underlay = program_->underlay(to);
  const std::optional<Address>& source = underlay.own(to.address.is_ipv4());
  if (!source) return counters_.drop(DropReason::no_underlay_address);
  const ReturnedStamp& stamp = r.read->stamp;
  const Packet& packet = r.read->packet;
  advance_stamp(r.datagram, outer.encapsulation, stamp, r.path->spi(r.answer), r.stop.step);
  const uint8_t* ip = packet.bytes + packet.ip;
  const uint8_t dscp = uint8_t((packet.version == 4 ? ip[1] : load16(ip) >> 4 & 255) >> 2);
  const Tunnel tunnel{&*source, &to.address, &underlay.mac, &to.mac, stamp.code, outer.encapsulation, dscp, program_->underlay_port(to.underlay)};
  // An instance made it longer, or the way to this one has become narrower since it set out.
  const bool fits = r.length <= longest_datagram(to, tunnel);
  if (!fits && (!underlay.fragment || kUdpHeader + r.length > OuterReassembly::kLongest)) return counters_.drop(DropReason::too_big);
  if (r.stop.final) counters_.hand_over(r.path->chain, to.id, 1, packet.ip_length());
  if (!fits) return send_fragmented(c.sink, tunnel, {to.id, r.stop.hop}, {r.datagram, r.length}, {});
  // What begins its frame has room for new headers right before it; with any other, its neighbour is there, which may still wait
  // to be sent.
  const bool room = r.datagram == c.frame.bytes + outer.payload && outer.payload + c.frame.headroom >= tunnel.outer_length();
  batch_.add(c.sink, tunnel, {to.id, r.stop.hop}, {r.datagram, r.length}, room, {});
}

}  // namespace weir
