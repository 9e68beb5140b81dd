#include "tests/cuda/ptx/machine.h"

#include <algorithm>
#include <numeric>

#include "tests/cuda/ptx/program.h"

namespace mpq::ptx {
namespace {

constexpr uint64_t kGap = 1 << 16;  // between allocations

void fill_pattern(uint8_t* bytes, size_t count) {
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(0xc3 + 0x35 * i);
}

std::string hex(uint64_t v) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(v));
  return text;
}

}  // namespace

uint64_t Memory::add(uint8_t* data, size_t bytes, bool writable, std::vector<uint8_t> owned) {
  const uint64_t address = next_;
  next_ += (bytes + 2 * kGap - 1) / kGap * kGap;
  const auto after = std::upper_bound(blocks_.begin(), blocks_.end(), address,
                                      [](uint64_t a, const Block& b) { return a < b.address; });
  const auto block = blocks_.insert(after, {address, data, bytes, writable, std::move(owned)});
  if (data == nullptr) block->data = block->owned.data();
  return address;
}

uint64_t Memory::allocate(size_t bytes) {
  std::vector<uint8_t> owned(bytes);
  fill_pattern(owned.data(), bytes);
  return add(nullptr, bytes, true, std::move(owned));
}
uint64_t Memory::map(std::span<uint8_t> bytes) { return add(bytes.data(), bytes.size(), true, {}); }
uint64_t Memory::map(std::span<const uint8_t> bytes) {
  return add(const_cast<uint8_t*>(bytes.data()), bytes.size(), false, {});
}

bool Memory::map_at(uint64_t address, std::span<uint8_t> bytes, bool writable) {
  const auto after = std::upper_bound(blocks_.begin(), blocks_.end(), address,
                                      [](uint64_t a, const Block& b) { return a < b.address; });
  if (after != blocks_.end() && after->address - address < bytes.size()) return false;
  if (after != blocks_.begin() && address - (after - 1)->address < (after - 1)->bytes) return false;
  blocks_.insert(after, {address, bytes.data(), bytes.size(), writable, {}});
  return true;
}

void Memory::make_read_only(uint64_t address) {
  for (Block& b : blocks_)
    if (b.address == address) b.writable = false;
}

bool Memory::release(uint64_t address) {
  const auto found = std::find_if(blocks_.begin(), blocks_.end(),
                                  [&](const Block& b) { return b.address == address; });
  if (found == blocks_.end()) return false;
  blocks_.erase(found);
  return true;
}

uint8_t* Memory::at(uint64_t address, size_t bytes, bool write, uint32_t* hint) const {
  const auto holds = [&](const Block& b) {
    return address - b.address < b.bytes && bytes <= b.bytes - (address - b.address);
  };
  if (*hint >= blocks_.size() || !holds(blocks_[*hint])) {
    const auto after = std::upper_bound(blocks_.begin(), blocks_.end(), address,
                                        [](uint64_t a, const Block& b) { return a < b.address; });
    if (after == blocks_.begin() || !holds(*(after - 1))) return nullptr;
    *hint = static_cast<uint32_t>(after - 1 - blocks_.begin());
  }
  const Block& b = blocks_[*hint];
  return write && !b.writable ? nullptr : b.data + (address - b.address);
}

void Warp::fail(const Inst& in, uint32_t lane, const std::string& what) {
  if (!block->fault.empty()) return;
  const Program& p = *block->program;
  const size_t at = static_cast<size_t>(&in - p.code.data());
  block->fault = "kernel " + p.name + ", ptx line " + std::to_string(p.lines[at]) + ": " +
                 p.opcodes[at] + ": block (" + std::to_string(block->index.x) + ", " +
                 std::to_string(block->index.y) + ", " + std::to_string(block->index.z) +
                 "), thread " + std::to_string(index * kLanes + lane) + ": " + what;
}

