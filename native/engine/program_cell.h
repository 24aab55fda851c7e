// The program in force, for many workers: whoever installs one never waits for them, and each takes it up at its own next
// group of packets.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/program.h"

namespace weir {

class ProgramCell {
 public:
  using Handle = std::shared_ptr<const Program>;

  ProgramCell() : current_(std::make_shared<Program>()) {}

  // The program must have passed Program::check(). Programs before it are kept until collect().
  void install(Handle program) {
    std::lock_guard lock(lock_);
    number_moves(*program);
    former_.push_back(std::move(current_));
    current_ = std::move(program);
    sequence_.fetch_add(1, std::memory_order_release);
  }
  // Counts installations, so that "newer" can be told.
  uint32_t sequence() const { return sequence_.load(std::memory_order_acquire); }
  Handle current(uint32_t& sequence) const {
    std::lock_guard lock(lock_);
    sequence = sequence_.load(std::memory_order_relaxed);
    return current_;
  }
  // Frees the former programs that no worker uses any more. For the side that installs: freeing a large one takes time.
  void collect() {
    std::lock_guard lock(lock_);
    std::erase_if(former_, [](const Handle& p) { return p.use_count() == 1; });
  }

 private:
  // What the program before had keeps its number.
  void number_moves(const Program& next) {
    auto old = current_->moves.begin();
    for (Move& move : next.moves) {
      while (old != current_->moves.end() && old->policy < move.policy) ++old;
      const bool known = old != current_->moves.end() && old->policy == move.policy && old->generation == move.generation;
      move.sequence = known ? old->sequence : sequence_.load(std::memory_order_relaxed) + 1;
    }
  }

  mutable std::mutex lock_;
  Handle current_;
  std::vector<Handle> former_;
  std::atomic<uint32_t> sequence_{0};
};

// One worker's hold on it.
class ProgramUse {
 public:
  explicit ProgramUse(ProgramCell& cell) : cell_(cell), program_(cell.current(sequence_)) {}

  const Program& operator*() const { return *program_; }
  const Program* operator->() const { return program_.get(); }
  uint32_t sequence() const { return sequence_; }

  // Takes up a newer program, if there is one. What was read of the one before stays valid until settle().
  bool refresh() {
    if (cell_.sequence() == sequence_) return false;
    before_.push_back(std::move(program_));
    program_ = cell_.current(sequence_);
    return true;
  }
  void settle() { before_.clear(); }
  // Another worker has decided by a program that we do not have yet.
  bool behind(uint32_t decided_by) const { return int32_t(decided_by - sequence_) > 0; }

 private:
  ProgramCell& cell_;
  uint32_t sequence_ = 0;
  ProgramCell::Handle program_;
  std::vector<ProgramCell::Handle> before_;
};

}  // namespace weir
