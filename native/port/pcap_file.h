// Classic pcap files of Ethernet frames, the usual case: read a large part at a time, the frames used where they lie. All other
// captures are libpcap's.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "port/capture_record.h"

namespace weir {

class PcapFile {
 public:
  // Null when it is not such a file, or no regular one: then the descriptor stays the caller's, at the place where it was.
  static std::unique_ptr<PcapFile> open(int descriptor);
  ~PcapFile();

  // Fills in as many as there are at hand, valid until the next call. 0: the end, or error() says why not.
  uint32_t read(std::span<CaptureRecord> records);
  // In libpcap's words.
  const std::string& error() const { return error_; }
  uint64_t bytes_read() const { return taken_ - (end_ - at_); }

 private:
  PcapFile(int descriptor, bool swapped, bool nanoseconds, uint32_t snapshot);
  uint32_t field(uint32_t at) const;
  bool have(uint32_t bytes);
  void cut_short(uint32_t captured);

  const int descriptor_;
  const bool swapped_, nanoseconds_;
  const uint32_t snapshot_;  // of a longer record the rest is left out, as libpcap does
  std::unique_ptr<uint8_t[]> buffer_;
  uint32_t at_, end_;  // what has been read and not given out
  uint64_t taken_;     // bytes of the file in the buffer or before
  bool over_ = false;
  std::string error_;
};

}  // namespace weir
