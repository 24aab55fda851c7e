#include <algorithm>
#include <array>

#include "engine/classifier_tree.h"

namespace weir {
namespace {

constexpr uint32_t kSample = 64;         // boxes that a cut is judged by
constexpr uint32_t kCopies = 3;          // for each rule, on average and at most
constexpr double kFewAcross = 0.5;       // of a group: may be copied to both sides
constexpr double kOneCut = 1.0 / 8;      // of a group's copies: what one cut may spend
constexpr uint32_t kMostCutDepth = 24;   // deeper, groups are only divided in order of precedence

struct Group {
  std::vector<uint32_t> ids;  // ascending, so in order of precedence
  Box region;                 // where points come from
  uint32_t copies = 0;        // how many ids may be added below
  bool whole = false;         // no cut divides it
  uint32_t size() const { return uint32_t(ids.size()); }
};

struct Cut {
  uint32_t dimension = 0;
  int32_t at = 0;     // first value of the right side
  double cost = 2;    // share of the group that a search goes on with
  bool copy = false;  // what lies across goes to both sides
};

// The ends of sampled boxes in one dimension.
struct Sample {
  uint32_t count = 0;
  int32_t lows[kSample], highs[kSample];
};

}  // namespace

class BoxTreeBuilder {
 public:
  BoxTreeBuilder(std::span<const Box> boxes, std::vector<BoxTree::Node>& nodes) : boxes_(boxes), nodes_(nodes) {}

  void build() {
    Group all;
    for (uint32_t i = 0; i < boxes_.size(); i++)
      if (!boxes_[i].empty()) all.ids.push_back(i);
    std::fill_n(all.region.low, kDimensions, INT32_MIN);
    std::fill_n(all.region.high, kDimensions, INT32_MAX);
    all.copies = all.size() * kCopies;
    if (!all.ids.empty()) settle(all);
    node(std::move(all), 0);
  }

 private:
  static constexpr uint32_t kFanout = BoxTree::kFanout;

  // Narrows the region to what the boxes take up, and drops what lies behind a box that fills it.
  void settle(Group& g) const {
    Box taken = boxes_[g.ids[0]];
    for (const uint32_t id : g.ids) taken.grow(boxes_[id]);
    g.region.clip(taken);
    for (uint32_t i = 0; i + 1 < g.size(); i++) {
      if (!boxes_[g.ids[i]].covers(g.region)) continue;
      g.ids.resize(i + 1);
      return;
    }
  }

  void consider(const Group& g, const Sample& s, uint32_t dimension, int32_t at, Cut& best) const {
    uint32_t lefts = 0, rights = 0;
    for (uint32_t i = 0; i < s.count; i++) lefts += s.highs[i] < at, rights += s.lows[i] >= at;
    if (lefts + rights == 0) return;
    const double left = double(lefts) / s.count, right = double(rights) / s.count, across = 1 - left - right;
    // A point is as likely on a side as a box is there; what lies across is searched in any case.
    const double cost = (left + across / 2) * left + (right + across / 2) * right + across;
    if (cost < best.cost) best = {dimension, at, cost, across <= kFewAcross && across * g.size() <= g.copies * kOneCut};
  }

  Cut best_cut(const Group& g) const {
    Sample s;
    s.count = std::min(g.size(), kSample);
    const Box* sample[kSample];
    for (uint32_t i = 0; i < s.count; i++) sample[i] = &boxes_[g.ids[uint64_t(i) * g.size() / s.count]];
    Cut best;
    for (uint32_t d = 0; d < kDimensions; d++) {
      const int32_t least = g.region.low[d], most = g.region.high[d];
      // Where to cut: at the middle one of the boxes that don't take up the whole length.
      int32_t starts[kSample], ends[kSample];
      uint32_t partial = 0;
      for (uint32_t i = 0; i < s.count; i++) {
        s.lows[i] = std::max(sample[i]->low[d], least), s.highs[i] = std::min(sample[i]->high[d], most);
        if (s.lows[i] != least || s.highs[i] != most) starts[partial] = s.lows[i], ends[partial] = s.highs[i], partial++;
      }
      if (partial == 0) continue;
      std::nth_element(starts, starts + partial / 2, starts + partial);
      if (starts[partial / 2] != least) {
        consider(g, s, d, starts[partial / 2], best);
      } else {
        int32_t next = INT32_MAX;
        for (uint32_t i = 0; i < partial; i++)
          if (starts[i] > least) next = std::min(next, starts[i]);
        if (next != INT32_MAX) consider(g, s, d, next, best);
      }
      std::nth_element(ends, ends + partial / 2, ends + partial);
      if (ends[partial / 2] != most) consider(g, s, d, ends[partial / 2] + 1, best);
    }
    return best;
  }

