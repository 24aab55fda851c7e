#include "engine/outer_reassembly.h"

#include <algorithm>
#include <cstring>

#include "wire/ethernet.h"
#include "wire/ip.h"
#include "wire/transport.h"

namespace weir {
namespace {

uint64_t mix(const Address& a) {
  uint64_t words[2];
  std::memcpy(words, a.bytes.data(), 16);
  // What tells neighbours apart is the last byte, which is the highest of its word.
  uint64_t h = words[0] ^ (words[1] << 13 | words[1] >> 51);
  for (const uint64_t factor : {0xff51afd7ed558ccd, 0xc4ceb9fe1a85ec53}) h = (h ^ h >> 33) * factor;
  return h ^ h >> 33;
}

// Calls `visit(word, mask)` for the units from `from` up to `to`, by words of 64, until it says false.
template <typename Visit>
bool each_word(uint32_t from, uint32_t to, Visit&& visit) {
  while (from < to) {
    const uint32_t bit = from % 64, n = std::min(64 - bit, to - from);
    const uint64_t mask = (n == 64 ? ~uint64_t(0) : (uint64_t(1) << n) - 1) << bit;
    if (!visit(from / 64, mask)) return false;
    from += n;
  }
  return true;
}

}  // namespace

bool OuterReassembly::has_any(const Place& place, uint32_t from, uint32_t to) {
  return !each_word(from, to, [&](uint32_t word, uint64_t mask) { return (place.have[word] & mask) == 0; });
}

bool OuterReassembly::has_all(const Place& place, uint32_t from, uint32_t to) {
  return each_word(from, to, [&](uint32_t word, uint64_t mask) { return (place.have[word] & mask) == mask; });
}

void OuterReassembly::give_back(Place& place) {
  place.used = false;
  keys_[&place - places_.get()] = 0;
  waiting_.fetch_sub(1, std::memory_order_relaxed);
}

OuterReassembly::Place& OuterReassembly::place_for(const OuterFragment& f, uint64_t now_ns, Result& result) {
  const uint64_t sender = mix(f.source);
  const uint32_t set = uint32_t(sender % kSets) * kWays, key = (uint32_t(sender >> 32) ^ f.id * 0x9e3779b1u) | 1;
  Place* chosen = nullptr;
  for (uint32_t i = set; i < set + kWays; i++) {
    if (keys_[i] == 0) {
      if (!chosen || chosen->used) chosen = &places_[i];
      continue;
    }
    Place& place = places_[i];
    if (keys_[i] == key && place.id == f.id && place.source == f.source && place.destination == f.destination) return place;
    if (!chosen || (chosen->used && place.since_ns < chosen->since_ns)) chosen = &place;
  }
  if (chosen->used) {
    if (!chosen->given_up) result.pushed_out = {1, chosen->bytes};
    give_back(*chosen);
  }
  static_cast<State&>(*chosen) = {};
  chosen->source = f.source;
  chosen->destination = f.destination;
  chosen->id = f.id;
  chosen->used = true;
  chosen->since_ns = now_ns;
  keys_[chosen - places_.get()] = key;
  waiting_.fetch_add(1, std::memory_order_relaxed);
  due_ns_.store(std::min(due_ns_.load(std::memory_order_relaxed), now_ns + kTimeoutNs), std::memory_order_relaxed);
  return *chosen;
}

// False: it overlaps others, or says another end than they do.
bool OuterReassembly::take(Place& place, const OuterFragment& f, const uint8_t* payload, bool& duplicate) {
  const uint32_t end = f.offset + f.length, from = f.offset / 8, to = (end + 7) / 8;
  if (place.total && (end > place.total || (!f.more && end != place.total))) return false;
  if (!f.more && !place.total && has_any(place, to, kUnits)) return false;
  if (has_any(place, from, to)) {
    duplicate = has_all(place, from, to) && (f.more || place.total) && std::memcmp(place.data + f.offset, payload, f.length) == 0;
    return duplicate;
  }
  each_word(from, to, [&](uint32_t word, uint64_t mask) {
    place.have[word] |= mask;
    return true;
  });
  std::memcpy(place.data + f.offset, payload, f.length);
  place.received += f.length;
  if (!f.more) place.total = end;
  return true;
}

Frame OuterReassembly::finish(const Place& place, Sink& sink) {
  const bool ipv4 = place.destination.is_ipv4();
  const uint32_t header = kEthernetHeader + (ipv4 ? kIpv4Header : kIpv6Header), length = header + place.total;
  uint8_t* bytes = sink.scratch(kHeadroom + length) + kHeadroom;
  std::memcpy(bytes, place.header, header);
  std::memcpy(bytes + header, place.data, place.total);
  uint8_t* ip = bytes + kEthernetHeader;
  if (ipv4) {
    store16(ip + 2, uint16_t(kIpv4Header + place.total));
    store16(ip + 6, 0);
    Ipv4::finish(ip);
  } else {
    store16(ip + 4, uint16_t(place.total));
    ip[6] = kIpUdp;
  }
  return {bytes, length, length, kHeadroom, {}, false};
}

OuterReassembly::Result OuterReassembly::add(const OuterFragment& f, const Frame& frame, uint64_t now_ns, Sink& sink) {
  Result result;
  std::lock_guard lock(lock_);
  if (!places_) places_.reset(static_cast<Place*>(std::calloc(kSets * kWays, sizeof(Place))));  // a page is taken when it is written to
  if (f.offset + f.length > kLongest || !places_) {
    // Nothing is kept of it, so each of its fragments that goes too far is one that was lost.
    result.outcome = Outcome::too_long;
    result.lost = {1, f.ip_length};
    return result;
  }
  Place& place = place_for(f, now_ns, result);
  if (place.given_up) {
    result.outcome = Outcome::left_out;
    return result;
  }
  place.bytes += f.ip_length;
  bool duplicate = false;
  if (!take(place, f, frame.bytes + f.payload, duplicate)) {
    place.given_up = true;
    result.outcome = Outcome::overlap;
    result.lost = {1, place.bytes};
    return result;
  }
  if (duplicate) {
    place.bytes -= f.ip_length;
    result.outcome = Outcome::left_out;
    return result;
  }
  place.longest = std::max(place.longest, f.ip_length);
  if (f.offset == 0) std::memcpy(place.header, frame.bytes, kEthernetHeader + (f.destination.is_ipv4() ? kIpv4Header : kIpv6Header));
  if (!place.total || place.received < place.total) return result;
  result.outcome = Outcome::whole;
  result.frame = finish(place, sink);
  result.longest = place.longest;
  give_back(place);
  return result;
}

OuterReassembly::Lost OuterReassembly::expire(uint64_t now_ns) {
  Lost lost;
  if (now_ns < due_ns_.load(std::memory_order_relaxed)) return lost;
  std::lock_guard lock(lock_);
  uint64_t due = UINT64_MAX;
  for (uint32_t i = 0; i < kSets * kWays; i++) {
    if (keys_[i] == 0) continue;
    Place& place = places_[i];
    if (now_ns < place.since_ns + kTimeoutNs) {
      due = std::min(due, place.since_ns + kTimeoutNs);
      continue;
    }
    if (!place.given_up) lost = {lost.datagrams + 1, lost.bytes + place.bytes};
    give_back(place);
  }
  due_ns_.store(due, std::memory_order_relaxed);
  return lost;
}

}  // namespace weir
