// A kernel as the machine executes it: instructions with their operands resolved to places in a
// warp's register file, and the function that does each one's work.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tests/cuda/ptx/machine.h"
#include "tests/support/rng.h"

namespace mpq::ptx {

constexpr uint32_t kLanes = 32, kAllLanes = ~0U;

// The generic address space. Addresses of .global, .const, .local and .param are generic addresses
// already; an address within .shared is 32 bits and does not begin at 0.
constexpr uint64_t kSharedWindow = uint64_t{1} << 40, kLocalWindow = uint64_t{1} << 41,
                   kParamWindow = uint64_t{1} << 42, kWindowBytes = uint64_t{1} << 30;
constexpr uint64_t kSharedBase = 1024;

struct Inst;
struct Warp;
// Does the work for the lanes whose bit is set (never none).
using Execute = void (*)(Warp&, const Inst&, uint32_t lanes);

enum class Flow : uint8_t { kNone, kBranch, kExit, kBarrier };

// Offset of a value in a warp's register file: 32 lanes side by side, or the 32 bits of
// a predicate. Constants and special registers live there too, so an operand is always a Slot.
using Slot = uint32_t;

struct Inst {
  Execute execute = nullptr;
  Flow flow = Flow::kNone;
  Space space = Space::kGeneric;
  uint8_t variant = 0;        // what the row of the opcode table says
  uint8_t negated = 0;        // bit i: op[i] is a negated predicate
  uint8_t width[2] = {0, 0};  // bytes of the registers of 'X' and 'x' operands
  bool guarded = false, guard_negated = false;
  bool wide[2] = {false, false};  // the base of the address has 64 bits
  Slot guard = 0;
  uint32_t target = 0, reconverge = 0;  // of a branch: instruction indices
  Slot op[14] = {};
  Slot base[2] = {};  // addresses: base[i] + offset[i]
  int64_t offset[2] = {};
  uint32_t statement = 0;
  mutable uint32_t hint[2] = {};  // where Memory found the address last
};

struct Constant {
  Slot slot;
  uint32_t bytes;  // 2, 4 or 8 a lane; 0 for a predicate
  uint64_t value;
};

enum class Special : uint8_t {
  kTid,
  kNtid,
  kCtaid,
  kNctaid,
  kLaneId,
  kMaskEq,
  kMaskLt,
  kMaskLe,
  kMaskGt,
  kMaskGe
};

struct Program {
  std::string name;
  std::vector<Inst> code;  // ends with an exit
  std::vector<uint32_t> lines;
  std::vector<std::string> opcodes;
  std::vector<Constant> constants;
  uint32_t file_bytes = 0;  // of a warp's register file
  uint32_t parameter_bytes = 0;
  uint32_t shared_bytes = 0;  // without the extern array, which follows
  bool extern_shared = false;
  uint32_t local_bytes = 0;  // a thread
  uint32_t target = 0;       // 80 for sm_80
  uint32_t max_threads = 0;
};

Result<std::unique_ptr<Program>> decode(const Module&, const Kernel&, Memory&);

// The slots of special registers are fixed: 3 dimensions each for the first four.
constexpr Slot special_slot(Special s, uint32_t dimension = 0) {
  const auto i = static_cast<uint32_t>(s);
  return (i < 4 ? i * 3 + dimension : 8 + i) * (kLanes * 4);
}
constexpr uint32_t kSpecialBytes = 18 * kLanes * 4;

struct Frame {
  uint32_t pc, reconverge, lanes;
};

struct PendingCopy {
  uint64_t source;
  uint32_t destination;  // offset in shared memory, without kSharedBase
  uint32_t group;
  uint8_t lane, bytes, source_bytes;
};

struct Block {
  const Program* program = nullptr;
  Memory* memory = nullptr;
  const Launch* launch = nullptr;
  Async async = Async::kAtWait;
  test::Rng* rng = nullptr;
  Counters* counters = nullptr;
  Dim3 index;
  std::vector<uint8_t> shared, local;
  std::string fault;  // the first one
};

struct Warp {
  enum class State : uint8_t { kReady, kWaiting, kDone };
  uint8_t* file = nullptr;
  Block* block = nullptr;
  uint32_t index = 0;
  uint32_t alive = 0;  // lanes that exist and have not exited
  State state = State::kReady;
  uint32_t barrier = 0, barrier_threads = 0;  // while waiting; 0 threads: all
  std::vector<Frame> frames;
  std::vector<PendingCopy> copies;
  uint32_t group[kLanes] = {};  // committed groups of asynchronous copies

  void fail(const Inst&, uint32_t lane, const std::string& what);
};

// The bytes at an operand's address in a space, or nullptr after fail().
uint8_t* resolve(Warp&, const Inst&, uint32_t lane, uint32_t which, Space, uint32_t bytes,
                 bool write);
// Lands a copy.
void complete(Warp&, const Inst&, const PendingCopy&);

template <typename T>
T* values(Warp& w, Slot slot) {
  return reinterpret_cast<T*>(w.file + slot);
}
inline uint64_t address_of(Warp& w, const Inst& in, uint32_t lane, uint32_t which) {
  const uint64_t base = in.wide[which] ? values<uint64_t>(w, in.base[which])[lane]
                                       : values<uint32_t>(w, in.base[which])[lane];
  return base + static_cast<uint64_t>(in.offset[which]);
}
inline uint32_t predicate(Warp& w, const Inst& in, uint32_t i) {
  const uint32_t bits = *values<uint32_t>(w, in.op[i]);
  return (in.negated >> i & 1) != 0 ? ~bits : bits;
}
inline void set_predicate(Warp& w, Slot slot, uint32_t bits, uint32_t lanes) {
  uint32_t& p = *values<uint32_t>(w, slot);
  p = (p & ~lanes) | (bits & lanes);
}

// f(lane) for every lane; the first loop is the one that compilers vectorise.
template <typename F>
inline void for_lanes(uint32_t lanes, F f) {
  if (lanes == kAllLanes) {
    for (uint32_t i = 0; i < kLanes; ++i) f(i);
  } else {
    for (uint32_t rest = lanes; rest != 0; rest &= rest - 1)
      f(static_cast<uint32_t>(__builtin_ctz(rest)));
  }
}

}  // namespace mpq::ptx
