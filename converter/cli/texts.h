// Calibration texts as a network of sequences takes them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "converter/eval_sequences.h"
#include "text/tokenizer.h"

namespace mpq::convert::cli {

// `count` texts of a set (data/text_dataset.h), chosen by the seed; fewer when the set has fewer.
// pairs: the two texts of a sample are one sequence, else two.
Result<SequenceData> load_texts(const std::string& spec, uint32_t count, uint64_t seed,
                                const text::Tokenizer& tokenizer, bool pairs, const Graph& graph);

// The first `limit` texts of a set, or all (0), with their classes; a pair is one sequence.
struct LabelledTexts {
  SequenceData texts;
  std::vector<int32_t> labels;
  std::vector<std::string> classes;  // names; empty where the set has numbers
};
Result<LabelledTexts> load_labelled_texts(const std::string& spec, uint32_t limit,
                                          const text::Tokenizer& tokenizer, const Graph& graph);

}  // namespace mpq::convert::cli
