#include "engine/classifier_tree.h"

#include <bit>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace weir {
namespace {

using Wide = int32_t __attribute__((vector_size(16), may_alias));
using Narrow = int16_t __attribute__((vector_size(16), may_alias));

constexpr uint32_t kNarrowDimensions = kDimensions - kWideDimensions;

// A point spread out for comparison with a node.
struct Query {
  Wide wide[kWideDimensions];
  Narrow narrow[kNarrowDimensions];
  explicit Query(const Point& p) {
    for (uint32_t d = 0; d < kWideDimensions; d++) wide[d] = Wide{} + p.at[d];
    for (uint32_t d = 0; d < kNarrowDimensions; d++) narrow[d] = Narrow{} + int16_t(p.at[kWideDimensions + d] - 32768);
  }
};

const Wide& wide(const int32_t* p) { return *reinterpret_cast<const Wide*>(p); }
const Narrow& narrow(const int16_t* p) { return *reinterpret_cast<const Narrow*>(p); }

// A bit for each entry that is not outside.
uint32_t inside(const Wide& outside_low, const Wide& outside_high, const Narrow& outside) {
#ifdef __SSE2__
  const __m128i packed = _mm_or_si128(_mm_packs_epi32(__m128i(outside_low), __m128i(outside_high)), __m128i(outside));
  return ~uint32_t(_mm_movemask_epi8(_mm_packs_epi16(packed, packed))) & 255;
#else
  uint32_t bits = 0;
  for (uint32_t i = 0; i < 4; i++) {
    bits |= uint32_t((outside_low[i] | outside[i]) == 0) << i;
    bits |= uint32_t((outside_high[i] | outside[i + 4]) == 0) << (i + 4);
  }
  return bits;
#endif
}

}  // namespace

uint32_t BoxTree::find(const Point& point) const {
  const Query q(point);
  struct Step {
    const Node* node;
    uint32_t hits;  // entries yet to follow
  };
  Step stack[kMostDepth];
  uint32_t depth = 0;
  int32_t found = kNone;
  const Node* node = nodes_.data();
  for (;;) {
    Wide outside_low = wide(node->best) >= found, outside_high = wide(node->best + 4) >= found;
    for (uint32_t d = 0; d < kWideDimensions; d++) {
      outside_low |= (wide(node->wide_low[d]) > q.wide[d]) | (q.wide[d] > wide(node->wide_high[d]));
      outside_high |= (wide(node->wide_low[d] + 4) > q.wide[d]) | (q.wide[d] > wide(node->wide_high[d] + 4));
    }
    Narrow outside{};
    for (uint32_t d = 0; d < kNarrowDimensions; d++) outside |= (narrow(node->low[d]) > q.narrow[d]) | (q.narrow[d] > narrow(node->high[d]));
    uint32_t hits = inside(outside_low, outside_high, outside);
    for (;;) {
      if (hits == 0) {
        if (depth == 0) return uint32_t(found);
        depth--;
        node = stack[depth].node;
        hits = stack[depth].hits;
      }
      const uint32_t i = uint32_t(std::countr_zero(hits));
      hits &= hits - 1;
      if (node->best[i] >= found) {
        hits = 0;  // the rest of its node comes later still
        continue;
      }
      if (node->child[i] == kRule) {
        found = node->best[i];
        hits = 0;
        continue;
      }
      if (hits != 0) stack[depth++] = {node, hits};
      node = &nodes_[node->child[i]];
      break;
    }
  }
}

}  // namespace weir
