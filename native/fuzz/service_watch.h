// That nothing gets around the services, said without the pipeline, of each frame that goes through it:
//   - what comes from a capture and is of a stream that the rules, asked one after the other, put on a chain, leaves for an instance or
//     not at all, and what they drop leaves nowhere;
//   - what comes from an underlay and leaves again came from the address of an instance there, for weir's own, with the code of the live
//     stream that it leaves as a packet of.
#pragma once
#include <algorithm>
#include <optional>
#include <vector>

#include "engine/classifier.h"
#include "engine/engine.h"
#include "engine/frame_collector.h"
#include "engine/link.h"
#include "fuzz_input.h"
#include "host_reading.h"
#include "node/stamped_datagram.h"
#include "wire/ethernet.h"

namespace weir::fuzz {

class ServiceWatch {
 public:
  explicit ServiceWatch(Engine& engine) : engine_(engine) {}

  // A frame is about to be run through.
  void comes(uint64_t now_ns, PortId port, const Frame& frame) {
    port_ = port;
    fate_ = Fate::any;
    codes_.reset();
    const Program& p = engine_.program();
    if (p.is_capture_port(port)) fate_ = fate_of(std::max(now_ns, engine_.now()), port, frame);
    from_underlay_ = p.is_underlay_port(port);
    known_sender_ = from_underlay_ && is_known_sender(port, {frame.bytes, frame.length});
    if (from_underlay_) codes_ = codes_in(frame);
    crossed_ = engine_.counters().crossed.packets.get();
    busy_ = true;
  }

  // A whole frame that leaves because of it.
  void leaves(const CollectedFrame& out) {
    if (!busy_) return;  // a probe
    const Program& p = engine_.program();
    CLAIM(fate_ != Fate::dropped);
    const bool capture = p.is_capture_port(out.port);
    CLAIM(fate_ != Fate::served || !capture || (out.port == port_ && is_too_big(out)));
    CLAIM(!from_underlay_ || known_sender_);
    // What comes from a capture and leaves by one has been judged.
    if (p.is_capture_port(port_) && capture) return;
    Frame frame{const_cast<uint8_t*>(out.bytes.data()), uint32_t(out.bytes.size()), uint32_t(out.bytes.size()), 0, out.offload, false};
    if (!p.is_underlay_port(out.port)) {
      std::vector<uint8_t> bytes = out.bytes;
      // The instance's own tag, which may be a third one.
      if (p.is_proxy_port(out.port) && p.port_tagged(out.port)) bytes.erase(bytes.begin() + 12, bytes.begin() + 12 + kVlanTag);
      frame.bytes = bytes.data();
      frame.length = frame.wire_length = uint32_t(bytes.size());
      CLAIM(is_of_a_stream(parse_frame(frame), {}, capture ? std::optional(uint16_t((out.port - 1) / 2)) : std::nullopt));
      return;
    }
    const StampedFrame outer = read_outer(frame);
    CLAIM(outer.result == StampedFrame::Result::ok);
    each_datagram(frame, outer, [&](uint8_t* at, uint32_t length, const DatagramView& view) {
      const uint32_t inner = length - view.stamp;
      Packet packet;
      view.ethernet ? parse_frame({at + view.stamp, inner, inner, 0, {}, false}, packet) : parse_ip(at + view.stamp, inner, inner, packet);
      CLAIM(is_of_a_stream(packet, view.code, {}));
    });
  }

  // All that left has been shown.
  void done() {
    CLAIM(fate_ == Fate::any || engine_.counters().crossed.packets.get() == crossed_);
    busy_ = false;
    check_streams();
  }

 private:
  enum class Fate : uint8_t {
    any,      // nothing is claimed
    served,   // leaves for an instance, or its sender is told that it is too big
    dropped,  // nothing leaves
  };

