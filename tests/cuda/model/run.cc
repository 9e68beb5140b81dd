#include "tests/cuda/model/run.h"

#include <algorithm>

namespace mpq::test {
namespace {

// Blocks are alike: a few images or sequences have all kinds, and two tiles of rows.
Load sample_of(const Step& step, const Load& load) {
  constexpr uint32_t kRows = 2 * 128;
  const uint64_t rows_of_one = std::max<uint64_t>(1, step.rows / load.batch);
  const auto enough = static_cast<uint32_t>((kRows + rows_of_one - 1) / rows_of_one);
  return {std::min(load.batch, enough), load.tokens};
}

cuda::ConvChoice choice_of(const Step& step) {
  for (const cuda::ConvKernel& k : cuda::kConvKernels)
    if (std::string_view(step.kernel) == k.name) return {&k, step.splits};
  return {};
}

}  // namespace

Result<BlockCost> SpeedModel::cost_of(const format::Model& model, const format::Node& node,
                                      size_t index, const Load& load, const GpuModel& gpu,
                                      const Step& step, const Budget& budget) {
  const Load sample = sample_of(step, load);
  const cuda::ConvChoice choice = choice_of(step);
  const cuda::ConvChoice* chosen = choice.kernel != nullptr ? &choice : nullptr;
  const cuda::Gpu target = {gpu.arch, gpu.processors};
  const Step same = steps_of(model, node, sample, target, chosen, false)[index];
  std::string key = std::to_string(gpu.code()) + step.kernel;
  key.append(same.params.begin(), same.params.end());
  if (const auto found = counted_.find(key); found != counted_.end()) return found->second;
  const Step real = std::move(steps_of(model, node, sample, target, chosen, true)[index]);
  MPQ_TRY(const BlockCost cost, counter_.count(real, gpu.code(), budget.instructions));
  return counted_[key] = cost;
}

Result<ModelledRun> SpeedModel::run(const format::Model& model, const GpuModel& gpu,
                                    const Load& load) {
  ModelledRun run;
  Caches caches(gpu.l2_mb * 1e6 * assumptions_.l2_share);
  for (const bool steady : {false, true})
    for (const format::Node& node : model.nodes) {
      std::vector<Step> steps =
          steps_of(model, node, load, {gpu.arch, gpu.processors}, nullptr, false);
      for (size_t i = 0; i < steps.size(); ++i) {
        double missing = 0;
        for (const Touch& t : steps[i].touches) missing += caches.touch(t);
        if (!steady) continue;
        const auto budget = budgets_.find({steps[i].kernel, gpu.code()});
        if (budget == budgets_.end())
          return Error{Status::kNotFound, std::string(steps[i].kernel) + ": not in the budget"};
        MPQ_TRY(const BlockCost cost, cost_of(model, node, i, load, gpu, steps[i], budget->second));
        const StepTime time = time_of(gpu, assumptions_, steps[i], cost, budget->second, missing);
        run.seconds += time.seconds;
        run.dram_bytes += missing;
        run.steps.push_back({std::move(steps[i]), cost, time});
      }
    }
  return run;
}

}  // namespace mpq::test
