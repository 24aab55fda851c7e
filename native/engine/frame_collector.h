// A sink that copies every frame: for callers that keep them (JavaScript, replay, tests).
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/frame.h"

namespace weir {

// Scratch memory in chunks that stay where they are until reset(), so pieces may point into it.
class ScratchArena {
 public:
  uint8_t* take(uint32_t n) {
    if (chunks_.empty() || used_ + n > kChunk) {
      if (!chunks_.empty()) current_++;
      if (current_ == chunks_.size()) chunks_.emplace_back(new uint8_t[kChunk]);
      used_ = 0;
    }
    uint8_t* p = chunks_[current_].get() + used_;
    used_ += n;
    return p;
  }
  void reset() { current_ = used_ = 0; }
  size_t in_use() const { return current_ * kChunk + used_; }

 private:
  static constexpr size_t kChunk = 1 << 20;
  static_assert(kChunk >= Sink::kMaxScratch);
  std::vector<std::unique_ptr<uint8_t[]>> chunks_;
  size_t current_ = 0, used_ = 0;
};

struct CollectedFrame {
  PortId port;
  Offload offload;
  std::vector<uint8_t> bytes;
};

class FrameCollector final : public Sink {
 public:
  uint8_t* scratch(uint32_t n) override { return arena_.take(n); }
  void emit(const OutFrame& frame) override {
    CollectedFrame copy{frame.port, frame.offload, {}};
    copy.bytes.reserve(frame.length());
    for (const Piece& piece : frame.pieces) copy.bytes.insert(copy.bytes.end(), piece.bytes, piece.bytes + piece.length);
    frames_.push_back(std::move(copy));
  }
  std::vector<CollectedFrame>& frames() { return frames_; }
  void clear() {
    frames_.clear();
    arena_.reset();
  }

 private:
  ScratchArena arena_;
  std::vector<CollectedFrame> frames_;
};

}  // namespace weir
