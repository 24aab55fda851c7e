// The file of a live capture: classic pcap, Ethernet, nanoseconds; packets may be cut short, and standard output will do.
#pragma once
#include <cstdint>
#include <string>

struct pcap;
struct pcap_dumper;

namespace weir {

class LiveWriter {
 public:
  LiveWriter() = default;
  LiveWriter(const LiveWriter&) = delete;
  LiveWriter& operator=(const LiveWriter&) = delete;
  ~LiveWriter();

  // `-` is standard output. Empty string when it opened, else why not.
  std::string open(const std::string& path, uint32_t snaplen);
  // `length` bytes of a packet that has `wire_length`.
  void write(uint64_t time_ns, const uint8_t* bytes, uint32_t length, uint32_t wire_length);
  // Empty when all of it is with the kernel, else why not.
  std::string flush();
  std::string close();

 private:
  struct pcap* handle_ = nullptr;
  struct pcap_dumper* dumper_ = nullptr;
  std::string path_;
};

}  // namespace weir
