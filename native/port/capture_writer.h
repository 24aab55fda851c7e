// Writing classic pcap files: Ethernet, nanoseconds.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "engine/frame.h"

namespace weir {

class CaptureWriter {
 public:
  CaptureWriter() = default;
  CaptureWriter(const CaptureWriter&) = delete;
  CaptureWriter& operator=(const CaptureWriter&) = delete;
  ~CaptureWriter();

  // Empty string when it opened, else why not.
  std::string open(const std::string& path);
  bool is_open() const { return descriptor_ >= 0; }
  // One record: the pieces one after another.
  void write(uint64_t time_ns, std::span<const Piece> pieces);
  // Why not all of it could be written; empty when it is whole.
  std::string close();

 private:
  void flush();

  std::string path_;
  int descriptor_ = -1;
  int failure_ = 0;  // errno; nothing more is written then
  std::unique_ptr<uint8_t[]> buffer_;
  uint32_t used_ = 0;
};

}  // namespace weir
