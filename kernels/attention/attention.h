// Multi-head self-attention on codes (Vaswani et al., 2017), within each sequence. For query i of a
// sequence of n tokens and head h, all sums of integers exact, the rest binary32:
//
//   dot_j = sum over d of (q[i][d] - 128) * (k[j][d] - 128)
//   s_j   = fma(float(dot_j), score_scale[h], bias_j)      relative_bias[h][j - i + S - 1], or 0
//   p_j   = round_half_even(parts_of_255(s_j - max s))     0..255; 255 e^x of math/functions.h
//   acc_d = sum over j of p_j * (v[j][d] - 128)
//   total = sum over j of p_j
//   scale = value_scale[h] / float(total)
//   code  = clamp(round_half_even(fma(float(acc_d), scale, out_bias)), lo, hi)
//
// The probabilities are not normalised before they are rounded: the largest is always 255.
// qkv: columns of all heads of Q, then of K, then of V; tokens of all sequences one behind the
// other, sequence b is tokens [starts[b], starts[b + 1]). Single-threaded, re-entrant. May write
// the channels above heads * head_size of the last block of y and nothing else outside it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu.h"
#include "kernels/tensor.h"

namespace mpq::kernels {

struct AttentionArgs {
  const uint32_t* starts = nullptr;  // [sequences + 1]; no sequence is empty or longer than S
  uint32_t sequences = 0, heads = 0, head_size = 0, max_length = 0;  // S = max_length
  Planes qkv;                                                        // a token a pixel
  const float* score_scale = nullptr;                                // [heads]
  const float* value_scale = nullptr;                                // [heads]
  const float* relative_bias = nullptr;                              // [heads][2 S - 1]; null: none
  float out_bias = 0.0F;
  int32_t lo = 0, hi = 255;
  Planes y;  // a token a pixel
};

// A unit is one head of one sequence: unit = sequence * heads + head.
constexpr uint32_t attention_units(const AttentionArgs& a) { return a.sequences * a.heads; }

// Multiply-adds of both products, Q K and P V, over whole sequences.
constexpr uint64_t attention_macs(const AttentionArgs& a) {
  uint64_t pairs = 0;
  for (uint32_t i = 0; i < a.sequences; ++i) {
    const uint64_t length = a.starts[i + 1] - a.starts[i];
    pairs += length * length;
  }
  return 2 * pairs * a.heads * a.head_size;
}

struct AttentionKernel {
  const char* name;  // "attention_u8_avx2"
  IsaMask isa;
  size_t (*scratch_bytes)(uint32_t head_size, uint32_t max_length);  // per thread
  void (*run)(const AttentionArgs&, const WorkRange&, const KernelContext&);
};

std::span<const AttentionKernel> attention_kernels();  // best first, reference last
const AttentionKernel& select_attention(IsaMask isa);  // pure, never fails

}  // namespace mpq::kernels
