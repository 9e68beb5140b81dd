// The definition's chain of additions is as long as a row is wide, and each waits for the one
// before: so two rows go side by side.
#include "kernels/math/lanes_avx512.h"
#include "kernels/norm/rows.h"

namespace mpq::kernels {
namespace {

using L = Avx512Lanes;

// fold_lanes of math/lanes.h.
inline float fold(__m512 x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

template <uint32_t kRows>
void normalise_rows(const LayerNormArgs& a, uint32_t token) {
  const size_t first = size_t{token} * a.width;
  const float *x = a.x + first, *residual = a.residual == nullptr ? nullptr : a.residual + first;
  float* y = a.y + first;
  const auto size = static_cast<float>(a.width);

  // x + residual is added up anew in each of the three passes: its rows are in L1 by then, while a
  // row of y would have to come there first.
  const auto value = [&](uint32_t r, uint32_t i, __mmask16 real) {
    const size_t at = size_t{r} * a.width + i;
    const __m512 v = _mm512_maskz_loadu_ps(real, x + at);
    return residual == nullptr ? v : L::add(v, _mm512_maskz_loadu_ps(real, residual + at));
  };
  __m512 sum[kRows], mean[kRows], squares[kRows], scale[kRows];
  for (uint32_t r = 0; r < kRows; ++r) sum[r] = squares[r] = _mm512_setzero_ps();
  for (uint32_t i = 0; i < a.width; i += L::kWidth) {
    const __mmask16 real = L::first(a.width - i);
#pragma GCC unroll 2
    for (uint32_t r = 0; r < kRows; ++r) sum[r] = L::add(sum[r], value(r, i, real));
  }
  for (uint32_t r = 0; r < kRows; ++r) mean[r] = L::set(fold(sum[r]) / size);

  for (uint32_t i = 0; i < a.width; i += L::kWidth) {
    const __mmask16 real = L::first(a.width - i);
#pragma GCC unroll 2
    for (uint32_t r = 0; r < kRows; ++r) {
      const __m512 d = _mm512_maskz_sub_ps(real, value(r, i, real), mean[r]);
      squares[r] = L::fma(d, d, squares[r]);
    }
  }
  for (uint32_t r = 0; r < kRows; ++r)
    scale[r] = L::set(1.0F / __builtin_sqrtf(fold(squares[r]) / size + a.epsilon));

  const __m512 lo = L::set(static_cast<float>(a.second_lo)),
               hi = L::set(static_cast<float>(a.second_hi)), second_scale = L::set(a.second_scale),
               second_bias = L::set(a.second_bias);
  for (uint32_t i = 0; i < a.width; i += L::kWidth) {
    const __mmask16 real = L::first(a.width - i);
    const __m512 gamma = _mm512_maskz_loadu_ps(real, a.gamma + i),
                 beta = _mm512_maskz_loadu_ps(real, a.beta + i);
    const bool own = a.second_gamma != nullptr;
    const __m512 second_gamma =
                     own ? _mm512_maskz_loadu_ps(real, a.second_gamma + i) : second_scale,
                 second_beta = own ? _mm512_maskz_loadu_ps(real, a.second_beta + i) : second_bias;
    uint8_t* codes = a.second.data == nullptr
                         ? nullptr
                         : a.second.data +
                               static_cast<ptrdiff_t>(i / a.second.cb) * a.second.plane +
                               static_cast<ptrdiff_t>(token) * a.second.image + i % a.second.cb;
#pragma GCC unroll 2
    for (uint32_t r = 0; r < kRows; ++r) {
      float* const to = y + size_t{r} * a.width + i;
      const __m512 d = L::mul(L::sub(value(r, i, real), mean[r]), scale[r]);
      const __m512 out = L::fma(d, gamma, beta);
      _mm512_mask_storeu_ps(to, real, out);
      if (codes == nullptr) continue;
      const __m512 v = L::fma(own ? d : out, second_gamma, second_beta);
      _mm512_mask_cvtepi32_storeu_epi8(codes, real, _mm512_cvtps_epi32(L::min(L::max(v, lo), hi)));
      codes += a.second.image;
    }
  }
}

void run(const LayerNormArgs& a, const WorkRange& range) {
  uint32_t token = range.begin;
  for (; token + 2 <= range.end; token += 2) normalise_rows<2>(a, token);
  for (; token < range.end; ++token) normalise_rows<1>(a, token);
}

}  // namespace

const LayerNormKernel layer_norm_f32_avx512vnni = {"layer_norm_f32_avx512vnni", kIsaAvx512Vnni,
                                                   run};

}  // namespace mpq::kernels
