// Finds the first of many boxes that contains a point. A tree in which each node lists up to eight boxes, of rules or of
// groups of rules; boxes of one node may overlap, so a search may follow several, but never one whose best rule comes after
// one already found. Immutable once built; many threads may search it.
//
// The builder cuts a group where that leaves the least to search: what lies on the one side, what lies on the other, and what
// lies across the cut, which goes into both if it is little and else forms a third group (as wildcards must: a copy of each
// wildcard wherever it applies is what makes decision trees for packets explode). Copies are rationed, to three for each rule
// on average, so memory is proportional to the number of rules: 90 to 210 bytes each in every mixture measured.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/classifier_box.h"

namespace weir {

class BoxTree {
 public:
  static constexpr uint32_t kNone = INT32_MAX;

  // Boxes in order of precedence.
  void build(std::span<const Box> boxes);
  // Index of the first box that contains the point, or kNone.
  uint32_t find(const Point& point) const;
  size_t bytes() const { return nodes_.capacity() * sizeof(Node); }

 private:
  friend class BoxTreeBuilder;
  static constexpr uint32_t kFanout = 8, kMostDepth = 40, kRule = UINT32_MAX;

  // By dimension, then by entry, so that one vector comparison tests an end of four or eight entries. Narrow values are
  // less 32768, for x86-64 has only signed comparisons.
  struct alignas(64) Node {
    int32_t wide_low[kWideDimensions][kFanout], wide_high[kWideDimensions][kFanout];
    int16_t low[kDimensions - kWideDimensions][kFanout], high[kDimensions - kWideDimensions][kFanout];
    int32_t best[kFanout];    // least index of a box below; ascending; kNone where there is no entry
    uint32_t child[kFanout];  // node, or kRule: the entry is the box `best` itself
  };
  static_assert(sizeof(Node) == 384);

  std::vector<Node> nodes_;  // the root first
};

}  // namespace weir
