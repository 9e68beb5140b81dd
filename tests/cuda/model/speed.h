// The time of a launch, and of a network, on a GPU that nobody here has: always to be called
// modelled.
//
// A launch takes the longest of
//   its multiprocessors  ceil(blocks / processors) blocks, at the rate of the busiest unit
//   (products,
//                        integers, floats, conversions, instructions issued, shared memory); or,
//                        where that is longer, one round after another of as many blocks as
//                        registers, shared memory and threads allow, each as long as a block alone
//                        needs: the latencies of its loads and barriers, then all units one after
//                        another
//   the L2 cache         all bytes of all blocks
//   memory               bytes of tensors that the caches do not hold (Caches)
// and the time between two launches of a captured graph. The method is the roofline (Williams,
// Waterman and Patterson, 2009) with a ceiling for each unit.
#pragma once

#include <list>
#include <map>
#include <string>
#include <vector>

#include "tests/cuda/model/cost.h"
#include "tests/cuda/model/gpus.h"

namespace mpq::test {

// What is assumed of all GPUs alike; nothing of it is fitted.
struct Assumptions {
  double unit_efficiency = 0.80;  // of the peak of products and other units, in a steady state
  double l2_efficiency = 0.70, dram_efficiency = 0.85;
  double memory_latency = 600, barrier_latency = 130;  // clocks
  double issue_interval = 2.0;       // clocks between two instructions of a warp that is alone
  double loads_in_flight = 8;        // of a warp, to global memory
  double between_launches = 1.2e-6;  // seconds, within a captured graph
  double l2_share = 0.7;  // of the L2 cache that keeps what one launch leaves for the next
};

// Resources of a kernel's machine code, a line of machine_code/budget.txt.
struct Budget {
  uint32_t registers = 0, instructions = 0;
};
using Budgets = std::map<std::pair<std::string, uint32_t>, Budget>;  // by kernel and 75, 80 or 90
Result<Budgets> read_budgets(const std::string& path);

// Blocks that a multiprocessor holds.
uint32_t resident_blocks(const GpuModel&, const Step&, const Budget&);

// Which bytes come from memory: tensors are kept whole, the least recently used goes first.
class Caches {
 public:
  explicit Caches(double bytes) : room_(bytes) {}
  // Bytes of the tensor that are not there.
  double touch(const Touch&);

 private:
  double room_, used_ = 0;
  std::list<Touch> kept_;  // the latest first
};

struct StepTime {
  double seconds = 0;                       // with the launch
  double processors = 0, l2 = 0, dram = 0;  // seconds
  const char* bound = "";                   // what sets the time
  double dram_bytes = 0;
  uint32_t resident = 0;
  double products = 0;  // part of the GPU's peak of products that the launch has
};
StepTime time_of(const GpuModel&, const Assumptions&, const Step&, const BlockCost&, const Budget&,
                 double dram_bytes);

}  // namespace mpq::test
