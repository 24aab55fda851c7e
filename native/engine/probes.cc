#include "engine/probes.h"

#include <algorithm>
#include <cstring>

#include "engine/siphash.h"
#include "wire/ethernet.h"
#include "wire/ip.h"
#include "wire/transport.h"

namespace weir {
namespace {

// The inner packet is a whole one, so that decoders and instances that know nothing of the O bit can make sense of it: UDP to the
// discard port between two times the IPv4 dummy address (RFC 7600).
constexpr uint8_t kDummyAddress[4] = {192, 0, 0, 8};
constexpr uint16_t kDiscardPort = 9;
constexpr uint32_t kMagic = 0x77656972;  // "weir"
constexpr uint32_t kPayload = 16, kInner = kIpv4Header + kUdpHeader + kPayload;

// A thread that was kept from running has its answers still before it.
constexpr uint64_t kLateNs = 1'000'000, kCatchUpNs = 3'000'000;

void write_inner(uint8_t* p, uint16_t instance, uint64_t nonce) {
  std::memset(p, 0, kInner);
  p[0] = 0x45;
  store16(p + 2, kInner);
  store16(p + 6, Ipv4::kDontFragment);
  p[8] = 1;
  p[9] = kIpUdp;
  std::memcpy(p + 12, kDummyAddress, 4);
  std::memcpy(p + 16, kDummyAddress, 4);
  Ipv4::finish(p);
  uint8_t* udp = p + kIpv4Header;
  store16(udp, kDiscardPort);
  store16(udp + 2, kDiscardPort);
  store16(udp + 4, kUdpHeader + kPayload);
  store32(udp + kUdpHeader, kMagic);
  store32(udp + kUdpHeader + 4, instance);
  store64(udp + kUdpHeader + 8, nonce);
}

}  // namespace

bool is_probe(const uint8_t* p, uint32_t length, Encapsulation encapsulation) {
  if (encapsulation == Encapsulation::geneve) return length >= kGeneveHeader && (p[1] & kGeneveOam);
  return length > kVxlanGpeHeader && (p[kVxlanGpeHeader] & kNshOam);
}

// Instances that stay keep what is known of them. New ones begin spread over their interval, so that they don't all come at once.
void Probes::adopt(const Program& program, uint64_t now_ns) {
  std::vector<Target> next;
  const size_t count = size_t(std::count_if(program.instances.begin(), program.instances.end(), [](const Instance& i) { return i.probe.interval_ns; }));
  next.reserve(count);
  for (size_t i = 0; i < program.instances.size(); i++) {
    const Instance& instance = program.instances[i];
    if (!instance.probe.interval_ns) continue;
    Target target;
    if (const Target* known = find(instance.id)) {
      target = *known;
      target.next_ns = std::min(target.next_ns, now_ns + instance.probe.interval_ns);
    } else {
      target.row.instance = instance.id;
      target.next_ns = now_ns + instance.probe.interval_ns * next.size() / std::max<size_t>(count, 1);
    }
    target.index = uint32_t(i);
    next.push_back(target);
  }
  std::sort(next.begin(), next.end(), [](const Target& a, const Target& b) { return a.row.instance < b.row.instance; });
  targets_ = std::move(next);
}

Probes::Target* Probes::find(uint16_t instance) {
  const auto found = std::lower_bound(targets_.begin(), targets_.end(), instance, [](const Target& t, uint16_t id) { return t.row.instance < id; });
  return found != targets_.end() && found->row.instance == instance ? &*found : nullptr;
}

void Probes::lose(const Instance& instance, Target& target) {
  target.waiting = false;
  target.row.answered_in_a_row = 0;
  if (++target.row.lost_in_a_row == instance.probe.fall) news_.store(true, std::memory_order_release);
}

bool Probes::send(const Program& program, const Instance& instance, Target& target, Sink& sink) {
  const Underlay& underlay = program.underlay(instance);
  const std::optional<Address>& source = underlay.own(instance.address.is_ipv4());
  if (!instance.resolved || !source) return false;
  uint8_t seed[16];
  store64(seed, ++sends_);
  store64(seed + 8, target.row.instance);
  target.nonce = siphash24(program.probe_key, seed, sizeof seed);
  const Encapsulation encapsulation = instance.probe.encapsulation;
  const Tunnel tunnel{&*source, &instance.address, &underlay.mac, &instance.mac, 0, encapsulation, 0, program.underlay_port(instance.underlay)};
  const uint32_t outer = tunnel.outer_length(), stamp = stamp_length(encapsulation), length = outer + stamp + kInner;
  uint8_t* frame = sink.scratch(length);
  if (encapsulation == Encapsulation::nsh) {
    write_nsh(frame + outer, {.si = kNshFirstIndex, .ttl = kNshFirstTtl, .next_protocol = kNshProtocolIpv4, .oam = true});
  } else {
    write_geneve(frame + outer, {.protocol = kEtherIpv4, .attachment = geneve_attachment(0, kNshFirstIndex, false), .oam = true});
  }
  write_inner(frame + outer + stamp, target.row.instance, target.nonce);
  const Piece payload{frame + outer, stamp + kInner};
  write_outer(frame, tunnel, {&payload, 1});
  const Piece piece{frame, length};
  sink.emit({tunnel.port, {}, {&piece, 1}});
  return true;
}

bool Probes::run(uint64_t now_ns, const Program& program, uint32_t sequence, Sink& sink) {
  const bool changed = !adopted_ || sequence != sequence_;
  const uint64_t due = due_ns_.load(std::memory_order_relaxed);
  if (!changed && now_ns < due) return false;
  std::lock_guard lock(lock_);
  if (changed) {
    adopt(program, now_ns);
    sequence_ = sequence;
    adopted_ = true;
  }
  const bool was_away = !changed && due != 0 && now_ns - std::min(due, now_ns) > kLateNs;
  uint64_t next = kNever;
  bool emitted = false;
  for (Target& target : targets_) {
    const Instance& instance = program.instances[target.index];
    if (target.waiting && was_away) target.deadline_ns = std::max(target.deadline_ns, now_ns + kCatchUpNs);
    if (target.waiting && now_ns >= target.deadline_ns) lose(instance, target);
    if (!target.waiting && now_ns >= target.next_ns) {
      target.row.sent++;
      target.sent_ns = now_ns;
      target.deadline_ns = now_ns + instance.probe.timeout_ns;
      target.waiting = send(program, instance, target, sink);
      emitted |= target.waiting;
      if (!target.waiting) lose(instance, target);
      target.next_ns += instance.probe.interval_ns;
      if (target.next_ns <= now_ns) target.next_ns = now_ns + instance.probe.interval_ns;
    }
    next = std::min({next, target.waiting ? target.deadline_ns : target.next_ns, target.next_ns > now_ns ? target.next_ns : kNever});
  }
  due_ns_.store(next, std::memory_order_relaxed);
  return emitted;
}

bool Probes::answer(uint64_t now_ns, const Program& program, PortId port, const Address& source, const uint8_t* datagram, uint32_t length, uint32_t stamp_length) {
  const Instance* from = program.instance_at(source);
  if (!from || program.underlay_port(from->underlay) != port || stamp_length > length || length - stamp_length < kInner) return false;
  const uint8_t* payload = datagram + stamp_length + kIpv4Header + kUdpHeader;
  std::lock_guard lock(lock_);
  Target* target = find(from->id);
  if (!target) return false;
  ProbeRow& row = target->row;
  const bool known = load32(payload) == kMagic && load32(payload + 4) == row.instance && load64(payload + 8) == target->nonce && row.sent != 0;
  if (!known || !target->waiting) {
    (known ? row.late : row.refused)++;
    return false;
  }
  target->waiting = false;
  row.answered++;
  row.lost_in_a_row = 0;
  row.latency_ns = now_ns - std::min(now_ns, target->sent_ns);
  if (++row.answered_in_a_row == from->probe.rise || row.answered == 1) news_.store(true, std::memory_order_release);
  return true;
}

std::vector<ProbeRow> Probes::rows() const {
  std::lock_guard lock(lock_);
  std::vector<ProbeRow> rows;
  rows.reserve(targets_.size());
  for (const Target& target : targets_) rows.push_back(target.row);
  return rows;
}

}  // namespace weir