uint8_t* resolve(Warp& w, const Inst& in, uint32_t lane, uint32_t which, Space space,
                 uint32_t bytes, bool write) {
  Block& block = *w.block;
  uint64_t address = address_of(w, in, lane, which);
  const uint64_t stated = address;
  if ((address & (bytes - 1)) != 0) {
    w.fail(in, lane, "misaligned: " + std::to_string(bytes) + " bytes at " + hex(address));
    return nullptr;
  }
  if (space == Space::kGeneric) {
    const uint64_t window = address & ~(kWindowBytes - 1);
    space = window == kSharedWindow  ? Space::kShared
            : window == kLocalWindow ? Space::kLocal
            : window == kParamWindow ? Space::kParam
                                     : Space::kGlobal;
    if (space == Space::kShared) address -= kSharedWindow;
  }
  switch (space) {
    case Space::kShared: {
      const uint64_t at = address - kSharedBase;
      if (at < block.shared.size() && bytes <= block.shared.size() - at)
        return block.shared.data() + at;
      break;
    }
    case Space::kLocal: {
      const uint64_t at = address - kLocalWindow, size = block.program->local_bytes;
      if (at < size && bytes <= size - at)
        return block.local.data() + (w.index * kLanes + lane) * size + at;
      break;
    }
    case Space::kParam: {
      const uint64_t at = address - kParamWindow, size = block.launch->parameters.size();
      if (!write && at < size && bytes <= size - at)
        return const_cast<uint8_t*>(block.launch->parameters.data()) + at;
      break;
    }
    default:
      if (uint8_t* found = block.memory->at(address, bytes, write, &in.hint[which])) return found;
      if (write && block.memory->at(address, bytes, false) != nullptr) {
        w.fail(in, lane, "writes read-only memory at " + hex(stated));
        return nullptr;
      }
  }
  w.fail(in, lane,
         std::to_string(bytes) + " bytes at " + hex(stated) + " outside every allocation");
  return nullptr;
}

void complete(Warp& w, const Inst& in, const PendingCopy& copy) {
  uint8_t* to = w.block->shared.data() + copy.destination;
  std::memset(to, 0, copy.bytes);
  if (copy.source_bytes == 0) return;
  const uint8_t* from = w.block->memory->at(copy.source, copy.source_bytes, false);
  if (from == nullptr) return w.fail(in, copy.lane, "source of a copy is gone");
  std::memcpy(to, from, copy.source_bytes);
}

namespace {

// Executes the grid of one launch.
class Grid {
 public:
  Grid(const Program& program, const Launch& launch, Memory& memory, const RunOptions& options)
      : program_(program), options_(options), rng_(options.seed) {
    block_.program = &program;
    block_.memory = &memory;
    block_.launch = &launch;
    block_.async = options.async;
    block_.rng = &rng_;
    block_.counters = &counters_;
    threads_ = static_cast<uint32_t>(launch.block.count());
    warps_.resize((threads_ + kLanes - 1) / kLanes);
    image_.resize(program.file_bytes);
    make_image();
    files_.resize(warps_.size() * stride());
    for (uint32_t i = 0; i < warps_.size(); ++i) {
      warps_[i].file = files_.data() + i * stride() + skew();
      warps_[i].block = &block_;
      warps_[i].index = i;
    }
  }

  Result<Counters> run() {
    const Dim3 grid = block_.launch->grid;
    std::vector<uint64_t> order(grid.count());
    std::iota(order.begin(), order.end(), uint64_t{0});
    if (!options_.blocks.empty()) order.assign(options_.blocks.begin(), options_.blocks.end());
    if (options_.executed != nullptr) options_.executed->assign(program_.code.size(), 0);
    if (options_.seed != 0) shuffle(&order);
    for (const uint64_t i : order) {
      block_.index = {static_cast<uint32_t>(i % grid.x), static_cast<uint32_t>(i / grid.x % grid.y),
                      static_cast<uint32_t>(i / grid.x / grid.y)};
      run_block();
      if (!block_.fault.empty()) return Error{Status::kInternal, block_.fault};
    }
    return counters_;
  }

 private:
  // Register files begin on a line.
  size_t stride() const { return (program_.file_bytes + 127) / 64 * 64; }
  size_t skew() const { return (64 - reinterpret_cast<uintptr_t>(files_.data()) % 64) % 64; }

  template <typename T>
  void shuffle(std::vector<T>* list) {
    for (size_t i = list->size(); i > 1; --i)
      std::swap((*list)[i - 1], (*list)[rng_.below(static_cast<uint32_t>(i))]);
  }

