#include "node/group_relay.h"

#include <algorithm>
#include <cstring>

#include "engine/service_map.h"
#include "node/stamped_datagram.h"

namespace weir {
namespace {

constexpr size_t kMostForwarders = 64;

}  // namespace

const Group::Member* Group::at(const Address& address) const {
  for (const Member& m : members)
    if (m.address == address) return &m;
  return nullptr;
}

const Group::Member* Group::by_id(uint16_t id) const {
  for (const Member& m : members)
    if (m.id == id) return &m;
  return nullptr;
}

uint16_t Group::choose(uint32_t code) const {
  uint16_t best = own_id;
  uint64_t least = ~uint64_t(0);
  for (const Member& m : members) {
    if (!m.usable || !m.takes_new || m.address.is_ipv4() != own.is_ipv4()) continue;
    Instance as;
    as.weight = m.weight;
    as.seed[0] = m.seed[0], as.seed[1] = m.seed[1];
    const uint64_t score = rendezvous_score(code, as);
    if (score < least) least = score, best = m.id;
  }
  return best;
}

std::string Group::check() const {
  bool own_there = false;
  for (const Member& m : members) {
    if (m.id == 0xffff || m.weight == 0) return "members need an id below 65535 and a weight over 0";
    if (m.id == own_id && m.address == own) own_there = true;
    if (by_id(m.id) != &m || at(m.address) != &m) return "two members have one id or one address";
  }
  return own_there ? "" : "this member is not among them";
}

GroupRelay::GroupRelay() : entries_(size_t(kBuckets) * kWays) { forwarders_.reserve(kMostForwarders); }

GroupRelay::Entry* GroupRelay::find(uint32_t code) {
  Entry* bucket = &entries_[size_t(code & (kBuckets - 1)) * kWays];
  for (uint32_t i = 0; i < kWays; i++)
    if (bucket[i].code == code && bucket[i].member != kNobody) return &bucket[i];
  return nullptr;
}

// A free place, or that of the stream that has been silent longest.
GroupRelay::Entry& GroupRelay::remember(uint32_t code, uint32_t now_s) {
  Entry* bucket = &entries_[size_t(code & (kBuckets - 1)) * kWays];
  Entry* oldest = bucket;
  for (uint32_t i = 0; i < kWays; i++) {
    if (bucket[i].member == kNobody) {
      oldest = &bucket[i];
      break;
    }
    if (now_s - bucket[i].seen_s > now_s - oldest->seen_s) oldest = &bucket[i];
  }
  if (oldest->member != kNobody) counters_.forgotten++;
  *oldest = {code, now_s, kNobody, kNobody};
  return *oldest;
}

uint16_t GroupRelay::forwarder_of(const Address& address, const uint8_t* mac) {
  for (size_t i = 0; i < forwarders_.size(); i++) {
    if (forwarders_[i].address != address) continue;
    std::memcpy(forwarders_[i].mac.bytes.data(), mac, 6);
    return uint16_t(i);
  }
  // Room was made at the start: nothing is allocated here. More forwarders than that are strangers.
  if (forwarders_.size() == kMostForwarders) return kNobody;
  Forwarder& f = forwarders_.emplace_back();
  f.address = address;
  std::memcpy(f.mac.bytes.data(), mac, 6);
  return uint16_t(forwarders_.size() - 1);
}

GroupRelay::Way GroupRelay::take(Frame& frame, const StampedFrame& outer, const Group& group, uint32_t now_s, Port& port) {
  const uint32_t total = outer.payload_end - outer.payload;
  const bool batch = frame.offload.gso() == Offload::kGsoUdp && frame.offload.gso_size > 0;
  const uint32_t size = batch ? std::min<uint32_t>(frame.offload.gso_size, total) : total;
  const uint32_t datagrams = size == 0 ? 1 : (total + size - 1) / size;
  DatagramView view;
  if (!read_datagram(frame.bytes + outer.payload, size, outer.encapsulation, view)) return Way::here;  // which counts it

  Entry* entry = find(view.code);
  const Group::Member* from = group.at(outer.source);
  auto send = [&](const Address& as, const Address& to, const Mac& mac, Traffic& count) {
    redirect_outer(frame.bytes, group.own_mac, as, mac, to);
    finish_outer(frame, outer);
    count.add(datagrams, frame.length);
    const Piece piece{frame.bytes, frame.length};
    port.send({0, frame.offload, {&piece, 1}});
    return Way::sent;
  };

  if (from && from->id != group.own_id) {
    if (entry && entry->member == from->id && entry->forwarder != kNobody) {
      const Forwarder& f = forwarders_[entry->forwarder];
      entry->seen_s = now_s;
      return send(from->address, f.address, f.mac, counters_.handed_back);
    }
    // The primary directs it here.
    if (!entry) entry = &remember(view.code, now_s);
    entry->member = group.own_id;
    entry->seen_s = now_s;
    return Way::here;
  }

  if (!entry) {
    entry = &remember(view.code, now_s);
    entry->member = group.primary ? group.choose(view.code) : group.own_id;
    if (group.primary) counters_.chosen++;
  }
  entry->seen_s = now_s;
  if (entry->member == group.own_id) return Way::here;
  const Group::Member* to = group.by_id(entry->member);
  if (!to || !to->usable || to->address.is_ipv4() != group.own.is_ipv4()) {
    entry->member = group.primary ? group.choose(view.code) : group.own_id;
    if (entry->member == group.own_id) return Way::here;
    to = group.by_id(entry->member);
  }
  entry->forwarder = forwarder_of(outer.source, frame.bytes + 6);
  if (!to || entry->forwarder == kNobody) {
    counters_.lost.add(datagrams);
    return Way::lost;
  }
  return send(group.own, to->address, to->mac, counters_.directed);
}

}  // namespace weir
