// A machine that executes PTX kernels: whole grids, thread blocks one after the other, warps of a
// block interleaved at barriers, 32 lanes of a warp together.
//
// Divergent lanes reconverge at the immediate post-dominator of the branch, as ptxas arranges it;
// an `.aligned` instruction reached by a part of a warp is an error, never a wait. So are: an
// address outside every allocation, a misaligned one, a write to read-only memory, a lane of
// a membermask that is not there, a barrier that cannot be completed.
//
// Single-threaded: a Memory and the launches on it belong to one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "format/status.h"
#include "tests/cuda/ptx/module.h"

namespace mpq::ptx {

// Device memory: allocations far apart, so that no overrun lands in a neighbour.
class Memory {
 public:
  // Fresh memory, filled with a pattern that no test expects; 256-byte aligned as cuMemAlloc's.
  uint64_t allocate(size_t bytes);
  // The caller's bytes, which must outlive their use; exactly as long as the span.
  uint64_t map(std::span<uint8_t> bytes);
  uint64_t map(std::span<const uint8_t> bytes);  // read-only
  // The caller's bytes under an address of his own choice; false if it is taken.
  bool map_at(uint64_t address, std::span<uint8_t> bytes, bool writable);
  void make_read_only(uint64_t address);
  // False if `address` is not the beginning of an allocation.
  bool release(uint64_t address);

  // nullptr unless [address, address + bytes) lies in one allocation, writable if `write`. hint:
  // where to look first, updated.
  uint8_t* at(uint64_t address, size_t bytes, bool write, uint32_t* hint) const;
  uint8_t* at(uint64_t address, size_t bytes, bool write) const {
    uint32_t hint = 0;
    return at(address, bytes, write, &hint);
  }

 private:
  struct Block {
    uint64_t address;
    uint8_t* data;
    size_t bytes;
    bool writable;
    std::vector<uint8_t> owned;
  };
  uint64_t add(uint8_t* data, size_t bytes, bool writable, std::vector<uint8_t> owned);
  std::vector<Block> blocks_;  // by address
  uint64_t next_ = uint64_t{1} << 33;
};

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
  uint64_t count() const { return uint64_t{x} * y * z; }
};

struct Launch {
  Dim3 grid, block;
  uint32_t shared_bytes = 0;        // of the `extern .shared` array
  std::vector<uint8_t> parameters;  // laid out as the kernel's .param list
};

// When the bytes of a cp.async arrive. All are allowed by the ISA.
enum class Async : uint8_t { kAtOnce, kAtWait, kRandom };

struct RunOptions {
  uint64_t seed = 0;  // order of blocks and warps; 0: in order
  Async async = Async::kAtWait;
  uint64_t max_warp_instructions = uint64_t{1} << 36;  // beyond: "does not end"
  std::vector<uint32_t> blocks;                        // only these, x innermost; empty: all
  // How often warps executed each instruction of program().code; null: not counted.
  std::vector<uint64_t>* executed = nullptr;
};

struct Counters {
  uint64_t warp_instructions = 0, thread_instructions = 0;
  uint64_t mma = 0, ldmatrix = 0, async_copies = 0, barriers = 0;
};

struct Program;

// The kernel `name`, decoded; .global and .const variables of the module live in `memory`.
class Executable {
 public:
  static Result<Executable> load(const Module&, std::string_view name, Memory&);
  Executable(Executable&&) noexcept;
  Executable& operator=(Executable&&) noexcept;
  ~Executable();

  Result<Counters> run(const Launch&, Memory&, const RunOptions&) const;
  const Program& program() const { return *program_; }

 private:
  explicit Executable(std::unique_ptr<Program>);
  std::unique_ptr<Program> program_;
};

}  // namespace mpq::ptx
