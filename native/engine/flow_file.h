// The flow table's memory as a file on tmpfs, which outlives the process: a killed one's successor finds its streams. What is
// found in it is not believed (flow_adoption.h).
//
// Layout: a header, at 2 MiB the entries, from the next 2 MiB boundary on the pins of long chains. A file comes under its name
// whole, or not at all; whoever uses it holds its lock (flock).
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "engine/flow.h"
#include "engine/flow_seal.h"

namespace weir {

// Entries beyond the capacity: what may be waiting for the slowest worker while new streams open.
inline constexpr uint32_t kSpareFlows = 1 << 16;
inline constexpr uint32_t kMostFlows = 1 << 24;
// Another number when the meaning of a byte in the file changes.
inline constexpr uint32_t kFlowLayout = 1;

// Entry 0 is never used.
inline size_t flow_rows(uint32_t capacity) { return size_t(capacity) + kSpareFlows + 1; }

struct FlowRows {
  Flow* entries = nullptr;
  uint16_t* far_pins = nullptr;  // kFarPins a row: instance id plus one
  uint32_t capacity = 0;
  uint32_t high_water = 0;  // rows past it were never in use
};

struct FlowFileOptions {
  std::string path;
  uint32_t capacity = 0;
  std::array<uint8_t, 16> boot_id{};  // times in the entries are those of this boot
  uint64_t identity = 0;              // of what the ids in the entries mean
  uint64_t affinity_key[2] = {0, 0};
  bool fresh = false;  // whatever is there is thrown away
  int descriptor = -1;  // the file as the process has it that hands over, with its lock; taken, also on failure
};

class FlowFile {
 public:
  struct Opened {
    std::unique_ptr<FlowFile> file;  // null: `error` says why
    std::string error;
    bool busy = false;  // another process uses it
  };
  static Opened open(const FlowFileOptions& options);
  // Removes a file that is ours and that nobody uses. True if it did.
  static bool remove_unused(const std::string& path);
  ~FlowFile();

  // The table's rows; those of another process until adoption, unless found() has others.
  FlowRows rows() const;
  // Rows of a file of another size that was there before: to be copied into this one. No entries where there is none.
  FlowRows found() const;
  // Why nothing can be adopted; empty where there was something, or no file at all.
  const std::string& note() const { return note_; }
  bool huge() const { return target_.huge; }
  int descriptor() const { return target_.fd; }
  // Has memory behind the pins of long chains.
  bool far_reserved(bool of_found) const { return (of_found ? source_ : target_).far_reserved; }
  std::string reserve_far_pins();
  void set_high_water(uint32_t n);

  // Puts this file in the place of the one found. Returns what is wrong, or an empty string; it is used all the same then.
  std::string publish();
  // Before the process ends by itself: gives back the memory that no entry uses, all of it if `live` is 0.
  void rest(uint32_t live);

 private:
  struct Region {
    int fd = -1;
    void* reserved = nullptr;  // address space, larger than the file for the sake of alignment
    size_t reserved_bytes = 0;
    uint8_t* map = nullptr;
    uint32_t capacity = 0;
    bool far_reserved = false;
    bool huge = false;

    FlowRows rows() const;
    void release();
  };
  explicit FlowFile(FlowFileOptions options) : options_(std::move(options)) {}

  std::string open_existing(bool& busy);
  std::string check_header(int fd, uint32_t& capacity, bool& far_reserved) const;
  std::string map(Region& region);
  std::string create();

  FlowFileOptions options_;
  Region target_, source_;
  std::string note_;
  bool published_ = false;
};

}  // namespace weir
