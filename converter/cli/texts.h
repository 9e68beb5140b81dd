// Calibration texts as a network of sequences takes them.
#pragma once

#include <cstdint>
#include <string>

#include "converter/eval_sequences.h"
#include "text/tokenizer.h"

namespace mpq::convert::cli {

// `count` texts of a set (data/text_dataset.h), chosen by the seed; fewer when the set has fewer.
// pairs: the two texts of a sample are one sequence, else two.
Result<SequenceData> load_texts(const std::string& spec, uint32_t count, uint64_t seed,
                                const text::Tokenizer& tokenizer, bool pairs, const Graph& graph);

}  // namespace mpq::convert::cli