  uint32_t split(const Group& g, const Cut& cut, std::array<Group, 3>& parts) const {
    auto& [left, right, across] = parts;
    uint32_t copied = 0;
    for (const uint32_t id : g.ids) {
      const Box& b = boxes_[id];
      const bool on_left = b.high[cut.dimension] < cut.at, on_right = b.low[cut.dimension] >= cut.at;
      if (on_left) {
        left.ids.push_back(id);
      } else if (on_right) {
        right.ids.push_back(id);
      } else if (cut.copy && copied < g.copies) {
        left.ids.push_back(id);
        right.ids.push_back(id);
        copied++;
      } else {
        across.ids.push_back(id);
      }
    }
    for (Group& part : parts) {
      part.region = g.region;
      part.copies = uint32_t(uint64_t(g.copies - copied) * part.size() / (g.size() + copied));
    }
    left.region.high[cut.dimension] = cut.at - 1;
    right.region.low[cut.dimension] = cut.at;
    uint32_t count = 0;
    for (Group& part : parts) {
      if (part.ids.empty()) continue;
      settle(part);
      if (&part != &parts[count]) parts[count] = std::move(part);
      count++;
    }
    return count;
  }

  // Cuts the largest group again and again, until there are about as many as a node holds.
  void divide(std::vector<Group>& groups) const {
    while (groups.size() + 2 <= kFanout) {
      Group* largest = nullptr;
      for (Group& g : groups)
        if (!g.whole && g.size() > kFanout && (!largest || g.size() > largest->size())) largest = &g;
      if (!largest) return;
      const Cut cut = best_cut(*largest);
      std::array<Group, 3> parts;
      const uint32_t count = cut.cost < 2 ? split(*largest, cut, parts) : 0;
      if (count < 2) {
        largest->whole = true;
        continue;
      }
      *largest = std::move(parts[0]);
      for (uint32_t i = 1; i < count; i++) groups.push_back(std::move(parts[i]));
    }
  }

  // Runs of a group in order of precedence: rules that no cut tells apart.
  std::vector<Group> runs(const Group& g) const {
    std::vector<Group> out;
    const uint32_t step = (g.size() + kFanout - 1) / kFanout;
    for (uint32_t at = 0; at < g.size(); at += step) {
      out.push_back({{g.ids.begin() + at, g.ids.begin() + std::min(g.size(), at + step)}, g.region, g.copies / kFanout});
      settle(out.back());
    }
    return out;
  }

  // Writes the node of a group and all below it; returns its number.
  uint32_t node(Group whole, uint32_t depth) {
    const uint32_t number = uint32_t(nodes_.size());
    nodes_.emplace_back();
    std::vector<Group> groups;
    if (whole.size() > kFanout && depth < kMostCutDepth) {
      groups.push_back(std::move(whole));
      divide(groups);
      if (groups.size() == 1) whole = std::move(groups[0]), groups.clear();
    }
    if (groups.empty()) groups = runs(whole);
    std::sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) { return a.ids[0] < b.ids[0]; });
    for (uint32_t i = 0; i < kFanout; i++) set_entry(nodes_[number], i, i < groups.size() ? &groups[i] : nullptr);
    for (uint32_t i = 0; i < groups.size(); i++) {
      if (groups[i].size() == 1) continue;
      const uint32_t child = node(std::move(groups[i]), depth + 1);
      nodes_[number].child[i] = child;
    }
    return number;
  }

  void set_entry(BoxTree::Node& n, uint32_t i, const Group* g) const {
    n.best[i] = g ? int32_t(g->ids[0]) : int32_t(BoxTree::kNone);
    n.child[i] = BoxTree::kRule;
    for (uint32_t d = 0; d < kDimensions; d++) {
      const int32_t low = g ? g->region.low[d] : 1, high = g ? g->region.high[d] : 0;
      if (d < kWideDimensions) {
        n.wide_low[d][i] = low, n.wide_high[d][i] = high;
      } else {
        n.low[d - kWideDimensions][i] = int16_t(low - 32768), n.high[d - kWideDimensions][i] = int16_t(high - 32768);
      }
    }
  }

  std::span<const Box> boxes_;
  std::vector<BoxTree::Node>& nodes_;
};

void BoxTree::build(std::span<const Box> boxes) {
  nodes_.clear();
  nodes_.reserve(boxes.size() / 2 + 1);
  BoxTreeBuilder(boxes, nodes_).build();
  nodes_.shrink_to_fit();
}

}  // namespace weir
