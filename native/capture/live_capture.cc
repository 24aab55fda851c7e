#include "capture/live_capture.h"

#include <poll.h>

#include <algorithm>
#include <cstring>

#include "engine/cut_frame.h"
#include "engine/stamp.h"
#include "wire/ethernet.h"
#include "wire/geneve.h"
#include "wire/vxlan_nsh.h"

namespace weir {
namespace {

constexpr int kWaitMs = 100;
constexpr int kLastWaitMs = 25;  // longer than the ring holds a frame back

// Geneve carries no Ethernet header: who opened the stream is :aa, who answers :bb.
constexpr uint8_t kOpener[6] = {2, 0, 0, 0, 0, 0xaa}, kAnswerer[6] = {2, 0, 0, 0, 0, 0xbb};

std::string kernel_expression(const LiveCaptureOptions& o) {
  const char* side = o.direction == LiveCaptureOptions::Direction::to ? "dst host " : o.direction == LiveCaptureOptions::Direction::from ? "src host " : "host ";
  std::string hosts;
  for (const std::string& address : o.addresses) hosts += (hosts.empty() ? "" : " or ") + (side + address);
  // Fragments have no ports, but for an IPv4 datagram's first one.
  constexpr const char* kFragments = "(ip proto 17 and ip[6:2] & 0x3fff != 0) or (ip6[6] == 44 and ip6[40] == 17)";
  return "((udp and (dst port " + std::to_string(kVxlanGpePort) + " or dst port " + std::to_string(kGenevePort) + ")) or " + kFragments + ") and (" + hosts + ")";
}

}  // namespace

std::string LiveCapture::open(const LiveCaptureOptions& options) {
  options_ = options;
  if (std::string error = kernel_.compile(kernel_expression(options)); !error.empty()) return "can't make a filter of the addresses: " + error;
  auto compile = [](const std::string& expression, std::optional<PacketFilter>& filter, const char* option) -> std::string {
    if (expression.empty()) return {};
    const std::string error = filter.emplace().compile(expression);
    return error.empty() ? "" : std::string(option) + ": libpcap does not understand \"" + expression + "\": " + error;
  };
  if (std::string error = compile(options.filter, filter_, "--filter"); !error.empty()) return error;
  if (std::string error = compile(options.inner_filter, inner_filter_, "--inner-filter"); !error.empty()) return error;
  if (std::string error = ring_.open(options.interface, kernel_.for_kernel(), options.megabytes); !error.empty()) return error;
  if (std::string error = writer_.open(options.write, options.snaplen); !error.empty()) return error;
  return writer_.flush();  // whoever reads wants to know at once that there is something to read
}

LiveCapture::~LiveCapture() {
  stop();
  join();
}

void LiveCapture::join() {
  if (thread_.joinable()) thread_.join();
}

void LiveCapture::start(std::function<void(std::string)> finished) {
  thread_ = std::thread([this, finished = std::move(finished)] {
    std::string reason = run();
    const std::string written = writer_.close();
    finished(reason.empty() ? written : reason);
  });
}

std::string LiveCapture::run() {
  const TapRing::Take take = [this](TappedFrame& tapped) { this->take(tapped); };
  bool last = false;
  // After stop() what the ring holds by then is taken too, and no more than it can hold.
  for (uint32_t rounds = 0; rounds <= options_.megabytes; rounds += last) {
    const uint32_t frames = ring_.receive(take);
    dropped_.fetch_add(ring_.dropped(), std::memory_order_relaxed);
    if (done()) return {};
    if (frames) {
      // Whoever reads at the end of a pipe wants it now; a file takes one write for a block.
      if (std::string error = writer_.flush(); !error.empty()) return error;
      last = last || stopping_.load(std::memory_order_acquire);
      continue;
    }
    if (last) return {};
    last = stopping_.load(std::memory_order_acquire);
    if (std::string reason = ring_.failure(); !reason.empty()) return reason;
    pollfd wait{ring_.descriptor(), POLLIN, 0};
    poll(&wait, 1, last ? kLastWaitMs : kWaitMs);
  }
  return {};
}

void LiveCapture::take(TappedFrame& tapped) {
  // On the loopback each frame passes twice.
  if (done() || (tapped.outgoing && ring_.loopback())) return;
  counters_.frames++;
  const Frame& frame = tapped.frame;
  const bool touched = frame.offload.gso() != Offload::kGsoNone || frame.offload.needs_checksum();
  if (touched && !(options_.whole && !options_.inner) && frame.length == frame.wire_length) {
    const Piece piece{frame.bytes, frame.length};
    cut_.clear();
    const bool cut = cut_frame({kUnderlayPort, frame.offload, {&piece, 1}}, cut_, [this](const OutFrame& one) { cut_.emit(one); });
    if (cut) {
      for (const CollectedFrame& one : cut_.frames())
        take_one(tapped.time_ns, one.bytes.data(), uint32_t(one.bytes.size()), uint32_t(one.bytes.size()));
      return;
    }
  }
  take_one(tapped.time_ns, frame.bytes, frame.length, frame.wire_length);
}

void LiveCapture::take_one(uint64_t time_ns, const uint8_t* bytes, uint32_t length, uint32_t wire_length) {
  if (done()) return;
  std::span<const uint8_t> inner;
  if (options_.inner || inner_filter_) {
    fragments_.clear();
    Frame outer;
    outer.bytes = const_cast<uint8_t*>(bytes);  // only read
    outer.length = length;
    outer.wire_length = wire_length;
    reassembly_.expire(time_ns);
    if (const OuterFragment f = read_outer_fragment(outer); f.kind == OuterFragment::Kind::fragment) {
      const OuterReassembly::Result result = reassembly_.add(f, outer, time_ns, fragments_);
      if (result.outcome != OuterReassembly::Outcome::whole) return;
      bytes = result.frame.bytes;
      length = wire_length = result.frame.length;
    }
    inner = inner_of(bytes, length);
    if (inner.empty()) return counters_.unread++;
    if (inner_filter_ && !inner_filter_->matches(inner.data(), uint32_t(inner.size()), uint32_t(inner.size()))) return counters_.filtered++;
  }
  if (options_.inner) {
    bytes = inner.data();
    length = wire_length = uint32_t(inner.size());
  }
  if (filter_ && !filter_->matches(bytes, length, wire_length)) return counters_.filtered++;
  const uint32_t kept = std::min(length, options_.snaplen);
  writer_.write(time_ns, bytes, kept, wire_length);
  counters_.packets++;
  counters_.bytes.add(kept);
}

std::span<const uint8_t> LiveCapture::inner_of(const uint8_t* bytes, uint32_t length) {
  Frame frame;
  frame.bytes = const_cast<uint8_t*>(bytes);  // only read
  frame.length = frame.wire_length = length;
  const StampedFrame outer = read_outer(frame);
  if (outer.result != StampedFrame::Result::ok) return {};
  const uint8_t* p = bytes + outer.payload;
  const uint32_t n = outer.payload_end - outer.payload;
  uint32_t stamp;
  uint16_t type;
  bool answer;
  if (outer.encapsulation == Encapsulation::nsh) {
    const auto nsh = read_nsh(p, n);
    if (!nsh) return {};
    stamp = nsh->length;
    if (nsh->next_protocol == kNshProtocolEthernet) return {p + stamp, n - stamp};
    type = nsh->next_protocol == kNshProtocolIpv4 ? kEtherIpv4 : kEtherIpv6;
    answer = nsh->spi & 1;
  } else {
    const auto geneve = read_geneve(p, n);
    if (!geneve) return {};
    stamp = geneve->length;
    type = geneve->protocol;
    answer = geneve->attachment & 1;
  }
  inner_.resize(kEthernetHeader + n - stamp);
  std::memcpy(inner_.data(), answer ? kOpener : kAnswerer, 6);
  std::memcpy(inner_.data() + 6, answer ? kAnswerer : kOpener, 6);
  store16(inner_.data() + 12, type);
  std::memcpy(inner_.data() + kEthernetHeader, p + stamp, n - stamp);
  return inner_;
}

}  // namespace weir