  template <typename T>
  static void spread(uint8_t* file, Slot slot, uint64_t value) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const T v = static_cast<T>(value);
      std::memcpy(file + slot + lane * sizeof(T), &v, sizeof(T));
    }
  }

  // What every warp's register file begins as; registers hold rubbish until they are written.
  void make_image() {
    uint8_t* file = image_.data();
    fill_pattern(file, image_.size());
    for (const Constant& c : program_.constants) {
      if (c.bytes == 0) spread_predicate(file, c);
      if (c.bytes == 2) spread<uint16_t>(file, c.slot, c.value);
      if (c.bytes == 4) spread<uint32_t>(file, c.slot, c.value);
      if (c.bytes == 8) spread<uint64_t>(file, c.slot, c.value);
    }
    const Dim3 n = block_.launch->block, g = block_.launch->grid;
    const uint32_t sizes[] = {n.x, n.y, n.z}, grids[] = {g.x, g.y, g.z};
    for (uint32_t d = 0; d < 3; ++d) {
      spread<uint32_t>(file, special_slot(Special::kNtid, d), sizes[d]);
      spread<uint32_t>(file, special_slot(Special::kNctaid, d), grids[d]);
    }
    const auto per_lane = [&](Special s, auto value_of) {
      for (uint32_t lane = 0; lane < kLanes; ++lane) {
        const uint32_t v = value_of(lane);
        std::memcpy(file + special_slot(s) + lane * 4, &v, 4);
      }
    };
    per_lane(Special::kLaneId, [](uint32_t l) { return l; });
    per_lane(Special::kMaskEq, [](uint32_t l) { return 1U << l; });
    per_lane(Special::kMaskLt, [](uint32_t l) { return (1U << l) - 1; });
    per_lane(Special::kMaskLe, [](uint32_t l) { return (2U << l) - 1; });
    per_lane(Special::kMaskGt, [](uint32_t l) { return ~((2U << l) - 1); });
    per_lane(Special::kMaskGe, [](uint32_t l) { return ~((1U << l) - 1); });
  }
  static void spread_predicate(uint8_t* file, const Constant& c) {
    const uint32_t bits = c.value != 0 ? kAllLanes : 0;
    std::memcpy(file + c.slot, &bits, 4);
  }

  void start(Warp* w) {
    std::memcpy(w->file, image_.data(), image_.size());
    const Dim3 n = block_.launch->block;
    const uint32_t index[] = {block_.index.x, block_.index.y, block_.index.z};
    for (uint32_t d = 0; d < 3; ++d)
      spread<uint32_t>(w->file, special_slot(Special::kCtaid, d), index[d]);
    w->alive = 0;
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const uint32_t thread = w->index * kLanes + lane;
      if (thread < threads_) w->alive |= 1U << lane;
      const uint32_t tid[] = {thread % n.x, thread / n.x % n.y, thread / n.x / n.y};
      for (uint32_t d = 0; d < 3; ++d)
        values<uint32_t>(*w, special_slot(Special::kTid, d))[lane] = tid[d];
    }
    w->state = Warp::State::kReady;
    w->frames.assign(1, {0, static_cast<uint32_t>(program_.code.size()), w->alive});
    w->copies.clear();
    std::fill(std::begin(w->group), std::end(w->group), 0);
  }

  void run_block() {
    block_.shared.resize(program_.shared_bytes + block_.launch->shared_bytes);
    fill_pattern(block_.shared.data(), block_.shared.size());
    block_.local.resize(size_t{program_.local_bytes} * warps_.size() * kLanes);
    fill_pattern(block_.local.data(), block_.local.size());
    for (Warp& w : warps_) start(&w);
    std::vector<uint32_t> order(warps_.size());
    std::iota(order.begin(), order.end(), 0U);
    for (;;) {
      if (options_.seed != 0) shuffle(&order);
      bool ran = false;
      for (const uint32_t i : order) {
        if (warps_[i].state != Warp::State::kReady) continue;
        step(&warps_[i]);
        if (!block_.fault.empty()) return;
        ran = true;
      }
      if (!ran && !release_barrier()) break;
    }
    for (const Warp& w : warps_)
      if (w.state == Warp::State::kWaiting && block_.fault.empty())
        warps_[w.index].fail(program_.code[w.frames.back().pc - 1], 0,
                             "waits for ever at barrier " + std::to_string(w.barrier));
  }

  // Lets the warps of one complete barrier go on. Warps count whole; those that are done have
  // left a barrier of all threads.
  bool release_barrier() {
    for (const Warp& first : warps_) {
      if (first.state != Warp::State::kWaiting) continue;
      uint32_t here = 0, needed = 0;
      for (const Warp& w : warps_) {
        if (w.state == Warp::State::kWaiting && w.barrier == first.barrier) {
          if (w.barrier_threads != first.barrier_threads) return false;
          here += kLanes;
        }
        if (w.state != Warp::State::kDone) needed += kLanes;
      }
      if (first.barrier_threads != 0) needed = first.barrier_threads;
      if (here != needed) continue;
      const uint32_t barrier = first.barrier;
      for (Warp& w : warps_)
        if (w.state == Warp::State::kWaiting && w.barrier == barrier) w.state = Warp::State::kReady;
      ++counters_.barriers;
      return true;
    }
    return false;
  }

  // Until the warp waits or is done.
  void step(Warp* w) {
    const Inst* code = program_.code.data();
    while (w->state == Warp::State::kReady && block_.fault.empty()) {
      if (w->frames.empty()) {
        w->state = Warp::State::kDone;
        return;
      }
      Frame& f = w->frames.back();
      if (f.pc == f.reconverge || f.lanes == 0) {
        w->frames.pop_back();
        continue;
      }
      const Inst& in = code[f.pc];
      uint32_t lanes = f.lanes;
      if (in.guarded) {
        const uint32_t p = *values<uint32_t>(*w, in.guard);
        lanes &= in.guard_negated ? ~p : p;
      }
      ++counters_.warp_instructions;
      if (options_.executed != nullptr) ++(*options_.executed)[f.pc];
      counters_.thread_instructions += static_cast<uint64_t>(__builtin_popcount(lanes));
      switch (in.flow) {
        case Flow::kNone:
          ++f.pc;
          if (lanes != 0) in.execute(*w, in, lanes);
          break;
        case Flow::kBranch:
          branch(w, in, lanes);
          break;
        case Flow::kExit:
          ++f.pc;
          w->alive &= ~lanes;
          for (Frame& frame : w->frames) frame.lanes &= ~lanes;
          break;
        case Flow::kBarrier:
          ++f.pc;
          if (lanes != 0) arrive(w, in, lanes);
          break;
      }
      if (counters_.warp_instructions > options_.max_warp_instructions)
        w->fail(in, 0, "does not end");
    }
  }

  void branch(Warp* w, const Inst& in, uint32_t taken) {
    Frame& f = w->frames.back();
    const uint32_t next = f.pc + 1, rest = f.lanes & ~taken;
    if (taken == 0) {
      f.pc = next;
    } else if (rest == 0) {
      f.pc = in.target;
    } else if (in.variant == 1) {
      w->fail(in, 0, "a uniform branch that some lanes do not take");
    } else {
      const uint32_t join = in.reconverge;
      if (join == f.reconverge) {
        w->frames.pop_back();
      } else {
        f.pc = join;
      }
      if (next != join) w->frames.push_back({next, join, rest});
      if (in.target != join) w->frames.push_back({in.target, join, taken});
    }
  }

  void arrive(Warp* w, const Inst& in, uint32_t lanes) {
    if (lanes != w->alive) return w->fail(in, 0, "a barrier reached by a part of the warp");
    const uint32_t first = static_cast<uint32_t>(__builtin_ctz(lanes));
    const uint32_t* ids = values<uint32_t>(*w, in.op[0]);
    const uint32_t* counts = in.variant == 2 ? values<uint32_t>(*w, in.op[1]) : nullptr;
    for_lanes(lanes, [&](uint32_t i) {
      if (ids[i] != ids[first] || ids[i] > 15) w->fail(in, i, "barrier " + std::to_string(ids[i]));
      if (counts != nullptr &&
          (counts[i] != counts[first] || counts[i] % kLanes != 0 || counts[i] == 0))
        w->fail(in, i, "barrier of " + std::to_string(counts[i]) + " threads");
    });
    w->barrier = ids[first];
    w->barrier_threads = counts != nullptr ? counts[first] : 0;
    w->state = Warp::State::kWaiting;
  }

  const Program& program_;
  const RunOptions& options_;
  test::Rng rng_;
  Counters counters_;
  Block block_;
  uint32_t threads_ = 0;
  std::vector<Warp> warps_;
  std::vector<uint8_t> image_, files_;
};

}  // namespace

