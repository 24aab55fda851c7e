// Addresses as small numbers: the ends of all prefixes cut the address space into stretches, and an address's rank is the
// stretch it lies in. So a prefix of any length is an interval of ranks, and matching it is comparing two integers.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/address.h"

namespace weir {

// Numbers in order, every eighth of them again above, and so on up: a search reads a cache line a level and has no branch
// that could be guessed wrong. (A B+ tree with implicit children.)
class SortedNumbers {
 public:
  explicit SortedNumbers(std::vector<uint64_t> sorted);
  // How many are no greater than the value.
  uint32_t count_up_to(uint64_t value) const;

 private:
  static constexpr uint32_t kLine = 8, kMostLevels = 11;  // 8^11 exceeds any number of rules
  struct alignas(64) Line {
    uint64_t values[kLine];
  };
  struct Level {
    uint32_t first_line, count;
  };
  std::vector<Line> lines_;
  Level levels_[kMostLevels];
  uint32_t depth_ = 0;
};

class AddressRanks {
 public:
  struct Range {
    int32_t low, high;
  };
  void add(const Address& prefix, uint8_t length);
  // After the last add(), before the first rank.
  void seal();
  int32_t rank(const Address& address) const;
  Range ranks(const Address& prefix, uint8_t length) const;

 private:
  using Number = unsigned __int128;
  // The cuts that have their upper half in common: a /64, or all of IPv4.
  struct Network {
    uint64_t upper;
    uint32_t begin, end;   // in lowers_
    int32_t large;         // index in large_, or -1 for few enough to count one by one
  };
  int32_t rank(Number address) const;

  std::vector<Number> cuts_;  // until seal(): the first address of each stretch
  std::vector<Network> networks_;
  std::vector<uint64_t> lowers_;
  std::vector<SortedNumbers> large_;
  SortedNumbers uppers_{{0}};
};

}  // namespace weir