  // What a datagram's first fragment says for all of them. By addresses and number, and by the protocol where a host looks at it.
  struct First {
    HostReading host;
    std::optional<Tuple> tuple;  // none where it is not steered, or quotes a stream
  };
  bool is_rest_of(const HostReading& later, const First& first) const {
    const HostReading& f = first.host;
    return f.id == later.id && f.source == later.source && f.destination == later.destination && f.ipv4 == later.ipv4 && (!f.ipv4 || f.protocol == later.protocol);
  }

  Fate fate_of(uint64_t now_ns, PortId port, const Frame& frame) {
    Packet packet = parse_frame(frame);
    const HostReading host = read_as_host({frame.bytes, frame.length});
    if (packet.verdict == Packet::Verdict::malformed) return Fate::dropped;
    const bool steered = packet.verdict == Packet::Verdict::steer;
    if (host.fragment && !host.later) firsts_.push_back({host, steered && !packet.icmp_error ? std::optional(packet.tuple) : std::nullopt});
    if (!steered) {
      CLAIM(host.kind != HostReading::Kind::transport);
      const auto tells = [&](const First& f) { return f.host.kind == HostReading::Kind::other && is_rest_of(host, f); };
      CLAIM(host.kind != HostReading::Kind::rest || std::any_of(firsts_.begin(), firsts_.end(), tells));
      return Fate::any;
    }
    const Tuple& own = packet.icmp_error ? packet.icmp_tuple : packet.tuple;
    CLAIM(host.kind != HostReading::Kind::transport || (host.protocol == packet.ip_protocol && host.source == own.source && host.destination == own.destination));
    CLAIM(!host.ports || (host.source_port == own.source_port && host.destination_port == own.destination_port));

    const uint16_t capture = uint16_t((port - 1) / 2);
    for (Tuple* t : {&packet.tuple, &packet.icmp_tuple}) {
      t->capture = capture;
      t->tenant = engine_.program().captures[capture].tenant;
      t->direction = port % 2 ? Direction::out : Direction::in;
      t->vlan_outer = packet.outer_tci & 0xfff;
      t->vlan_inner = packet.inner_tci & 0xfff;
    }
    if (host.later) return fate_of_later(now_ns, host, packet);
    // What waited for it leaves with it, and that is of another stream than the quoted one.
    if (packet.fragment && packet.icmp_error) return Fate::any;
    return fate_of_stream(now_ns, packet);
  }

  // As all that may be its first one, which it has the ports of. An instance may have sent that, too, of a stream that is served: so of
  // none it is claimed that it leaves nowhere.
  Fate fate_of_later(uint64_t now_ns, const HostReading& host, Packet& packet) const {
    std::optional<Fate> all;
    for (const First& first : firsts_) {
      if (!is_rest_of(host, first)) continue;
      if (!first.tuple) return Fate::any;
      packet.tuple.protocol = first.tuple->protocol;
      packet.tuple.source_port = first.tuple->source_port;
      packet.tuple.destination_port = first.tuple->destination_port;
      const Fate fate = fate_of_stream(now_ns, packet);
      if (all && *all != fate) return Fate::any;
      all = fate;
    }
    if (!all && engine_.program().delivers) return Fate::any;  // it may be an answer
    return all == Fate::any ? Fate::any : Fate::served;
  }

  Fate fate_of_stream(uint64_t now_ns, Packet& packet) const {
    const Flow* flow = find(packet.tuple);
    const auto over = [&] { return !flow || idle_over(*flow, now_ns, engine_.program().idle); };
    if (over() && packet.icmp_error) {
      packet.tuple = packet.icmp_tuple;
      flow = find(packet.tuple);
    }
    const bool tcp = packet.tuple.protocol == kIpTcp, syn = is_bare_syn(packet.tcp_flags);
    if (over()) return fate_of_new(packet.tuple, tcp && !syn);
    // Whether a SYN begins a stream anew is for the stream's life to say (tcp_state.h), not for these claims.
    const Fate known = fate_of_known(*flow, packet.tuple);
    return tcp && syn && fate_of_new(packet.tuple, false) != known ? Fate::any : known;
  }