Executable::Executable(std::unique_ptr<Program> program) : program_(std::move(program)) {}
Executable::Executable(Executable&&) noexcept = default;
Executable& Executable::operator=(Executable&&) noexcept = default;
Executable::~Executable() = default;

Result<Executable> Executable::load(const Module& module, std::string_view name, Memory& memory) {
  const Kernel* kernel = module.kernel(name);
  if (kernel == nullptr) return Error{Status::kNotFound, "no kernel " + std::string(name)};
  MPQ_TRY(auto program, decode(module, *kernel, memory));
  return Executable(std::move(program));
}

Result<Counters> Executable::run(const Launch& launch, Memory& memory,
                                 const RunOptions& options) const {
  const Program& p = *program_;
  const auto refuse = [&](const std::string& what) {
    return Error{Status::kInvalidArgument, "kernel " + p.name + ": " + what};
  };
  if (launch.parameters.size() != p.parameter_bytes)
    return refuse(std::to_string(launch.parameters.size()) + " bytes of parameters, " +
                  std::to_string(p.parameter_bytes) + " expected");
  const uint64_t threads = launch.block.count();
  if (threads == 0 || threads > 1024 || launch.block.z > 64 || launch.grid.count() == 0 ||
      launch.grid.y > 65535 || launch.grid.z > 65535)
    return refuse("a grid of " + std::to_string(launch.grid.count()) + " blocks of " +
                  std::to_string(threads) + " threads");
  if (p.max_threads != 0 && threads > p.max_threads)
    return refuse(std::to_string(threads) + " threads, .maxntid is " +
                  std::to_string(p.max_threads));
  if (!p.extern_shared && launch.shared_bytes != 0)
    return refuse("dynamic shared memory that no variable names");
  return Grid(p, launch, memory, options).run();
}

}  // namespace mpq::ptx
