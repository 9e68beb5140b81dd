// The parts of validate(), in order of execution. Each relies on those before it.
#pragma once

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "format/checks.h"
#include "format/constants.h"
#include "format/signature.h"
#include "format/validate.h"

namespace mpq::format {

// The codes that a tensor can hold: narrower than its type after ReLU or clip.
struct CodeRange {
  int32_t lo = 0, hi = 0;
};

struct Validation {
  const Model& model;
  std::vector<ConstantFacts> constants;  // by tensor
  std::vector<CodeRange> ranges;         // by tensor; of those made so far
  uint64_t exact_work = 0;               // weights looked at by exact accumulator proofs

  const Tensor& in(const Node& node, size_t i) const { return model.tensors[node.inputs[i]]; }
  const Tensor& out(const Node& node, size_t i) const { return model.tensors[node.outputs[i]]; }
};

// Positions in ascending order of the key; equal keys are then neighbours. Sorting, because no
// input makes it slow, whereas a hash table has crafted collisions.
template <typename Items, typename Key>
std::vector<uint32_t> sorted_positions(const Items& items, Key key) {
  std::vector<uint32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::sort(order, {}, [&](uint32_t i) { return key(items[i]); });
  return order;
}

Checked check_texts(const Model& model);
Checked check_tensors(Validation& v);
Checked check_graph(Validation& v);
Checked check_attributes(Validation& v, const Node& node);  // numbers, ranges, sums
Checked check_sequences(const Model& model);                // rows of tokens and of sequences
Checked check_vocabulary(const Model& model);
Checked check_extras(const Model& model);  // map, image, labels, prepacked

}  // namespace mpq::format
