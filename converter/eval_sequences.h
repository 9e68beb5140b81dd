// Float interpreter of sequence graphs: tokens of all sequences one behind the other, as the
// runtime has them. Calibration, and the reference of accuracy.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "converter/graph.h"

namespace mpq::convert {

// Sequences one behind the other.
struct SequenceData {
  std::vector<int32_t> ids, types;     // a token each; types empty: all 0
  std::vector<uint32_t> starts = {0};  // first token of each sequence, then the number of tokens
  size_t count() const { return starts.size() - 1; }
  size_t tokens() const { return starts.back(); }
  void add(std::span<const int32_t> sequence_ids, std::span<const int32_t> sequence_types);
};

// Sequences of 1 to sequence_length tokens; ids and types within the graph's tables.
Checked check_sequences(const Graph& graph, const SequenceData& data);

// A node's output rows from the rows of its activations (of an Embedding: none). `weights` and
// `bias`, when not null, stand for those of a Linear. The data must have been checked.
struct RowsOptions {
  const std::vector<float>* weights = nullptr;
  const std::vector<float>* bias = nullptr;
};
Result<std::vector<float>> evaluate_rows(const Graph& graph, const Node& node,
                                         std::span<const std::span<const float>> inputs,
                                         const SequenceData& data, const RowsOptions& options = {});

// Output 0, a row a token or a sequence. The observer sees each node's output. Uses all cores.
Result<std::vector<float>> evaluate_sequences(
    const Graph& graph, const SequenceData& data,
    const std::function<void(const Node& node, std::span<const float> output)>& observer = {});

}  // namespace mpq::convert
