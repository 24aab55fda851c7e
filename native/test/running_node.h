// A service node with its thread, over a port of a test's own.
#pragma once
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "node/service_node.h"

namespace weir::test {

template <typename TestPort>
struct RunningNode {
  RunningNode(const Address& address, ServiceNode::Function function) {
    auto owned = std::make_unique<TestPort>();
    port = owned.get();
    node = std::make_unique<ServiceNode>(std::move(owned), address, function);
    node->start([](std::string) {});
  }
  ~RunningNode() {
    node->stop();
    node->join();
  }
  uint64_t dropped(NodeDrop reason) const { return node->counters().dropped[size_t(reason)].get(); }

  TestPort* port;
  std::unique_ptr<ServiceNode> node;
};

template <typename Condition>
bool eventually(Condition&& condition) {
  for (int i = 0; i < 20'000; i++) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

}  // namespace weir::test
