// Steps of families whose work is a range of units.
#pragma once

#include "runtime/ops/op.h"

namespace mpq::runtime {

// Arguments and the kernel's own entry point.
template <typename Args>
struct RangeStep {
  Args args;
  void (*run)(const Args&, const kernels::WorkRange&) = nullptr;
};

template <typename Args>
void run_range(const void* args, const kernels::ConvPart& part, const kernels::KernelContext&) {
  const auto& step = *static_cast<const RangeStep<Args>*>(args);
  step.run(step.args, {part.unit_begin, part.unit_end});
}

template <typename Args>
Args& add_range_step(Planner& planner, uint32_t node, const char* kernel, kernels::IsaMask isa,
                     void (*run)(const Args&, const kernels::WorkRange&)) {
  auto& step = planner.add_step<RangeStep<Args>>(node, kernel, isa, run_range<Args>);
  step.run = run;
  return step.args;
}
// A row of a family.
template <typename Args, typename Kernel>
Args& add_range_step(Planner& planner, uint32_t node, const Kernel& kernel) {
  return add_range_step<Args>(planner, node, kernel.name, kernel.isa, kernel.run);
}

// Cuts the step in progress into parts, by the bytes it reads and writes.
inline void split_range(Planner& planner, uint32_t units) {
  Step& step = planner.step();
  step.parts =
      split_work({.units = units, .unit_bytes = step.activation_bytes}, planner.options().threads);
}

}  // namespace mpq::runtime
