// From an instance to the next one, or out of the capture's other side.
#include <cstring>

#include "engine/pipeline.h"
#include "wire/ethernet.h"

namespace weir {
namespace {

uint16_t tpid_of(uint32_t code) {
  constexpr uint16_t kTpids[4] = {0, kEtherVlan, kEtherQinq, kEtherQinqOld};
  return kTpids[code];
}

Direction opposite(Direction d) { return d == Direction::out ? Direction::in : Direction::out; }

}  // namespace

void Pipeline::from_underlay(Context& c) {
  const StampedFrame outer = read_outer(c.frame);
  if (outer.result == StampedFrame::Result::not_ours) return counters_.ignored++;
  const std::optional<Address>& own = outer.destination.is_ipv4() ? c.program.underlay_ipv4 : c.program.underlay_ipv6;
  if (!own || *own != outer.destination) return counters_.ignored++;
  if (outer.result == StampedFrame::Result::malformed) return counters_.drop(DropReason::return_malformed);

  const uint32_t length = outer.payload_end - outer.payload;
  const bool batch = c.frame.offload.gso() == Offload::kGsoUdp && c.frame.offload.gso_size > 0 && c.frame.offload.gso_size < length;
  if (!batch) {
    counters_.returned.add(c.frame.length);
    if (!outer_checksum_ok(c.frame, outer)) return counters_.drop(DropReason::return_checksum);
    return from_instance(c, outer, c.frame.bytes + outer.payload, length, true);
  }
  // One frame of many datagrams (UDP_L4): split where it lies. The kernel has verified or made its checksum.
  for (uint32_t done = 0; done < length; done += c.frame.offload.gso_size) {
    const uint32_t n = std::min<uint32_t>(c.frame.offload.gso_size, length - done);
    counters_.returned.add(outer.payload + n);
    from_instance(c, outer, c.frame.bytes + outer.payload + done, n, false);
  }
}

void Pipeline::from_instance(Context& c, const StampedFrame& outer, uint8_t* datagram, uint32_t length, bool whole_frame) {
  // The stamp: which path, which way, how far.
  uint32_t spi, stamp_bytes, code, tenant, step, vlans = 0;
  uint8_t ttl = kNshFirstTtl;
  bool ethernet = false;
  if (outer.encapsulation == Encapsulation::nsh) {
    const std::optional<NshStamp> stamp = read_nsh(datagram, length);
    if (!stamp) return counters_.drop(DropReason::return_malformed);
    if (stamp->oam) return counters_.drop(DropReason::oam);
    if (stamp->ttl <= 1) return counters_.drop(DropReason::ttl_expired);
    ethernet = stamp->next_protocol == kNshProtocolEthernet;
    if (!ethernet && stamp->next_protocol != kNshProtocolIpv4 && stamp->next_protocol != kNshProtocolIpv6)
      return counters_.drop(DropReason::return_malformed);
    spi = stamp->spi;
    stamp_bytes = stamp->length;
    code = stamp->code;
    tenant = stamp->vni;
    ttl = uint8_t(stamp->ttl - 1);
    if (stamp->si == kNshFirstIndex) return counters_.drop(DropReason::return_bad_index);
    step = kNshFirstIndex - stamp->si;  // visits done, this one included: the instance has counted down
  } else {
    const std::optional<GeneveStamp> stamp = read_geneve(datagram, length);
    if (!stamp || (stamp->protocol != kEtherIpv4 && stamp->protocol != kEtherIpv6)) return counters_.drop(DropReason::return_malformed);
    if (stamp->endpoint >> 48 || stamp->attachment >> 40) return counters_.drop(DropReason::return_malformed);
    spi = uint32_t(stamp->attachment >> 16) & 0xffffff;
    stamp_bytes = stamp->length;
    code = stamp->cookie;
    tenant = uint32_t(stamp->endpoint) & 0xffffff;
    vlans = uint32_t(stamp->endpoint >> 24);
    step = kNshFirstIndex - (uint32_t(stamp->attachment >> 8) & 255) + 1;  // the header comes back unchanged
  }
  const Path* path = c.program.path(spi / 2);
  const bool answer = spi & 1;
  if (!path || path->encapsulation != outer.encapsulation) return counters_.drop(DropReason::return_unknown_path);
  if (step > path->hops()) return counters_.drop(DropReason::return_bad_index);
  const Instance* from = c.program.instance_at(outer.source);
  if (!from || from->service != path->services[path->position(step - 1, answer)]) return counters_.drop(DropReason::return_wrong_instance);
  counters_.instances[from->id].received.add(length);
  const int capture = c.program.capture_of_tenant(tenant);
  if (capture < 0) return counters_.drop(DropReason::return_unknown_stream);

  // The packet in it, and its stream.
  uint8_t* inner = datagram + stamp_bytes;
  const uint32_t inner_length = length - stamp_bytes;
  Packet packet;
  if (ethernet) {
    const Frame frame{inner, inner_length, inner_length, 0, {}, false};
    packet = parse_frame(frame);
  } else {
    packet = parse_ip(inner, inner_length, inner_length);
  }
  if (packet.verdict != Packet::Verdict::steer) return counters_.drop(DropReason::return_malformed);

  for (Tuple* t : {&packet.tuple, &packet.icmp_tuple}) {
    t->tenant = tenant;
    t->capture = uint16_t(capture);
    t->vlan_outer = uint16_t(ethernet ? packet.outer_tci & 0xfff : vlans >> 12);
    t->vlan_inner = uint16_t(ethernet ? packet.inner_tci & 0xfff : vlans & 0xfff);
  }
  Flow* flow = nullptr;
  for (const bool quoted : {true, false}) {  // an ICMP error: first the stream it quotes, then its own
    if (!quoted) {
      if (!packet.icmp_error) break;
      packet.tuple = packet.icmp_tuple;
    }
    if (packet.fragment && !packet.first_fragment) {
      // Recorded when the first fragment came from the capture; either direction may have been the stream's first.
      FragmentKey key;
      packet.tuple.direction = Direction::out;
      if (!complete_fragment(c, packet, key)) {
        packet.tuple.direction = Direction::in;
        if (!complete_fragment(c, packet, key)) return counters_.drop(DropReason::return_unknown_stream);
      }
    }
    const FlowKey key = flow_key(packet.tuple);
    flow = streams_.find(key, affinity_hash(c.program.affinity_key, key, Affinity::five_tuple));
    if (flow) break;
  }
  if (!flow || flow->action != Action::chain) return counters_.drop(DropReason::return_unknown_stream);
  if (flow->code != code) return counters_.drop(DropReason::return_wrong_code);
  const Direction travel = answer ? opposite(flow->opened) : flow->opened;

  const StreamTable::Stop stop = streams_.next_stop(c.program, flow, *path, step, answer);
  if (stop.kind == StreamTable::Stop::Kind::drop) return counters_.drop(stop.reason);
  if (stop.kind == StreamTable::Stop::Kind::end) return deliver(c, *flow, packet, ethernet, travel);

  // On to the next instance: the stamp is changed where it lies, the outer headers are new.
  const Instance& to = *stop.instance;
  const std::optional<Address>& source = to.address.is_ipv4() ? c.program.underlay_ipv4 : c.program.underlay_ipv6;
  if (!source) return counters_.drop(DropReason::no_underlay_address);
  const uint8_t si = uint8_t(kNshFirstIndex - stop.step);
  if (outer.encapsulation == Encapsulation::nsh) {
    store16(datagram + kNshTtlWord, uint16_t((load16(datagram + kNshTtlWord) & 0xf03f) | ttl << 6));
    datagram[kNshPathWord + 3] = si;
  } else {
    if (stamp_bytes != kGeneveStamp) return counters_.drop(DropReason::return_malformed);
    write_stamp(datagram, Encapsulation::geneve, {tenant, vlans, spi, si, 0, answer, code}, packet.version);
  }
  const uint8_t dscp = uint8_t((packet.version == 4 ? packet.bytes[packet.ip + 1] : load16(packet.bytes + packet.ip) >> 4 & 255) >> 2);
  const Tunnel tunnel{&*source, &to.address, &c.program.underlay_mac, &to.mac, code, outer.encapsulation, dscp};
  const Piece rest{datagram, length};
  // A datagram that has its frame to itself gets the new headers right before it; one of several would overwrite its
  // neighbour, which may still wait to be sent.
  const bool in_place = whole_frame && outer.payload + c.frame.headroom >= tunnel.outer_length();
  uint8_t* headers = in_place ? datagram - tunnel.outer_length() : c.sink.scratch(tunnel.outer_length());
  write_outer(headers, tunnel, {&rest, 1});
  const Piece pieces[2] = {{headers, tunnel.outer_length() + (in_place ? length : 0)}, rest};
  const uint32_t bytes = tunnel.outer_length() + length;
  counters_.stamped.add(bytes);
  counters_.instances[to.id].sent.add(bytes);
  c.sink.emit({kUnderlayPort, {}, {pieces, in_place ? 1u : 2u}});
}

// The end of the path: the packet leaves on the side it was travelling to, with the Ethernet header and tags it had.
void Pipeline::deliver(Context& c, const Flow& flow, const Packet& packet, bool ethernet, Direction travel) {
  const PortId port = travel == Direction::out ? capture_out_port(flow.capture) : capture_in_port(flow.capture);
  Piece pieces[2];
  uint32_t n = 0;
  if (ethernet) {
    pieces[n++] = {packet.bytes, packet.end};
  } else {
    uint8_t* header = c.sink.scratch(kEthernetHeader + 2 * kVlanTag);
    uint32_t at = 12;
    std::memcpy(header, flow.macs[size_t(travel)], 12);
    const uint32_t tags[2][3] = {{flow.outer_tpid, flow.outer_priority, flow.key.vlans >> 12}, {flow.inner_tpid, flow.inner_priority, flow.key.vlans & 0xfff}};
    for (const auto& tag : tags) {
      if (!tag[0]) continue;
      store16(header + at, tpid_of(tag[0]));
      store16(header + at + 2, uint16_t(tag[1] << 12 | tag[2]));
      at += kVlanTag;
    }
    store16(header + at, packet.version == 4 ? kEtherIpv4 : kEtherIpv6);
    pieces[n++] = {header, at + 2};
    pieces[n++] = {packet.bytes + packet.ip, packet.ip_length()};
  }
  const OutFrame out{port, {}, {pieces, n}};
  counters_.delivered.add(out.length());
  c.sink.emit(out);
}

}  // namespace weir
