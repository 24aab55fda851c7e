// A filter in libpcap's language (pcap-filter(7)) for Ethernet frames.
#pragma once
#include <linux/filter.h>

#include <cstdint>
#include <memory>
#include <string>

struct bpf_program;

namespace weir {

class PacketFilter {
 public:
  PacketFilter();
  ~PacketFilter();
  // Empty when it compiled, else libpcap's complaint.
  std::string compile(const std::string& expression);
  bool matches(const uint8_t* frame, uint32_t length, uint32_t wire_length) const;
  // For SO_ATTACH_FILTER; valid as long as this is.
  sock_fprog for_kernel() const;

 private:
  std::unique_ptr<bpf_program> program_;
};

}  // namespace weir
