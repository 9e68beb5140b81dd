// The two ends of a sequence model: ids to rows, and rows of tokens to rows of sequences. Bound by
// memory, so portable code is all there is. Tokens of all sequences lie one behind the other;
// sequence i is tokens [starts[i], starts[i + 1]). Single-threaded, re-entrant; rows are dense.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace mpq::kernels {

struct EmbeddingArgs {
  const int32_t* ids = nullptr;      // [tokens], checked by the caller
  const int32_t* types = nullptr;    // [tokens]; null: no types
  const uint32_t* starts = nullptr;  // [sequences + 1]
  uint32_t sequences = 0, width = 0;
  const float* words = nullptr;        // [V][width], or
  const int8_t* word_codes = nullptr;  // the same in codes, with
  const float* word_scale = nullptr;   // [V]
  const float* positions = nullptr;    // [P][width]
  const float* type_rows = nullptr;    // [K][width]
  uint32_t position_offset = 0;
  float* y = nullptr;  // [tokens][width]
};

//   v = words[id], or float(code) * word_scale[id]
//   v = v + positions[position_offset + token - start of its sequence]
//   y = v + type_rows[type]
// A unit is a sequence.
void embed(const EmbeddingArgs&, const WorkRange&);

struct SequencePoolArgs {
  const float* x = nullptr;          // [tokens][width]
  const uint32_t* starts = nullptr;  // [sequences + 1]; no sequence is empty
  uint32_t sequences = 0, width = 0;
  bool mean = false;       // else the first token
  bool normalise = false;  // to length 1
  float* y = nullptr;      // [sequences][width]
};

//   mean: (x_0 + x_1 + ...) / float(n), in order, from +0
//   normalised: y / max(sqrt(sum16 of y with lanes fma(y, y, lane)), 1e-12); sum16: math/lanes.h
// A unit is a sequence.
void pool_sequences(const SequencePoolArgs&, const WorkRange&);

}  // namespace mpq::kernels
