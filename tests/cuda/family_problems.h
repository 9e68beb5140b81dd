// Launches of the other families as problems for the emulator; the references of kernels/ say what
// must come out.
#pragma once

#include "tests/cuda/problem.h"
#include "tests/support/rng.h"

namespace mpq::test {

struct AttentionCase {
  std::vector<uint32_t> lengths;
  uint32_t heads = 1, head_size = 64, out_bits = 8;
  bool relative_bias = false, extreme = false;
};
void make_attention_problem(const AttentionCase&, Rng&, CudaProblem*);

struct NormCase {
  uint32_t tokens = 1, width = 1, bits = 8;  // of the second output; 0: none
  bool residual = true, channel_scales = false;
};
void make_norm_problem(const NormCase&, Rng&, CudaProblem*);

struct SequencePoolCase {
  std::vector<uint32_t> lengths;
  uint32_t width = 1;
  bool mean = false, normalise = false, negative_zeros = false;
};
void make_sequence_pool_problem(const SequencePoolCase&, Rng&, CudaProblem*);

std::vector<float> random_floats(size_t count, float lo, float hi, Rng&);

}  // namespace mpq::test
