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
             ", block " + std::to_string(block().id) + ", thread " +
             std::to_string(current_->index) + ": " + what;
  }
  current_->state = GpuThread::State::kDone;
  for (;;) current_->fiber.leave();
}

void Machine::barrier(const Site& site) {
  Block& b = block();
  if (b.at_barrier > 0 &&
      (b.barrier_site.line != site.line || std::strcmp(b.barrier_site.file, site.file) != 0))
    fail(site, Call::kBarrier, "diverged: others wait at another barrier");
  b.barrier_site = site;
  self().fenced = false;
  if (++b.at_barrier < launch_->threads) {
    self().state = GpuThread::State::kAtBarrier;
    return self().fiber.leave();
  }
  b.at_barrier = 0;
  ++b.epoch;
  ++counters.barriers;
  for (uint32_t i = 0; i < launch_->threads; ++i) b.threads[i]->state = GpuThread::State::kReady;
}

void Machine::on_add(const int32_t* p) {
  adders_[p].push_back({block().id, self().index, block().epoch});
  fences_.erase(grid_thread());
}

void Machine::on_fence() {
  fences_.try_emplace(grid_thread(), When{block().id, self().index, block().epoch});
}

void Machine::on_ticket() { tickets_[block().id] = {block().id, self().index, block().epoch}; }

Fault Machine::on_load_of_sums(const int32_t* p) {
  if (!self().fenced) return "reads what other blocks wrote without a fence before";
  for (const When& adder : adders_[p]) {
    const auto fence = fences_.find(adder.block * launch_->threads + adder.thread + 1);
    const std::string who = "race: the sum of thread " + std::to_string(adder.thread) +
                            " of block " + std::to_string(adder.block);
    if (fence == fences_.end()) return who + " has not been fenced";
    const auto ticket = tickets_.find(adder.block);
    const bool own = adder.block == block().id;
    if (!own && ticket == tickets_.end()) return who + " has no ticket after it";
    const uint32_t epoch = own ? block().epoch : ticket->second.epoch;
    const uint32_t thread = own ? self().index : ticket->second.thread;
    if (epoch <= fence->second.epoch && thread != adder.thread)
      return who + " has no barrier between its fence and the " + (own ? "load" : "ticket");
  }
  return {};
}

void Machine::note(const Site& site, Access::Kind kind, uint64_t address, uint32_t bytes) {
  if (!options_->count_transactions) return;
  const uint64_t at =
      std::hash<std::string_view>()(site.file) * 65536 + static_cast<uint64_t>(site.line);
  accesses_.push_back({uint64_t{block().id} << 32 | self().index / 32, at, self().visits[at]++,
                       address, self().index % 32, bytes, kind});
}

// A warp's accesses are one request: to sectors of 32 bytes of global memory; to the 32 banks of
// shared memory in passes of 128 bytes, as many as the fullest bank needs.
void Machine::count_transactions() {
  const auto request = [](const Access& a) {
    return std::tuple(a.warp, a.site, a.visit, static_cast<int>(a.kind));
  };
  std::sort(accesses_.begin(), accesses_.end(), [&](const Access& a, const Access& b) {
    return std::pair(request(a), a.lane) < std::pair(request(b), b.lane);
  });
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
      if (first->kind == Access::Kind::kRead) ++counters.read_requests;
      (first->kind == Access::Kind::kRead ? counters.read_sectors : counters.written_sectors) +=
          sectors.size();
    }
    first = last;
  }
  accesses_.clear();
}

std::string Machine::stuck(const Block& b) const {
  std::string where =
      std::string(launch_->name) + ": block " + std::to_string(b.id) + ": diverged: ";
  for (uint32_t i = 0; i < launch_->threads; ++i) {
    const GpuThread& t = *b.threads[i];
    if (t.state == GpuThread::State::kAtCall)
      return where + std::to_string(b.lanes_at_call[t.index / 32]) + " of 32 lanes are at " +
             name_of(t.call) + ", " + t.site.file + ":" + std::to_string(t.site.line);
  }
  return where + std::to_string(b.at_barrier) + " of " + std::to_string(launch_->threads) +
         " threads are at bar_sync, " + b.barrier_site.file + ":" +
         std::to_string(b.barrier_site.line);
}

