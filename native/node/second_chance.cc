#include "node/second_chance.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "engine/packet.h"
#include "wire/ethernet.h"
#include "wire/ip.h"
#include "wire/transport.h"

namespace weir {
namespace {

// Bits of Entry::state.
constexpr uint8_t kUsed = 1, kTcp = 2, kFinish = 4, kFinishBack = 8, kReset = 16;

uint64_t pack(uint32_t code, uint32_t seen_s, uint8_t state) { return uint64_t(code) << 32 | uint64_t(seen_s & 0xffffff) << 8 | state; }
uint64_t load(const uint64_t& word) { return std::atomic_ref<uint64_t>(const_cast<uint64_t&>(word)).load(std::memory_order_relaxed); }
void store(uint64_t& word, uint64_t value) { std::atomic_ref<uint64_t>(word).store(value, std::memory_order_relaxed); }

// The first map that is newer than the one that the mark is of. That one may have been dropped here, or may not be known here yet.
size_t first_after(const UnitMaps& maps, uint8_t mark) {
  const uint32_t oldest = maps.maps[0].version;
  const uint32_t distance = (mark + 255u - SecondChance::mark_of(oldest)) % 255;
  if (distance >= 128) return 0;
  size_t next = 0;
  while (next < maps.maps.size() && maps.maps[next].version <= oldest + distance) next++;
  return next;
}

Packet inner_packet(const Frame& frame, const StampedFrame& outer, uint32_t at, uint32_t length) {
  Packet packet;
  DatagramView view;
  uint8_t* p = frame.bytes + outer.payload + at;
  if (!read_datagram(p, length, outer.encapsulation, view)) return packet;
  const uint32_t n = length - view.stamp;
  if (view.ethernet) {
    parse_frame({p + view.stamp, n, n, 0, {}, false}, packet);
  } else {
    parse_ip(p + view.stamp, n, n, packet);
  }
  return packet;
}

}  // namespace

SecondChance::SecondChance() : entries_(size_t(kBuckets) * kWays) {}

void SecondChance::forget_all() {
  for (uint64_t& word : entries_) store(word, 0);
}

bool SecondChance::live(const Entry& entry, uint32_t now_s) {
  if (!entry.state) return false;
  const bool closed = (entry.state & kReset) || (entry.state & (kFinish | kFinishBack)) == (kFinish | kFinishBack);
  const uint32_t idle = closed ? kIdleClosed : entry.state & kTcp ? kIdleTcp : kIdleOther;
  return ((now_s - entry.seen_s) & 0xffffff) <= idle;
}

uint64_t* SecondChance::find(uint32_t code, uint32_t now_s) {
  uint64_t* bucket = &entries_[size_t(code & (kBuckets - 1)) * kWays];
  for (uint32_t i = 0; i < kWays; i++) {
    const Entry entry = unpack(bucket[i]);
    if (entry.state && entry.code == code) return live(entry, now_s) ? &bucket[i] : nullptr;
  }
  return nullptr;
}

// Its own old place, a free one, or that of the stream that has been silent longest.
uint64_t* SecondChance::remember(uint32_t code, uint32_t now_s) {
  uint64_t* bucket = &entries_[size_t(code & (kBuckets - 1)) * kWays];
  uint64_t* best = bucket;
  uint32_t longest = 0;
  bool lost = true;
  for (uint32_t i = 0; i < kWays; i++) {
    const Entry entry = unpack(bucket[i]);
    if (entry.state && entry.code == code) return &bucket[i];
    const uint32_t silent = live(entry, now_s) ? (now_s - entry.seen_s) & 0xffffff : 0x1000000;
    if (i > 0 && silent <= longest) continue;
    longest = silent;
    best = &bucket[i];
    lost = silent < 0x1000000;
  }
  if (lost) counters_.forgotten++;
  return best;
}

void SecondChance::see(uint64_t* place, uint32_t code, uint32_t now_s, const Frame& frame, const StampedFrame& outer, uint32_t size, bool opens) {
  const uint32_t total = outer.payload_end - outer.payload;
  // What ends a connection is in the last segment of those that came as one.
  const uint32_t last = size == 0 || total == 0 ? 0 : (total - 1) / size * size;
  const Packet packet = inner_packet(frame, outer, last, total - last);
  uint8_t state = opens ? kUsed : uint8_t(*place);
  if (packet.verdict == Packet::Verdict::steer && packet.is(kIpTcp) && !packet.icmp_error) {
    state |= kTcp;
    if (!packet.fragment) {
      if (packet.tcp_flags & Tcp::kRst) state |= kReset;
      if (packet.tcp_flags & Tcp::kFin) state |= packet.tuple.swapped() ? kFinishBack : kFinish;
      // The same ports once more.
      if ((packet.tcp_flags & (Tcp::kSyn | Tcp::kRst)) == Tcp::kSyn) state = kUsed | kTcp;
    }
    if (opens && !(inner_packet(frame, outer, 0, std::min(size, total)).tcp_flags & Tcp::kSyn)) counters_.opened_midstream++;
  }
  if (opens) counters_.opened++;
  store(*place, pack(code, now_s, state));
}

SecondChance::Outcome SecondChance::serve(Frame& frame, const StampedFrame& outer, const NodePlace& dispatcher, uint32_t size, uint32_t datagrams, bool marked) {
  if (!marked) return {Way::here};
  // It came from a unit; its answer goes to the dispatcher that sent it, which the outer source still is.
  if (!dispatcher.resolved) return {Way::refused, NodeDrop::unresolved};
  const uint32_t total = outer.payload_end - outer.payload;
  for (uint32_t at = 0; at + kMark < total; at += size) frame.bytes[outer.payload + at + kMark] = 0;
  std::memcpy(frame.bytes + 6, dispatcher.mac.bytes.data(), 6);
  finish_outer(frame, outer);
  counters_.taken_up.add(datagrams, frame.length);
  return {Way::here};
}

SecondChance::Outcome SecondChance::take(Frame& frame, const StampedFrame& outer, const UnitMaps& maps, uint32_t now_s, Port& port) {
  const NodePlace* dispatcher = maps.dispatcher(outer.source);
  if (!dispatcher) return {Way::refused, NodeDrop::stranger};
  const uint32_t total = outer.payload_end - outer.payload;
  const bool batch = frame.offload.gso() == Offload::kGsoUdp && frame.offload.gso_size > 0;
  const uint32_t size = batch ? std::min<uint32_t>(frame.offload.gso_size, total) : total;
  DatagramView view;
  if (!read_datagram(frame.bytes + outer.payload, size, outer.encapsulation, view)) return {Way::here};  // which counts it
  const uint32_t datagrams = (total + size - 1) / size;
  const uint8_t mark = frame.bytes[outer.payload + kMark];

  if (uint64_t* place = find(view.code, now_s)) {
    see(place, view.code, now_s, frame, outer, size, false);
    return serve(frame, outer, *dispatcher, size, datagrams, mark != 0);
  }

  // Whoever might have the stream is asked, from the oldest map to the newest; a mark says up to which map that has been done.
  size_t next = mark == 0 ? 0 : first_after(maps, mark);
  for (; next <= maps.newest_opened(); next++) {
    const uint16_t owner = maps.owner(next, view.code);
    if (owner == UnitMaps::kNobody || owner == maps.own_unit) continue;
    const NodePlace& to = maps.units[owner].place;
    if (!to.resolved || !maps.own.resolved || to.address.is_ipv4() != outer.source.is_ipv4()) continue;
    for (uint32_t at = 0; at + kMark < total; at += size) frame.bytes[outer.payload + at + kMark] = mark_of(maps.maps[next].version);
    redirect_outer(frame.bytes, maps.own.mac, outer.source, to.mac, to.address);
    finish_outer(frame, outer);
    counters_.passed_on.add(datagrams, frame.length);
    const Piece piece{frame.bytes, frame.length};
    port.send({0, frame.offload, {&piece, 1}});
    return {Way::sent};
  }
  see(remember(view.code, now_s), view.code, now_s, frame, outer, size, true);
  return serve(frame, outer, *dispatcher, size, datagrams, mark != 0);
}

SecondChance::Live SecondChance::live(const UnitMaps& maps, uint32_t now_s) const {
  Live all;
  all.by_map.assign(maps.maps.size(), 0);
  for (const uint64_t& word : entries_) {
    const Entry entry = unpack(load(word));
    if (!live(entry, now_s)) continue;
    all.streams++;
    size_t map = maps.maps.size();
    while (map > 0 && maps.owner(map - 1, entry.code) != maps.own_unit) map--;
    if (map == 0 || maps.own_unit == UnitMaps::kNobody) {
      all.elsewhere++;
    } else {
      all.by_map[map - 1]++;
    }
  }
  return all;
}

}  // namespace weir
