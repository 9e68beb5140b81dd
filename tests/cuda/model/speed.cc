#include "tests/cuda/model/speed.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

namespace mpq::test {
namespace {

constexpr double kIntegerLanes = 64, kConversionLanes = 16, kSchedulers = 4;  // of every one
constexpr uint32_t kRegisters = 65536, kRegistersTogether = 256;  // handed to a warp at a time
constexpr uint32_t kSharedOfBlock = 1024;                         // taken by the system

struct Unit {
  const char* name;
  double clocks;  // of a block
};

}  // namespace

Result<Budgets> read_budgets(const std::string& path) {
  std::ifstream file(path);
  if (!file) return Error{Status::kNotFound, path + ": cannot be read"};
  Budgets budgets;
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::string kernel;
    uint32_t arch = 0;
    Budget b;
    uint32_t skipped = 0;
    if (words >> kernel >> arch >> b.registers >> skipped >> skipped >> skipped >> skipped >>
        skipped >> b.instructions)
      budgets[{kernel, arch}] = b;
  }
  if (budgets.empty()) return Error{Status::kCorrupt, path + ": no kernel"};
  return budgets;
}

uint32_t resident_blocks(const GpuModel& gpu, const Step& step, const Budget& budget) {
  const uint32_t warps = step.threads / 32;
  const uint32_t of_warp =
      (budget.registers * 32 + kRegistersTogether - 1) / kRegistersTogether * kRegistersTogether;
  const uint32_t shared =
      gpu.arch < 80 ? step.shared_bytes_sm75 : step.shared_bytes + kSharedOfBlock;
  uint32_t blocks = std::min(gpu.blocks, gpu.threads / step.threads);
  blocks = std::min(blocks, kRegisters / (of_warp * warps));
  if (shared != 0) blocks = std::min(blocks, gpu.shared_kb * 1024 / shared);
  return blocks;
}

double Caches::touch(const Touch& t) {
  const auto bytes = static_cast<double>(t.bytes);
  const auto found = std::find_if(kept_.begin(), kept_.end(),
                                  [&](const Touch& k) { return k.tensor == t.tensor; });
  const bool hit = found != kept_.end();
  if (hit) {
    used_ -= static_cast<double>(found->bytes);
    kept_.erase(found);
  }
  kept_.push_front(t);
  used_ += bytes;
  while (used_ > room_ && !kept_.empty()) {
    used_ -= static_cast<double>(kept_.back().bytes);
    kept_.pop_back();
  }
  return hit ? 0 : bytes;
}

StepTime time_of(const GpuModel& gpu, const Assumptions& a, const Step& step, const BlockCost& cost,
                 const Budget& budget, double dram_bytes) {
  const Instructions& in = cost.instructions;
  const double products =
      (cost.products_8bit * 16 * 8 * 32 + cost.products_4bit * 16 * 8 * 64 / 2) / gpu.macs_8bit;
  const Unit units[] = {
      {"products", products},
      {"integers", in.integer * 32 / kIntegerLanes},
      {"floats", in.floating * 32 / gpu.float_lanes},
      {"conversions", in.conversions * 32 / kConversionLanes},
      {"issue", in.issued / kSchedulers},
      {"shared memory", cost.shared_passes * 128 / gpu.shared_bytes_a_clock},
  };
  const Unit& busiest =
      *std::max_element(std::begin(units), std::end(units),
                        [](const Unit& x, const Unit& y) { return x.clocks < y.clocks; });
  const double warps = step.threads / 32.0;
  const double rounds = std::max(1.0, cost.loads / warps / a.loads_in_flight);
  const double alone = a.memory_latency * (1 + rounds) + a.barrier_latency * cost.barriers +
                       a.issue_interval * in.issued / warps + products / a.unit_efficiency;

  StepTime t;
  t.resident = resident_blocks(gpu, step, budget);
  t.dram_bytes = dram_bytes;
  const double all = static_cast<double>(step.blocks());
  const double blocks = std::ceil(all / gpu.processors);
  const double busy = blocks * busiest.clocks / a.unit_efficiency;
  const double latency = std::ceil(blocks / std::max(1U, t.resident)) * alone;
  const double clock = gpu.clock_ghz * 1e9;
  t.processors = std::max(busy, latency) / clock;
  t.l2 = all * cost.global_bytes / (gpu.l2_bytes_a_clock * a.l2_efficiency) / clock;
  t.dram = dram_bytes / (gpu.dram_gb_s * 1e9 * a.dram_efficiency);
  t.bound = busy >= latency ? busiest.name : "latency";
  if (t.l2 > t.processors) t.bound = "L2";
  if (t.dram > std::max(t.l2, t.processors)) t.bound = "memory";
  const double work = std::max({t.processors, t.l2, t.dram});
  if (a.between_launches > work) t.bound = "launch";
  t.seconds = work + a.between_launches;
  t.products = all * products / gpu.processors / clock / t.seconds;
  return t;
}

}  // namespace mpq::test