  const Flow* find(const Tuple& tuple) const {
    const FlowKey key = flow_key(tuple);
    for (uint32_t n = 1; n <= engine_.flows().high_water(); n++)
      if (const Flow* flow = engine_.flows().at(n); flow && flow->key == key) return flow;
    return nullptr;
  }

  // `midstream`: it opens no connection, and may be of either direction.
  Fate fate_of_new(const Tuple& tuple, bool midstream) const {
    const Program& p = engine_.program();
    const Classification own = classify_in_turn(p, tuple);
    Tuple turned = tuple;
    std::swap(turned.source, turned.destination);
    std::swap(turned.source_port, turned.destination_port);
    turned.direction = opposite(tuple.direction);
    // What an instance that ends a chain answers goes by itself, also where its stream is not known any more: whatever the rules say of
    // it as a stream of its own.
    const auto ends = [&](const Classification& c) { return c.action == Action::chain && p.path(p.chain(c.chain)->path)->deliver; };
    const Classification other = classify_in_turn(p, turned);
    if (!ends(own) && ends(other)) return Fate::any;
    if (midstream && own.policy == kNoPolicy && other.action == Action::chain) return fate_by(other.action, p.path(p.chain(other.chain)->path));
    return fate_by(own.action, own.action == Action::chain ? p.path(p.chain(own.chain)->path) : nullptr);
  }

  // The stream's own action, which check_streams() has held against the rules.
  Fate fate_of_known(const Flow& flow, const Tuple& tuple) const {
    const Path* path = engine_.program().path(flow.path);
    if (flow.action == Action::chain && path && path->deliver && is_answer(flow, tuple)) return Fate::any;
    return fate_by(flow.action, path);
  }

  // On a chain of services that all fail open a packet may cross.
  Fate fate_by(Action action, const Path* path) const {
    if (action == Action::drop) return Fate::dropped;
    if (action == Action::pass || !path) return Fate::any;
    for (const uint16_t id : path->services)
      if (!engine_.program().service(id)->fail_open) return Fate::served;
    return Fate::any;
  }

  static bool is_too_big(const CollectedFrame& out) {
    const uint32_t length = uint32_t(out.bytes.size());
    const Packet packet = parse_frame({const_cast<uint8_t*>(out.bytes.data()), length, length, 0, {}, false});
    if (packet.verdict != Packet::Verdict::steer || packet.fragment) return false;
    const uint8_t* icmp = &out.bytes[packet.transport];
    return packet.version == 4 ? packet.ip_protocol == kIpIcmp && icmp[0] == 3 && icmp[1] == 4 : packet.ip_protocol == kIpIcmp6 && icmp[0] == 2;
  }

  // Addresses read where they lie. One that an IPv6 header writes as an IPv4 one is none of an instance's.
  bool is_known_sender(PortId port, std::span<const uint8_t> b) const {
    const Program& p = engine_.program();
    if (b.size() < kEthernetHeader + kIpv4Header) return false;
    const bool v4 = load16(&b[12]) == kEtherIpv4;
    if (!v4 && (load16(&b[12]) != kEtherIpv6 || b.size() < kEthernetHeader + kIpv6Header)) return false;
    const Address from = v4 ? Address::from_ipv4(&b[26]) : Address::from_ipv6(&b[22]), to = v4 ? Address::from_ipv4(&b[30]) : Address::from_ipv6(&b[38]);
    const std::optional<Address>& own = p.underlays[p.underlay_of(port)].own(v4);
    if (from.is_ipv4() != v4 || !own || *own != to) return false;
    return std::any_of(p.instances.begin(), p.instances.end(), [&](const Instance& x) { return !x.proxied() && x.address == from && p.underlay_port(x.underlay) == port; });
  }

