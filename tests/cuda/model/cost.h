// What a block of a launch costs, counted while it is executed: memory and products by the
// emulator, instructions by the PTX machine on what nvcc made of the same kernel.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "format/status.h"
#include "tests/cuda/model/network.h"
#include "tests/cuda/ptx/kernel_texts.h"
#include "tests/cuda/ptx/machine.h"

namespace mpq::test {

// By the units of a multiprocessor, in instructions of a warp.
struct Instructions {
  double issued = 0, integer = 0, floating = 0, conversions = 0;
};

// Of one block, on average over those of a tile (parts of k); everything a warp's.
struct BlockCost {
  double products_4bit = 0, products_8bit = 0;
  double shared_passes = 0;  // of 128 bytes
  double global_bytes = 0;   // by the L2 cache, in sectors of 32 bytes
  double loads = 0;          // of global memory, but for asynchronous copies and constant tables
  double barriers = 0;
  Instructions instructions;
};

// What an instruction of PTX becomes, by its opcode. Null if that is not known.
const Instructions* units_of(std::string_view opcode);

// Counts blocks of launches, each kind once.
class Counter {
 public:
  // ptx: folder of kernels/cuda's *.ptx.
  explicit Counter(std::string ptx) : folder_(std::move(ptx)) {}
  // The middle blocks of a step that has arrays, on the machines of `code` (75, 80 or 90).
  // machine_code: instructions that ptxas makes of the kernel; it writes fewer than it reads, and
  // the counts of PTX are scaled to that.
  Result<BlockCost> count(const Step& step, uint32_t code, uint32_t machine_code);

 private:
  struct Kernel {
    ptx::Memory memory;
    ptx::Executable executable;
  };
  Result<Kernel*> kernel(const std::string& name, uint32_t code);

  std::string folder_;
  std::map<uint32_t, KernelTexts> texts_;
  std::map<std::pair<uint32_t, std::string>, std::unique_ptr<Kernel>> kernels_;
};

}  // namespace mpq::test
