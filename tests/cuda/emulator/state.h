// What the machine and the primitives share. Nobody else includes it.
#pragma once

#include <cstring>
#include <unordered_map>
#include <utility>

#include "tests/cuda/emulator/machine.h"

namespace mpq::test {

struct AsyncCopy {
  uint32_t address;
  const void* from;
  uint32_t bytes, group;
  bool landed;
};

struct Block;

struct GpuThread {
  enum class State : uint8_t { kReady, kAtCall, kAtBarrier, kDone };
  Fiber fiber;
  Block* block = nullptr;
  uint32_t index = 0;  // in the block
  State state = State::kReady;
  // The call that its warp is making, and the lane's part in it.
  Call call = Call::kNone;
  Site site = {"", 0};
  void* part = nullptr;

  std::vector<AsyncCopy> copies;
  uint32_t group = 0;  // open
  std::vector<std::pair<int32_t*, int32_t>> late_adds;
  bool fenced = false;                            // since its last barrier
  std::unordered_map<uint64_t, uint32_t> visits;  // of a call site, when transactions are counted
};

// A block that is running.
struct Block {
  uint32_t id = 0, at[3] = {};
  SharedMemory shared;
  uint32_t epoch = 1;
  std::vector<std::unique_ptr<GpuThread>> threads;  // kept: their stacks are dear
  std::vector<uint32_t> lanes_at_call;              // of each warp
  uint32_t at_barrier = 0, done = 0;                // threads
  Site barrier_site = {"", 0};
};

// One lane's share of an access that a warp makes together.
struct Access {
  uint64_t warp, site, visit;
  uint64_t address;
  uint32_t lane, bytes;
  enum class Kind : uint8_t { kShared, kRead, kWrite } kind;
};

class Machine {
 public:
  Outcome run(const Launch&, GlobalMemory&, const LaunchOptions&);

  // From here on for the primitives, on behalf of the thread that runs.
  GpuThread& self() { return *current_; }
  Block& block() { return *current_->block; }
  [[noreturn]] void fail(const Site&, Call, const std::string& what);
  void require(const Fault& fault, const Site& site, Call call) {
    if (!fault.empty()) fail(site, call, fault);
  }
  // Notes the call; false if a mutation leaves it out.
  bool made(Call call, const Site& site) {
    if (options_->sites != nullptr) options_->sites->insert({call, site.file, site.line});
    return !planted(Mutation::kSkipped, site);
  }
  bool planted(Mutation m, const Site& site) const {
    return options_->planted.mutation == m && options_->planted.line == site.line &&
           std::strcmp(options_->planted.file, site.file) == 0;
  }
  void barrier(const Site&);
  // Waits for the warp; its last lane calls perform(part of a lane).
  template <typename Perform>
  void together(Call call, const Site& site, void* part, Perform perform) {
    GpuThread& lane = self();
    lane.call = call;
    lane.site = site;
    lane.part = part;
    const uint32_t warp = lane.index / 32;
    if (++block().lanes_at_call[warp] < 32) {
      lane.state = GpuThread::State::kAtCall;
      return lane.fiber.leave();
    }
    block().lanes_at_call[warp] = 0;
    const auto lanes = block().threads.begin() + warp * 32;
    for (uint32_t i = 0; i < 32; ++i)
      if (lanes[i]->call != call || lanes[i]->site.line != site.line ||
          std::strcmp(lanes[i]->site.file, site.file) != 0)
        fail(site, call,
             std::string("diverged: another lane is at ") + name_of(lanes[i]->call) + ", " +
                 lanes[i]->site.file + ":" + std::to_string(lanes[i]->site.line));
    perform([&](uint32_t i) { return lanes[i]->part; });
    for (uint32_t i = 0; i < 32; ++i) lanes[i]->state = GpuThread::State::kReady;
  }
  void note(const Site& site, Access::Kind kind, uint64_t address, uint32_t bytes);
  bool coin() { return (random() & 1) != 0; }
  bool late() {
    return options_->copies == Copies::kLate || (options_->copies == Copies::kRandom && coin());
  }
  // The order of sums between blocks: a sum is part of what a thread loads if its thread has fenced
  // it and then, by a barrier or itself, let a ticket of its block be taken (or, in its own block,
  // a barrier pass).
  void on_add(const int32_t* p);
  void on_fence();
  void on_ticket();
  Fault on_load_of_sums(const int32_t* p);
  uint32_t grid_thread() { return block().id * launch_->threads + current_->index + 1; }
  const Launch& launch() const { return *launch_; }

  GlobalMemory* global = nullptr;
  Counters counters;

 private:
  std::vector<std::unique_ptr<Block>> resident_;
  GpuThread* current_ = nullptr;
  const Launch* launch_ = nullptr;
  const LaunchOptions* options_ = nullptr;
  uint64_t random_state_ = 0, rounds_left_ = 0, standing_ = 0;  // standing_: a bit a warp
  std::vector<std::pair<int32_t*, int32_t>> unfenced_;
  struct When {
    uint32_t block, thread, epoch;
  };
  std::unordered_map<const int32_t*, std::vector<When>> adders_;  // of a word
  std::unordered_map<uint32_t, When> fences_;   // of a thread of the grid: the first after its sums
  std::unordered_map<uint32_t, When> tickets_;  // of a block: the last
  std::vector<Access> accesses_;
  std::string error_;

  uint64_t random();
  void start(Block*, uint32_t id);
  bool run_round(Block*);
  std::string stuck(const Block&) const;
  void count_transactions();
};

extern Machine* machine;  // the one that runs

}  // namespace mpq::test
