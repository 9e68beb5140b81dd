// Rows of a sequence model: a tensor has one row a token or one row a sequence of a run.
#pragma once

#include <cstdint>
#include <vector>

#include "format/model.h"

namespace mpq::runtime {

enum class Rows : uint8_t { kTokens, kSequences };

// By tensor. Of models without sequences: all kSequences, which is the batch.
std::vector<Rows> rows_of(const format::Model&);

// What a run works on. At most the plan's tokens and batch.
struct Live {
  uint32_t tokens = 1, sequences = 1;
  uint32_t rows(Rows rows) const { return rows == Rows::kTokens ? tokens : sequences; }
};

// The embedding of a sequence model, null in others; its inputs are set by whole sequences.
const format::Node* embedding_of(const format::Model&);

}  // namespace mpq::runtime
