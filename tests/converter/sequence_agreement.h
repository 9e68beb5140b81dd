// A lowered sequence model beside the graph that it came from.
#pragma once

#include <string>
#include <vector>

#include "converter/eval_sequences.h"
#include "converter/graph.h"
#include "format/model.h"

namespace mpq::convert {

// Every tensor of the model, as tests/support/naive_model runs it, against the graph's node of that
// name, evaluated in float on what the model has for its inputs: errors do not add up, so a small
// bound holds at any precision.
struct SequenceAgreement {
  size_t codes = 0, different = 0;
  // Codes further from their real position than rounding explains: half a code and 1e-3 for float
  // arithmetic. Behind an attention of n tokens also n / 2 steps of its values: it has weights in
  // steps of 1 / 255 of the largest one, so each is wrong by up to half of that, and all together
  // are at least that large.
  size_t unexplained = 0;
  double real_error = 0.0;          // of f32 rows, over their largest number
  std::vector<std::string> missed;  // tensors that are no value of the graph
  std::vector<float> output;        // the model's output 0
};

SequenceAgreement compare_lowered(const Graph& graph, const format::Model& model,
                                  const SequenceData& data);

}  // namespace mpq::convert
