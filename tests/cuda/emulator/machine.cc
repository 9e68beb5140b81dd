#include "tests/cuda/emulator/machine.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <numeric>

#include "tests/cuda/emulator/state.h"

namespace mpq::test {

Machine* machine = nullptr;

const char* name_of(Call call) {
  static constexpr const char* kNames[] = {
      "nothing",  "bar_sync",    "shared_load", "shared_store",         "store",
      "add_to",   "take_ticket", "fence",       "cp_async16",           "cp_commit",
      "cp_wait",  "ldmatrix4",   "ldmatrix2",   "ldmatrix4_transposed", "mma_u4s4",
      "mma_u8s8", "mma_s8s8",    "shuffle_xor", "shuffle_down16",       "shuffle_from16"};
  return kNames[static_cast<size_t>(call)];
}

const char* name_of(Mutation mutation) {
  static constexpr const char* kNames[] = {"none",
                                           "skipped",
                                           "twice",
                                           "one more group pending",
                                           "no zero fill",
                                           "a1 and a2",
                                           "b0 and b1",
                                           "c1 and c2",
                                           "row of another lane",
                                           "16 bytes further",
                                           "ticket one early",
                                           "the lane beside"};
  return kNames[static_cast<size_t>(mutation)];
}

uint64_t Machine::random() {  // SplitMix64
  uint64_t z = random_state_ += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

void Machine::fail(const Site& site, Call call, const std::string& what) {
  if (error_.empty()) {
    const char* slash = std::strrchr(site.file, '/');
    error_ = std::string(launch_->name) + ": " + name_of(call) + " at " +
             (slash != nullptr ? slash + 1 : site.file) + ":" + std::to_string(site.line) +
             ", block " + std::to_string(block_) + ", thread " + std::to_string(current_->index) +
             ": " + what;
  }
  current_->state = GpuThread::State::kDone;
  for (;;) current_->fiber.leave();
}

void Machine::barrier(const Site& site) {
  if (at_barrier_ > 0 &&
      (barrier_site_.line != site.line || std::strcmp(barrier_site_.file, site.file) != 0))
    fail(site, Call::kBarrier, "diverged: others wait at another barrier");
  barrier_site_ = site;
  self().fenced = false;
  if (++at_barrier_ < launch_->threads) {
    self().state = GpuThread::State::kAtBarrier;
    return self().fiber.leave();
  }
  at_barrier_ = 0;
  ++epoch;
  ++counters.barriers;
  for (uint32_t i = 0; i < launch_->threads; ++i) threads_[i]->state = GpuThread::State::kReady;
}

void Machine::note(const Site& site, Access::Kind kind, uint64_t address, uint32_t bytes) {
  if (!options_->count_transactions) return;
  const uint64_t at =
      std::hash<std::string_view>()(site.file) * 65536 + static_cast<uint64_t>(site.line);
  accesses_.push_back({self().index / 32, at, self().visits[at]++, address, bytes, kind});
}

// A warp's accesses are one request: to sectors of 32 bytes of global memory; to the 32 banks of
// shared memory in passes of 128 bytes, as many as the fullest bank needs.
void Machine::count_transactions() {
  const auto request = [](const Access& a) {
    return std::tuple(a.warp, a.site, a.visit, static_cast<int>(a.kind));
  };
  std::stable_sort(accesses_.begin(), accesses_.end(),
                   [&](const Access& a, const Access& b) { return request(a) < request(b); });
  for (auto first = accesses_.begin(); first != accesses_.end();) {
    const auto last = std::find_if(first, accesses_.end(),
                                   [&](const Access& a) { return request(a) != request(*first); });
    if (first->kind == Access::Kind::kShared) {
      const auto lanes_a_pass = static_cast<ptrdiff_t>(128 / first->bytes);
      for (auto pass = first; pass != last;) {
        const auto end = pass + std::min(lanes_a_pass, last - pass);
        std::array<std::set<uint64_t>, 32> banks;
        for (; pass != end; ++pass)
          for (uint64_t word = pass->address / 4; word < (pass->address + pass->bytes) / 4; ++word)
            banks[word % 32].insert(word);
        size_t passes = 1;
        for (const auto& words : banks) passes = std::max(passes, words.size());
        counters.shared_passes += passes;
        counters.shared_conflicts += passes - 1;
      }
    } else {
      std::set<uint64_t> sectors;
      for (auto a = first; a != last; ++a)
        for (uint64_t s = a->address / 32; s <= (a->address + a->bytes - 1) / 32; ++s)
          sectors.insert(s);
      ++counters.global_requests;
      (first->kind == Access::Kind::kRead ? counters.read_sectors : counters.written_sectors) +=
          sectors.size();
    }
    first = last;
  }
  accesses_.clear();
}

std::string Machine::stuck() const {
  for (uint32_t i = 0; i < launch_->threads; ++i) {
    const GpuThread& t = *threads_[i];
    if (t.state == GpuThread::State::kAtCall)
      return std::string("diverged: ") + std::to_string(lanes_at_call_[t.index / 32]) +
             " of 32 lanes are at " + name_of(t.call) + ", " + t.site.file + ":" +
             std::to_string(t.site.line);
  }
  return "diverged: " + std::to_string(at_barrier_) + " of " + std::to_string(launch_->threads) +
         " threads are at bar_sync, " + barrier_site_.file + ":" +
         std::to_string(barrier_site_.line);
}

void Machine::schedule() {
  const uint32_t count = launch_->threads;
  for (uint32_t done = 0; done < count;) {
    // Another order each round: from a random thread on in odd steps, which reach all of a power of
    // two.
    const bool in_order = options_->seed == 0;
    const uint32_t start = in_order ? 0 : static_cast<uint32_t>(random()) % count;
    uint32_t step = in_order ? 1 : (static_cast<uint32_t>(random()) % count) | 1;
    while (std::gcd(step, count) != 1) step += 2;
    bool progress = false;
    done = 0;
    for (uint32_t i = 0; i < count; ++i) {
      GpuThread& t = *threads_[(start + i * step) % count];
      if (t.state == GpuThread::State::kReady) {
        current_ = &t;
        t.fiber.resume();
        progress = true;
        if (!error_.empty()) return;
      }
      done += t.state == GpuThread::State::kDone ? 1 : 0;
    }
    if (!progress && done < count) {
      error_ = std::string(launch_->name) + ": block " + std::to_string(block_) + ": " + stuck();
      return;
    }
  }
}

void Machine::run_block(uint32_t block) {
  block_ = block;
  block_at_[0] = block % launch_->grid_x;
  block_at_[1] = block / launch_->grid_x % launch_->grid_y;
  block_at_[2] = block / launch_->grid_x / launch_->grid_y;
  shared.start_block(launch_->shared_bytes);
  epoch = 1;
  at_barrier_ = 0;
  lanes_at_call_.assign(launch_->threads / 32, 0);
  while (threads_.size() < launch_->threads) threads_.push_back(std::make_unique<GpuThread>());
  for (uint32_t i = 0; i < launch_->threads; ++i) {
    GpuThread& t = *threads_[i];
    t.index = i;
    t.state = GpuThread::State::kReady;
    t.call = Call::kNone;
    t.copies.clear();
    t.late_adds.clear();
    t.group = 0;
    t.fenced = false;
    t.visits.clear();
    t.fiber.start([] {
      machine->launch_->kernel(machine->launch_->params);
      GpuThread& self = machine->self();
      if (!self.copies.empty())
        machine->fail({"", 0}, Call::kCopy, "the thread ends before it has waited for its copies");
      machine->unfenced_.insert(machine->unfenced_.end(), self.late_adds.begin(),
                                self.late_adds.end());
      self.state = GpuThread::State::kDone;
      self.fiber.leave();
    });
  }
  schedule();
  count_transactions();
  ++counters.blocks;
}

Outcome Machine::run(const Launch& launch, GlobalMemory& memory, const LaunchOptions& options) {
  machine = this;
  launch_ = &launch;
  options_ = &options;
  global = &memory;
  counters = {};
  error_.clear();
  accesses_.clear();
  unfenced_.clear();
  random_state_ = options.seed;
  memory.start_launch();
  const uint32_t blocks = launch.grid_x * launch.grid_y * launch.grid_z;
  std::vector<uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0U);
  if (options.seed != 0)
    for (uint32_t i = blocks; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  for (uint32_t i = 0; i < blocks && error_.empty(); ++i) run_block(order[i]);
  for (const auto& [p, value] : unfenced_) *p += value;
  return {error_, counters};
}

Outcome run(const Launch& launch, GlobalMemory& memory, const LaunchOptions& options) {
  static Machine one;  // its stacks serve every launch
  return one.run(launch, memory, options);
}

}  // namespace mpq::test
