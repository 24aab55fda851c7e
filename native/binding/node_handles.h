// Nodes by number, so that JavaScript of another thread (a Worker) can be the function of a node that the main thread owns.
#pragma once
#include <cstdint>
#include <map>
#include <mutex>

#include "node/service_node.h"

namespace weir {

class NodeHandles {
 public:
  static NodeHandles& instance() {
    static NodeHandles handles;
    return handles;
  }
  uint32_t add(ServiceNode* node) {
    std::lock_guard lock(mutex_);
    nodes_[++last_] = node;
    return last_;
  }
  void remove(uint32_t handle) {
    std::lock_guard lock(mutex_);
    nodes_.erase(handle);
  }
  // Calls work(node) while the node can't go away. False if there is no such node.
  template <typename Work>
  bool with(uint32_t handle, Work&& work) {
    std::lock_guard lock(mutex_);
    const auto found = nodes_.find(handle);
    if (found == nodes_.end()) return false;
    work(*found->second);
    return true;
  }

 private:
  std::mutex mutex_;
  std::map<uint32_t, ServiceNode*> nodes_;
  uint32_t last_ = 0;
};

}  // namespace weir
