// A GPU's blocks, warps and threads on one thread of the CPU, for kernels written against
// kernels/cuda/primitives.h. A thread of the kernel is a fiber that runs until it needs others: at
// a call of a warp it waits for 32 lanes, at a barrier for the block. What a GPU would do silently
// wrong ends the launch with a message here:
//
//   shared memory    races (by barrier epochs), reads of what nobody wrote, touching bytes that an
//                    asynchronous copy owns, alignment, bounds
//   global memory    bounds of the arrays, alignment, races, load_const of what is written
//   divergence       lanes of a warp at different calls, barriers that not all threads reach
//   copies           never waited for; they land as early or as late as they may
//   atomics          late: seen by others only after the thread's fence
//
// The order of threads and of blocks is drawn from a seed. Counters say what the launch cost.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "tests/cuda/emulator/fiber.h"
#include "tests/cuda/emulator/memory.h"

namespace mpq::test {

// Where a primitive is called from.
struct Site {
  const char* file;
  int line;
};

// The calls that a fault may be planted at, or that threads make together.
enum class Call : uint8_t {
  kNone,
  kBarrier,
  kSharedLoad,
  kSharedStore,
  kGlobalStore,
  kAdd,
  kTicket,
  kFence,
  kCopy,
  kCommit,
  kWait,
  kLdmatrix4,
  kLdmatrix2,
  kLdmatrix4Transposed,
  kMmaU4S4,
  kMmaU8S8,
  kMmaS8S8,
  kShuffleXor,
  kShuffleDown16,
  kShuffleFrom16,
};
const char* name_of(Call);

// What a careless author might have written there instead.
enum class Mutation : uint8_t {
  kNone,
  kSkipped,         // the call is missing
  kTwice,           // made twice
  kOneMorePending,  // waits for one group fewer
  kNoZeroFill,      // copies 16 bytes where it should have zeroed
  kSwapA,           // registers 1 and 2 of A
  kSwapB,           // registers 0 and 1 of B
  kSwapSums,        // accumulators 1 and 2
  kNeighbourRow,    // ldmatrix: the row of another lane
  kNextChunk,       // 16 bytes further
  kEarlyTicket,     // one more than it was
  kOtherLane,       // shuffles from the lane beside
};
const char* name_of(Mutation);

struct Planted {
  Mutation mutation = Mutation::kNone;
  const char* file = "";
  int line = 0;
};

enum class Copies : uint8_t { kEarly, kLate, kRandom };

struct LaunchOptions {
  Copies copies = Copies::kLate;  // and atomics: early or late
  uint64_t seed = 1;
  Planted planted;
  bool count_transactions = false;                                // slow
  std::vector<uint32_t> blocks;                                   // only these; empty: all
  std::set<std::tuple<Call, std::string, int>>* sites = nullptr;  // collects them
};

struct Launch {
  const char* name = "";
  void (*kernel)(const void* params) = nullptr;
  const void* params = nullptr;
  uint32_t grid_x = 1, grid_y = 1, grid_z = 1, threads = 32, shared_bytes = 0;
};

struct Counters {
  uint64_t blocks = 0, barriers = 0, products_4bit = 0, products_8bit = 0;  // products: a warp's
  uint64_t ldmatrix = 0, ldmatrix_passes = 0, ldmatrix_conflicts = 0;  // over the banks; extra ones
  uint64_t copies = 0, copied_bytes = 0, atomics = 0;
  // With count_transactions: of loads, stores and copies, a warp's at a time.
  uint64_t shared_passes = 0, shared_conflicts = 0;
  uint64_t read_sectors = 0, written_sectors = 0, global_requests = 0, read_requests = 0;
};

struct Outcome {
  std::string error;  // empty: none
  Counters counters;
};

Outcome run(const Launch&, GlobalMemory&, const LaunchOptions&);

}  // namespace mpq::test
