// Reading captures. Whatever its link type, a packet comes out as an Ethernet frame. What PcapFile does not read, libpcap does:
// pcapng, other link types, pipes.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "port/capture_record.h"
#include "port/pcap_file.h"

struct pcap;

namespace weir {

class CaptureReader {
 public:
  CaptureReader() = default;
  CaptureReader(const CaptureReader&) = delete;
  CaptureReader& operator=(const CaptureReader&) = delete;
  ~CaptureReader();

  // Empty string when it opened, else why not.
  std::string open(const std::string& path);
  // Fills in as many records as there are at hand. Their memory is valid until the next call. 0: the end, or error() says why
  // not.
  uint32_t read(std::span<CaptureRecord> records);
  const std::string& error() const { return plain_ ? plain_->error() : error_; }
  uint64_t bytes_read() const;
  uint64_t bytes_total() const { return bytes_total_; }

 private:
  bool next(CaptureRecord& record);
  bool normalise(const uint8_t* packet, uint32_t length, uint32_t wire_length, CaptureRecord& record);
  void build(uint16_t ethertype, const uint8_t* payload, uint32_t length, uint32_t wire_length, CaptureRecord& record);
  uint8_t* room() { return buffer_.data() + used_ + kRecordHeadroom; }

  std::unique_ptr<PcapFile> plain_;
  struct pcap* file_ = nullptr;
  int link_ = 0;
  bool swapped_ = false;
  uint64_t bytes_total_ = 0;
  std::vector<uint8_t> buffer_;  // libpcap gives one packet at a time: they are copied, each with room before it
  uint32_t used_ = 0;
  std::string error_;
};

}  // namespace weir
