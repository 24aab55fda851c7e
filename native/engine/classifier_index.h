// The rules of a program in the form that lookups read: immutable once built, read by many threads.
#pragma once
#include <vector>

#include "engine/classifier_ranks.h"
#include "engine/classifier_tree.h"

namespace weir {

struct Rule;
struct Tuple;

class ClassifierIndex {
 public:
  static constexpr uint32_t kNone = BoxTree::kNone;

  // Rules in order of precedence.
  void build(const std::vector<Rule>& rules);
  // Index of the first rule that matches, or kNone.
  uint32_t find(const Tuple& tuple) const;
  size_t bytes() const { return tree_.bytes(); }

 private:
  AddressRanks sources_, destinations_;
  BoxTree tree_;
};

}  // namespace weir