void Machine::start(Block* b, uint32_t id) {
  b->id = id;
  b->at[0] = id % launch_->grid_x;
  b->at[1] = id / launch_->grid_x % launch_->grid_y;
  b->at[2] = id / launch_->grid_x / launch_->grid_y;
  b->shared.start_block(launch_->shared_bytes);
  b->epoch = 1;
  b->at_barrier = b->done = 0;
  b->lanes_at_call.assign(launch_->threads / 32, 0);
  while (b->threads.size() < launch_->threads) b->threads.push_back(std::make_unique<GpuThread>());
  for (uint32_t i = 0; i < launch_->threads; ++i) {
    GpuThread& t = *b->threads[i];
    t.block = b;
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
      ++self.block->done;
      self.fiber.leave();
    });
  }
}

// Resumes the threads that can run, but for those of warps that have to stand. False if none can.
bool Machine::run_round(Block* b) {
  const uint32_t count = launch_->threads;
  const bool in_order = options_->seed == 0;
  // From a random thread on in odd steps, which reach all of a power of two.
  const uint32_t start = in_order ? 0 : static_cast<uint32_t>(random()) % count;
  uint32_t step = in_order ? 1 : (static_cast<uint32_t>(random()) % count) | 1;
  while (std::gcd(step, count) != 1) step += 2;
  bool ready = false, ran = false;
  for (uint32_t i = 0; i < count && error_.empty(); ++i) {
    GpuThread& t = *b->threads[(start + i * step) % count];
    if (t.state != GpuThread::State::kReady) continue;
    ready = true;
    if ((standing_ >> (t.index / 32) & 1) != 0) continue;
    ran = true;
    current_ = &t;
    t.fiber.resume();
  }
  if (!ran) rounds_left_ = 0;
  return ready;
}

Outcome Machine::run(const Launch& launch, GlobalMemory& memory, const LaunchOptions& options) {
  constexpr uint32_t kResident = 3;
  machine = this;
  launch_ = &launch;
  options_ = &options;
  global = &memory;
  counters = {};
  error_.clear();
  accesses_.clear();
  unfenced_.clear();
  adders_.clear();
  fences_.clear();
  tickets_.clear();
  random_state_ = options.seed;
  standing_ = rounds_left_ = 0;
  memory.start_launch();
  std::vector<uint32_t> waiting(launch.grid_x * launch.grid_y * launch.grid_z);
  std::iota(waiting.rbegin(), waiting.rend(), 0U);
  if (!options.blocks.empty()) waiting.assign(options.blocks.rbegin(), options.blocks.rend());
  if (options.seed != 0)
    for (size_t i = waiting.size(); i > 1; --i) std::swap(waiting[i - 1], waiting[random() % i]);
  while (resident_.size() < kResident) resident_.push_back(std::make_unique<Block>());
  std::vector<Block*> running;
  const auto start_next = [&](Block* b) {
    start(b, waiting.back());
    waiting.pop_back();
    running.push_back(b);
  };
  for (uint32_t i = 0; i < (options.seed == 0 ? 1 : kResident) && !waiting.empty(); ++i)
    start_next(resident_[i].get());
  size_t turn = 0;
  while (!running.empty() && error_.empty()) {
    // A few rounds or very many of some warps of one block, while all others stand where they are.
    if (options.seed != 0 && rounds_left_-- == 0) {
      turn = random() % running.size();
      standing_ = coin() ? 0 : random() & random();
      rounds_left_ = uint64_t{1} << random() % 11;
    }
    Block* b = running[turn];
    if (!run_round(b)) error_ = stuck(*b);
    if (b->done < launch.threads) continue;
    ++counters.blocks;
    running.erase(running.begin() + static_cast<ptrdiff_t>(turn));
    turn = rounds_left_ = standing_ = 0;
    if (!waiting.empty()) start_next(b);
  }
  count_transactions();
  for (const auto& [p, value] : unfenced_) *p += value;
  return {error_, counters};
}

Outcome run(const Launch& launch, GlobalMemory& memory, const LaunchOptions& options) {
  static Machine one;  // its stacks serve every launch
  return one.run(launch, memory, options);
}

}  // namespace mpq::test
