// A service instance's thread: stamped frames in from a ring, turned round, out again. The function `pass` is done here, whole
// frames at a time; any other gets slabs of packets by a queue and answers with verdicts.
#pragma once
#include <poll.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/counters.h"
#include "node/direct_exit.h"
#include "node/fragment_port.h"
#include "node/function_queue.h"
#include "node/group_relay.h"
#include "node/mesh_map.h"
#include "node/return_batch.h"
#include "node/second_chance.h"
#include "node/stamped_datagram.h"
#include "port/port.h"

namespace weir {

struct NodeCounters {
  Traffic received, returned;  // datagrams; bytes of whole frames
  Traffic bypassed;            // of the returned and exited ones: past a function that was behind or gone
  Traffic handed_on;           // of the returned ones: to the next instance of a mesh chain
  Traffic exited;              // IP packets that left from this host, past the last service of a mesh chain; not of the returned ones
  Counter unknown_path;        // datagrams of paths that the map at hand does not have: returned to the forwarder, which knows
  Counter dropped[size_t(NodeDrop::count_)];
};

// Ends the thread's poll. Outlives it for those who still hold it.
class Wake {
 public:
  Wake();
  ~Wake();
  Wake(const Wake&) = delete;
  void now() const;
  void clear() const;
  int descriptor() const { return fd_; }

 private:
  int fd_;
};

class ServiceNode final : Receiver {
 public:
  enum class Function : uint8_t {
    pass,    // none: everything is turned round
    closed,  // packets that the function can't take are dropped
    open,    // they are turned round as `pass` does it
  };
  ServiceNode(std::unique_ptr<Port> port, const Address& address, Function function);
  ~ServiceNode();
  void start(std::function<void(std::string)> finished);
  // From any thread: the queue to the function from now on. What the one before has not answered is lost. Null: there is none.
  void attach(std::shared_ptr<FunctionQueue> queue);
  // From any thread: the same, if `queue` is still the one.
  void detach(const FunctionQueue* queue);
  std::shared_ptr<FunctionQueue> queue() const;
  // From any thread: the group with a primary node that it is in from now on; null: none. It must have been checked.
  void join_group(std::shared_ptr<const Group> group);
  // Null before it was in a group.
  const GroupCounters* group_counters() const;
  // From any thread: the maps of the appliance that it is a unit of from now on; null: of none. They must have been checked.
  void join_appliance(std::shared_ptr<const UnitMaps> maps);
  // Null before it was a unit of an appliance.
  const SecondChance* second_chance() const;
  std::shared_ptr<const UnitMaps> units() const;
  // From any thread: the service map that packets are handed on by from now on. It must have been checked.
  void install(std::shared_ptr<const MeshMap> map);
  std::shared_ptr<const MeshMap> map() const;
  const std::shared_ptr<Wake>& wake() const { return wake_; }
  void stop();
  void join();

  const NodeCounters& counters() const { return counters_; }
  const FragmentCounters& fragments() const { return fragments_.fragments(); }
  const Port& port() const { return *port_; }

 private:
  void receive(PortId port, std::span<Frame> frames) override;
  void receive(Frame& frame);
  bool take_fragment(const Frame& frame);
  void lose(NodeDrop reason, const OuterReassembly::Lost& lost);
  void pass(Frame& frame, const StampedFrame& outer, Traffic* also);
  // Whole frames of a mesh chain.
  void hand_on(Frame& frame, const StampedFrame& outer, Traffic* also);
  bool hand_on_whole(Frame& frame, const StampedFrame& outer, uint32_t size, Traffic* also);
  // Where a datagram goes from here; counts it where that is nowhere.
  MeshStep next_step(const DatagramView& view, const Address& source);
  // Whether the packet behind a stamp leaves from here. Where its step says so and it can't, the step becomes the forwarder's.
  bool exits(MeshStep& step, uint8_t* inner, uint32_t length, bool ethernet);
  // Before the memory of queued frames and packets is written to again.
  void flush();
  // Changes outer headers and stamp of one datagram for its next place. `outer` has no checksum yet.
  void turn(uint8_t* outer, uint8_t* stamp, const DatagramView& view, const MeshStep& step);
  void collect(Frame& frame, const StampedFrame& outer);
  void send_back(Slab& slab, const FunctionPacket& packet, uint8_t* inner, uint32_t length);
  void send_answered();
  void change_queue();
  std::string run();

  std::unique_ptr<Port> port_;
  FragmentPort fragments_;
  Port* out_;            // where the frame at hand leaves: port_, or fragments_ where it came in such
  uint32_t cut_to_ = 0;  // for the latter
  Address address_;
  const Function function_;
  NodeCounters counters_;
  ReturnBatch back_;

  std::vector<pollfd> poll_;
  std::shared_ptr<Wake> wake_;
  std::atomic<bool> stopping_{false};
  std::shared_ptr<FunctionQueue> queue_;  // the thread's own
  mutable std::mutex next_mutex_;
  std::shared_ptr<FunctionQueue> next_;
  std::shared_ptr<const Group> group_, next_group_;  // the thread's own, and the one to come
  std::unique_ptr<GroupRelay> relay_;  // made by join_group(), and there from then on
  std::shared_ptr<const UnitMaps> units_, next_units_;  // the thread's own, and those to come
  std::unique_ptr<SecondChance> chance_;                // made by join_appliance(), and there from then on
  uint32_t now_s_ = 0;  // of the batch at hand
  std::shared_ptr<const MeshMap> map_, next_map_;  // the thread's own, and the one to come
  std::unique_ptr<DirectExit> made_exit_;          // by the first map that needs it, and there from then on
  DirectExit* exit_ = nullptr;                     // the thread's own view of it
  std::atomic<bool> changed_{false};
  // Steps by (path, index, code): what the map answers, without asking every member each time.
  struct Remembered {
    uint32_t spi = 0, code = 0;
    MeshStep step;
  };
  std::vector<Remembered> remembered_;
  std::vector<uint8_t> outers_;  // headers of datagrams that don't go the way of their frame
  std::thread thread_;
};

}  // namespace weir
