// A network on a GPU, launch by launch.
#pragma once

#include "tests/cuda/model/speed.h"

namespace mpq::test {

struct ModelledStep {
  Step step;  // without params
  BlockCost cost;
  StepTime time;
};
struct ModelledRun {
  std::vector<ModelledStep> steps;
  double seconds = 0, dram_bytes = 0;
};

// Models runs of networks; counts each kind of block once.
class SpeedModel {
 public:
  SpeedModel(std::string ptx, Budgets budgets, const Assumptions& assumptions)
      : counter_(std::move(ptx)), budgets_(std::move(budgets)), assumptions_(assumptions) {}
  // In a steady state: the caches hold what the run before left.
  Result<ModelledRun> run(const format::Model&, const GpuModel&, const Load&);

 private:
  Result<BlockCost> cost_of(const format::Model&, const format::Node&, size_t index, const Load&,
                            const GpuModel&, const Step&, const Budget&);
  Counter counter_;
  Budgets budgets_;
  Assumptions assumptions_;
  std::map<std::string, BlockCost> counted_;
};

}  // namespace mpq::test
