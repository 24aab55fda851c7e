// Reading and writing captures by libpcap. Whatever its link type, a packet comes out as an Ethernet frame.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/frame.h"

struct pcap;
struct pcap_dumper;

namespace weir {

class CaptureReader {
 public:
  // Empty string when it opened, else why not.
  std::string open(const std::string& path);
  ~CaptureReader();

  enum class Next { frame, unusable, end, broken };
  // The frame's memory is valid until the next call, with headroom before it.
  Next next();
  Frame& frame() { return frame_; }
  uint64_t time_ns() const { return time_ns_; }
  const std::string& error() const { return error_; }  // after `broken`
  uint64_t bytes_read() const;
  uint64_t bytes_total() const { return bytes_total_; }
  // For packets without an Ethernet header, which direction the capture itself names: 1 sent by its host, 0 received, -1 unknown.
  int sent_by_host() const { return sent_by_host_; }
  bool has_ethernet() const;

 private:
  bool normalise(const uint8_t* packet, uint32_t length, uint32_t wire_length);
  void build(uint16_t ethertype, const uint8_t* payload, uint32_t length, uint32_t wire_length);

  struct pcap* file_ = nullptr;
  int link_ = 0;
  bool swapped_ = false;
  uint64_t bytes_total_ = 0, time_ns_ = 0;
  std::vector<uint8_t> buffer_;
  Frame frame_;
  int sent_by_host_ = -1;
  std::string error_;
};

class CaptureWriter {
 public:
  // Ethernet, nanoseconds. Empty string when it opened, else why not.
  std::string open(const std::string& path);
  ~CaptureWriter();
  void write(uint64_t time_ns, const uint8_t* bytes, uint32_t length);
  std::string close();

 private:
  struct pcap* handle_ = nullptr;
  struct pcap_dumper* dumper_ = nullptr;
  std::string path_;
};

}  // namespace weir
