#include "capture/packet_filter.h"

#include <pcap/pcap.h>

namespace weir {

static_assert(sizeof(bpf_insn) == sizeof(sock_filter), "libpcap's instructions are the kernel's");

PacketFilter::PacketFilter() : program_(std::make_unique<bpf_program>()) {}

PacketFilter::~PacketFilter() {
  if (program_->bf_insns) pcap_freecode(program_.get());
}

std::string PacketFilter::compile(const std::string& expression) {
  constexpr int kWhole = 262144;
  pcap_t* handle = pcap_open_dead(DLT_EN10MB, kWhole);
  if (!handle) return "no memory";
  std::string error;
  if (pcap_compile(handle, program_.get(), expression.c_str(), 1, PCAP_NETMASK_UNKNOWN)) error = pcap_geterr(handle);
  pcap_close(handle);
  return error;
}

bool PacketFilter::matches(const uint8_t* frame, uint32_t length, uint32_t wire_length) const {
  pcap_pkthdr header{};
  header.caplen = length;
  header.len = wire_length;
  return pcap_offline_filter(program_.get(), &header, frame) != 0;
}

sock_fprog PacketFilter::for_kernel() const {
  return {static_cast<unsigned short>(program_->bf_len), reinterpret_cast<sock_filter*>(program_->bf_insns)};
}

}  // namespace weir
