// Rows of a sequence model: a tensor has one row a token or one row a sequence of a run.
#pragma once

#include <cstdint>

namespace mpq::runtime {

// Of models without sequences: all kSequences, which is the batch.
enum class Rows : uint8_t { kTokens, kSequences };

// What a run works on. At most the plan's tokens and batch.
struct Live {
  uint32_t tokens = 1, sequences = 1;
  uint32_t rows(Rows rows) const { return rows == Rows::kTokens ? tokens : sequences; }
};

}  // namespace mpq::runtime
