#include "engine/classifier_ranks.h"

#include <algorithm>

namespace weir {
namespace {

using Number = unsigned __int128;

constexpr uint32_t kFew = 12;

uint64_t big64(const uint8_t* p) {
  uint64_t v = 0;
  for (uint32_t i = 0; i < 8; i++) v = v << 8 | p[i];
  return v;
}
Number number(const Address& a) { return Number(big64(a.bytes.data())) << 64 | big64(a.bytes.data() + 8); }

// First and last address of a prefix; bits behind the length don't count.
struct Ends {
  Number first, last;
  Ends(const Address& prefix, uint8_t length) {
    const Number free = length == 0 ? ~Number(0) : (Number(1) << (128 - length)) - 1;
    first = number(prefix) & ~free;
    last = first | free;
  }
};

}  // namespace

SortedNumbers::SortedNumbers(std::vector<uint64_t> level) {
  for (;;) {
    levels_[depth_++] = {uint32_t(lines_.size()), uint32_t(level.size())};
    std::vector<uint64_t> above;
    for (size_t i = 0; i < level.size(); i += kLine) {
      Line line;
      for (size_t k = 0; k < kLine; k++) line.values[k] = i + k < level.size() ? level[i + k] : UINT64_MAX;
      lines_.push_back(line);
      above.push_back(level[i]);
    }
    if (above.size() <= 1) return;
    level = std::move(above);
  }
}

uint32_t SortedNumbers::count_up_to(uint64_t value) const {
  uint32_t count = 1;  // at the level above: how many lines of this one begin no later
  for (uint32_t i = depth_; i-- > 0 && count > 0;) {
    const uint32_t line = count - 1;
    const uint64_t* values = lines_[levels_[i].first_line + line].values;
    uint32_t here = 0;
    for (uint32_t k = 0; k < kLine; k++) here += values[k] <= value;
    count = std::min(line * kLine + here, levels_[i].count);  // the last line's padding is not counted
  }
  return count;
}

void AddressRanks::add(const Address& prefix, uint8_t length) {
  const Ends ends(prefix, length);
  cuts_.push_back(ends.first);
  if (const Number after = ends.last + 1) cuts_.push_back(after);
}

void AddressRanks::seal() {
  cuts_.push_back(0);
  std::sort(cuts_.begin(), cuts_.end());
  cuts_.erase(std::unique(cuts_.begin(), cuts_.end()), cuts_.end());
  std::vector<uint64_t> uppers;
  for (const Number cut : cuts_) {
    const uint64_t upper = uint64_t(cut >> 64);
    if (uppers.empty() || uppers.back() != upper) {
      uppers.push_back(upper);
      networks_.push_back({upper, uint32_t(lowers_.size()), 0, -1});
    }
    lowers_.push_back(uint64_t(cut));
    networks_.back().end = uint32_t(lowers_.size());
  }
  cuts_ = {};
  for (Network& n : networks_) {
    if (n.end - n.begin <= kFew) continue;
    n.large = int32_t(large_.size());
    large_.emplace_back(std::vector<uint64_t>(lowers_.begin() + n.begin, lowers_.begin() + n.end));
  }
  uppers_ = SortedNumbers(std::move(uppers));
}

int32_t AddressRanks::rank(Number address) const {
  const uint64_t upper = uint64_t(address >> 64), lower = uint64_t(address);
  // IPv4 is in the first network, which needs no search.
  const Network& n = networks_[upper == 0 ? 0 : uppers_.count_up_to(upper) - 1];
  if (n.upper != upper) return int32_t(n.end) - 1;
  if (n.large >= 0) return int32_t(n.begin + large_[size_t(n.large)].count_up_to(lower)) - 1;
  uint32_t count = 0;
  for (uint32_t i = n.begin; i < n.end; i++) count += lowers_[i] <= lower;
  return int32_t(n.begin + count) - 1;
}

int32_t AddressRanks::rank(const Address& address) const { return rank(number(address)); }

AddressRanks::Range AddressRanks::ranks(const Address& prefix, uint8_t length) const {
  const Ends ends(prefix, length);
  return {rank(ends.first), rank(ends.last)};
}

}  // namespace weir
