#include <cmath>
#include <random>

#include "converter/eval.h"
#include "converter/passes/pass.h"

namespace mpq::convert {
namespace {

constexpr Pass kFloatPasses[] = {
    {"infer_shapes", infer_shapes},
    {"fold_bn", fold_bn},
    {"fold_constants", fold_constants},
};

std::vector<float> random_input(const Graph& graph) {
  uint64_t elements = 0;
  if (graph.inputs.size() != 1 || !checked_elements(graph.values[graph.inputs[0]].shape, &elements))
    return {};
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> input(elements);
  for (float& v : input) v = normal(generator);
  return input;
}

Result<std::vector<float>> output_of(const Graph& graph, const std::vector<float>& input) {
  MPQ_TRY(Evaluator evaluator, Evaluator::create(graph, 1));
  return evaluator.run(input);
}

Checked compare(const Pass& pass, const std::vector<float>& before, const std::vector<float>& after,
                float tolerance) {
  float largest = 0.0F, worst = 0.0F;
  for (const float v : before) largest = std::max(largest, std::abs(v));
  bool finite = before.size() == after.size();
  for (size_t i = 0; finite && i < before.size(); ++i) {
    finite = std::isfinite(after[i]) && std::isfinite(before[i]);
    worst = std::max(worst, std::abs(after[i] - before[i]));
  }
  if (finite && worst <= tolerance * largest) return Ok{};
  return Error{Status::kInternal,
               std::string("pass ") + pass.name + " changed the network: the outputs differ by " +
                   std::to_string(worst) + ", the largest output is " + std::to_string(largest)};
}

}  // namespace

std::span<const Pass> float_passes() { return kFloatPasses; }

Checked run_passes(Graph* graph, std::span<const Pass> passes, const PassOptions& options) {
  MPQ_CHECK(check(*graph));
  const std::vector<float> input = options.verify ? random_input(*graph) : std::vector<float>();
  std::vector<float> reference;
  if (options.verify) {
    MPQ_TRY(reference, output_of(*graph, input));
  }
  for (const Pass& pass : passes) {
    MPQ_CHECK(pass.run(graph));
    if (const Checked checked = check(*graph); !checked.ok())
      return Error{Status::kInternal, std::string("pass ") + pass.name +
                                          " left a broken graph: " + checked.error().message};
    if (options.after) options.after(pass, *graph);
    if (!options.verify) continue;
    MPQ_TRY(const std::vector<float> output, output_of(*graph, input));
    MPQ_CHECK(compare(pass, reference, output, options.tolerance));
  }
  return Ok{};
}

Checked run_passes(Graph* graph, const PassOptions& options) {
  return run_passes(graph, kFloatPasses, options);
}

}  // namespace mpq::convert
