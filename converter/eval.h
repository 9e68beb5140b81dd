// Float interpreter of the IR on oneDNN: calibration, and proof that a pass changes nothing.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "converter/graph.h"

namespace mpq::convert {

// Called after each node with its output (NCHW, batch first) for the current batch. Returning false
// stops the evaluation, which then returns no output.
using Observer = std::function<bool(const Node& node, std::span<const float> output)>;

// Prepared once per graph (oneDNN primitives, reordered weights), run many times. Not thread-safe;
// uses all cores inside. FakeQuant nodes and weight_quant are honoured: codes * scale.
class Evaluator {
 public:
  static Result<Evaluator> create(const Graph& graph, uint32_t batch);
  Evaluator(Evaluator&&) noexcept;
  Evaluator& operator=(Evaluator&&) noexcept;
  ~Evaluator();

  // input: batch x graph input, float NCHW. Returns output 0.
  Result<std::vector<float>> run(std::span<const float> input, const Observer& observer = {});

 private:
  Evaluator();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mpq::convert
