// 16 codes at a time; the tail of a row by mask.

#include <immintrin.h>

#include "kernels/eltwise/rows.h"

namespace mpq::kernels {
namespace {

__m512 centred(const uint8_t* codes, __mmask16 lanes, __m512i zero_point) {
  const __m512i wide = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, codes));
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(wide, zero_point));
}

void store_codes(uint8_t* y, __mmask16 lanes, __m512 v, __m512 lo, __m512 hi) {
  const __m512i code = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, lo), hi));
  _mm_mask_storeu_epi8(y, lanes, _mm512_cvtepi32_epi8(code));
}

__m512 splat(int32_t bound) { return _mm512_set1_ps(static_cast<float>(bound)); }

void run(const AddArgs& args, const WorkRange& range) {
  const AddShape& s = args.shape;
  const __m512i a_zero = _mm512_set1_epi32(args.a_zero_point);
  const __m512i b_zero = _mm512_set1_epi32(args.b_zero_point);
  const __m512 a_scale = _mm512_set1_ps(args.a_scale), b_scale = _mm512_set1_ps(args.b_scale);
  const __m512 bias = _mm512_set1_ps(args.bias), lo = splat(args.lo), hi = splat(args.hi);
  const __m512 second_scale = _mm512_set1_ps(args.second_scale);
  const __m512 second_bias = _mm512_set1_ps(args.second_bias);
  const __m512 second_lo = splat(args.second_lo), second_hi = splat(args.second_hi);
  const size_t row_bytes = size_t{s.w} * args.a.cb;
  for (uint32_t unit = range.begin; unit < range.end; ++unit) {
    const uint8_t* a = add_row(s, args.a, unit);
    const uint8_t* b = add_row(s, args.b, unit);
    uint8_t* y = add_row(s, args.y, unit);
    uint8_t* second = args.second.data != nullptr ? add_row(s, args.second, unit) : nullptr;
    for (size_t i = 0; i < row_bytes; i += 16) {
      const auto lanes =
          static_cast<__mmask16>(row_bytes - i >= 16 ? 0xffff : (1U << (row_bytes - i)) - 1);
      const __m512 inner = _mm512_fmadd_ps(centred(b + i, lanes, b_zero), b_scale, bias);
      const __m512 v = _mm512_fmadd_ps(centred(a + i, lanes, a_zero), a_scale, inner);
      store_codes(y + i, lanes, v, lo, hi);
      if (second != nullptr)
        store_codes(second + i, lanes, _mm512_fmadd_ps(v, second_scale, second_bias), second_lo,
                    second_hi);
    }
  }
}

}  // namespace

const AddKernel add_u8_avx512vnni = {"add_u8_avx512vnni", kIsaAvx512Vnni, run};

}  // namespace mpq::kernels
