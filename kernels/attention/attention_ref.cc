// The definition, query by query.

#include "kernels/attention/rows.h"
#include "kernels/math/functions.h"
#include "kernels/math/lanes_scalar.h"
#include "kernels/requant/requant.h"

namespace mpq::kernels {
namespace {

int32_t value(const Planes& p, uint32_t token, uint32_t column) {
  return *attention_code(p, token, column) - 128;
}

void run_query(const AttentionArgs& a, uint32_t sequence, uint32_t head, uint32_t i, float* s) {
  const uint32_t start = a.starts[sequence], n = a.starts[sequence + 1] - start, d = a.head_size;
  const uint32_t q = head * d, k = (a.heads + head) * d, v = (2 * a.heads + head) * d;
  float largest = kBelowAll;
  for (uint32_t j = 0; j < n; ++j) {
    int32_t dot = 0;
    for (uint32_t c = 0; c < d; ++c)
      dot += value(a.qkv, start + i, q + c) * value(a.qkv, start + j, k + c);
    const float bias = a.relative_bias == nullptr ? 0.0F : *attention_bias(a, head, i, j);
    s[j] = ScalarLanes::fma(static_cast<float>(dot), a.score_scale[head], bias);
    largest = ScalarLanes::max(s[j], largest);
  }
  int32_t total = 0;
  for (uint32_t j = 0; j < n; ++j) {
    s[j] = ScalarLanes::round(parts_of_255<ScalarLanes>(s[j] - largest));
    total += static_cast<int32_t>(s[j]);
  }
  const float scale = a.value_scale[head] / static_cast<float>(total);
  for (uint32_t c = 0; c < d; ++c) {
    int32_t acc = 0;
    for (uint32_t j = 0; j < n; ++j)
      acc += static_cast<int32_t>(s[j]) * value(a.qkv, start + j, v + c);
    const float code = ScalarLanes::fma(static_cast<float>(acc), scale, a.out_bias);
    *attention_code(a.y, start + i, q + c) = static_cast<uint8_t>(round_clamp(code, a.lo, a.hi));
  }
}

size_t scratch_bytes(uint32_t, uint32_t max_length) { return max_length * sizeof(float); }

void run(const AttentionArgs& a, const WorkRange& range, const KernelContext& context) {
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const uint32_t sequence = unit / a.heads, head = unit % a.heads;
    const uint32_t n = a.starts[sequence + 1] - a.starts[sequence];
    for (uint32_t i = 0; i < n; ++i)
      run_query(a, sequence, head, i, static_cast<float*>(context.scratch));
  }
}

}  // namespace

const AttentionKernel attention_u8_ref = {"attention_u8_ref", kIsaScalar, scratch_bytes, run};

}  // namespace mpq::kernels