  template <typename See>
  static void each_datagram(const Frame& frame, const StampedFrame& outer, See&& see) {
    const uint32_t total = outer.payload_end - outer.payload;
    const bool batch = frame.offload.gso() == Offload::kGsoUdp && frame.offload.gso_size > 0;
    const uint32_t size = batch ? frame.offload.gso_size : total;
    for (uint32_t done = 0; done < total; done += size) {
      uint8_t* at = frame.bytes + outer.payload + done;
      DatagramView view;
      if (const uint32_t length = std::min(size, total - done); read_datagram(at, length, outer.encapsulation, view)) see(at, length, view);
    }
  }

  // Of all datagrams of a frame. Nothing is said of a fragment, which has none, nor where the port does not tell how long they are.
  static std::optional<std::vector<uint32_t>> codes_in(const Frame& frame) {
    const StampedFrame outer = read_outer(frame);
    if (outer.result != StampedFrame::Result::ok || frame.offload_unknown) return {};
    std::vector<uint32_t> codes;
    each_datagram(frame, outer, [&](uint8_t*, uint32_t, const DatagramView& view) { codes.push_back(view.code); });
    return codes;
  }

  // Whether there is a live stream, of this code and capture, that the packet is of. Tags are not looked at: a router has none.
  bool is_of_a_stream(const Packet& packet, std::optional<uint32_t> code, std::optional<uint16_t> capture) const {
    if (packet.verdict != Packet::Verdict::steer) return false;
    const bool icmp = packet.ip_protocol == kIpIcmp || packet.ip_protocol == kIpIcmp6, ports = !packet.fragment || packet.first_fragment;
    for (uint32_t n = 1; n <= engine_.flows().high_water(); n++) {
      const Flow* flow = engine_.flows().at(n);
      if (!flow || flow->action == Action::drop || (code && *code != flow->code) || (capture && *capture != flow->capture)) continue;
      if (codes_ && std::find(codes_->begin(), codes_->end(), flow->code) == codes_->end()) continue;
      // A message that was cut does not tell any more whom it quotes.
      if (icmp && packet.fragment) return true;
      // What a later fragment of IPv6 says that it is means nothing.
      const bool protocol = ports || packet.version == 4;
      if (is_of(*flow, packet.tuple, ports, protocol) || (packet.icmp_error && is_of(*flow, packet.icmp_tuple, ports, protocol))) return true;
    }
    return false;
  }
  static bool is_of(const Flow& flow, const Tuple& tuple, bool ports, bool protocol) {
    const FlowKey key = flow_key(tuple);
    if (protocol && key.protocol() != flow.key.protocol()) return false;
    if (ports) return key.a == flow.key.a && key.b == flow.key.b && key.port_a == flow.key.port_a && key.port_b == flow.key.port_b;
    return key.a == flow.key.a && key.b == flow.key.b;
  }

  // Each live stream is what the rules, which are the same in all programs here, say of the packet that opened it.
  void check_streams() const {
    for (uint32_t n = 1; n <= engine_.flows().high_water(); n++) {
      const Flow* flow = engine_.flows().at(n);
      if (!flow) continue;
      const FlowKey& k = flow->key;
      const bool a = flow->opener_is_a;
      Tuple t{a ? k.a : k.b, a ? k.b : k.a, a ? k.port_a : k.port_b, a ? k.port_b : k.port_a, k.protocol()};
      t.vlan_outer = uint16_t(k.vlans >> 12);
      t.vlan_inner = uint16_t(k.vlans & 0xfff);
      t.capture = flow->capture;
      t.tenant = k.tenant();
      t.direction = flow->opened;
      const Classification c = classify_in_turn(engine_.program(), t);
      CLAIM(c.action == flow->action && c.policy == flow->policy);
    }
  }

  Engine& engine_;
  PortId port_ = 0;
  Fate fate_ = Fate::any;
  bool busy_ = false, from_underlay_ = false, known_sender_ = false;
  std::optional<std::vector<uint32_t>> codes_;
  uint64_t crossed_ = 0;
  std::vector<First> firsts_;
};

}  // namespace weir::fuzz
