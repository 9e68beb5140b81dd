// A fully quantised graph -> format::Model: integer weights, multipliers, biases, fused epilogues.
#pragma once

#include <deque>
#include <vector>

#include "converter/graph.h"
#include "format/model.h"

namespace mpq::convert {

// A model and the bytes that its tensors borrow.
struct LoweredModel {
  format::Model model;
  std::deque<std::vector<std::byte>> storage;
};

struct LowerOptions {
  bool image_input = true;  // u8 NHWC pixels through a table (needs `image`), else f32 NCHW
  format::ImagePreprocess image;
  bool accumulator_output = false;  // last layer writes its s32 accumulators
};

// Requires: BatchNorm folded; every Conv and Linear has weight_quant and reads a FakeQuant. The
// error names the first node that cannot be expressed, the reason and the remedy.
Result<LoweredModel> lower(const Graph& graph, const LowerOptions& options);

// A map of the graph's layers -> of the model's nodes: query, key and value became one.
Checked name_parts(format::PrecisionMap* map, const format::Model& model);

}  // namespace mpq::convert
