// What moves between ports and the pipeline: a frame with its offload state in, lists of pieces out.
#pragma once
#include <cstdint>
#include <span>

namespace weir {

// Ports are numbered by the program: 0 is the first underlay; capture i has `in` (workload side) at 1 + 2i and
// `out` (network side) at 2 + 2i; then come the other underlays, and the ports of instances without stamps.
using PortId = uint16_t;
inline constexpr PortId kUnderlayPort = 0;
inline constexpr PortId capture_in_port(uint16_t capture) { return PortId(1 + 2 * capture); }
inline constexpr PortId capture_out_port(uint16_t capture) { return PortId(2 + 2 * capture); }

// Field for field struct virtio_net_hdr (linux/virtio_net.h), host byte order: what PACKET_VNET_HDR carries.
struct Offload {
  static constexpr uint8_t kNeedsChecksum = 1;
  static constexpr uint8_t kDataValid = 2;
  static constexpr uint8_t kGsoNone = 0;
  static constexpr uint8_t kGsoTcp4 = 1;
  static constexpr uint8_t kGsoUdpFragment = 3;
  static constexpr uint8_t kGsoTcp6 = 4;
  static constexpr uint8_t kGsoUdp = 5;  // UDP_L4: datagrams of gso_size
  static constexpr uint8_t kGsoEcn = 0x80;

  uint8_t flags = 0;
  uint8_t gso_type = kGsoNone;
  uint16_t header_length = 0;
  uint16_t gso_size = 0;
  uint16_t checksum_start = 0;
  uint16_t checksum_offset = 0;

  uint8_t gso() const { return gso_type & uint8_t(~kGsoEcn); }
  bool needs_checksum() const { return flags & kNeedsChecksum; }
};
static_assert(sizeof(Offload) == 10, "must match struct virtio_net_hdr");

// A received Ethernet frame. VLAN tags are in it (a port whose kernel strips them puts them back). The bytes, and
// `headroom` bytes before them, may be written by the pipeline until process() returns.
struct Frame {
  uint8_t* bytes = nullptr;
  uint32_t length = 0;       // bytes here
  uint32_t wire_length = 0;  // bytes that the frame had; more than `length` when the capture cut it
  uint32_t headroom = 0;
  Offload offload;
  // True where the port gets no virtio-net header (libpcap): checksums may be partial and TCP may come in
  // super-frames of unknown segment size, and the pipeline has to find out for itself.
  bool offload_unknown = false;
};

struct Piece {
  const uint8_t* bytes;
  uint32_t length;
};

// A frame to send: its pieces one after another. Pieces stay valid until the sink's owner has flushed.
struct OutFrame {
  PortId port;
  Offload offload;
  std::span<const Piece> pieces;

  uint32_t length() const {
    uint32_t sum = 0;
    for (const Piece& piece : pieces) sum += piece.length;
    return sum;
  }
};

// Where the pipeline puts frames. The pieces' array is only valid during the call; the bytes last until the flush
// that follows the process() call.
class Sink {
 public:
  virtual ~Sink() = default;
  // Scratch bytes for headers, valid until the next flush. Never fails for n <= kMaxScratch.
  virtual uint8_t* scratch(uint32_t n) = 0;
  virtual void emit(const OutFrame& frame) = 0;
  // Whether frames of this kind (Offload::kGso…) may be emitted to a port: super-frames that the kernel or the device cuts.
  virtual bool carries(PortId, uint8_t /*gso*/) const { return false; }
  static constexpr uint32_t kMaxScratch = 70000;
};

}  // namespace weir
